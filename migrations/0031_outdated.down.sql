SET LOCAL lock_timeout = '2s';
ALTER TABLE worker_streams DROP COLUMN outdated_term;
