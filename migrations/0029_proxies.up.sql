-- The proxy by which a session reaches the network: its URL, with user and password, sealed under ENCRYPTION_KEY. Null: none.
SET LOCAL lock_timeout = '2s';
ALTER TABLE sessions ADD COLUMN proxy bytea;
