-- Lanes of one kind that wait, as all messages do while the platform is paused, are not read by who looks for those of the other.
DROP INDEX lanes_due;
CREATE INDEX lanes_due ON lanes (kind, next_due_at) WHERE next_due_at IS NOT NULL;
