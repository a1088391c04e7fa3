SET LOCAL lock_timeout = '2s';
ALTER TABLE jobs DROP COLUMN trace;
ALTER TABLE events DROP COLUMN trace;
ALTER TABLE messages DROP COLUMN trace;
