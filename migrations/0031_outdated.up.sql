-- The term in which the network refused the worker's version; that is over with the process. Null: never.
SET LOCAL lock_timeout = '2s';
ALTER TABLE worker_streams ADD COLUMN outdated_term bigint;
