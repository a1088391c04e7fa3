DROP INDEX lanes_due;
CREATE INDEX lanes_due ON lanes (next_due_at) WHERE next_due_at IS NOT NULL;
