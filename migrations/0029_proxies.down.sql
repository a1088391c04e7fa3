SET LOCAL lock_timeout = '2s';
ALTER TABLE sessions DROP COLUMN proxy;
