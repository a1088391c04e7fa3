ALTER TABLE workers DROP COLUMN secret_key;

DROP TABLE encryption_keys;

ALTER TABLE stream_tickets
    DROP COLUMN key_version,
    DROP COLUMN manage;

DROP TRIGGER api_keys_changed ON api_keys;
CREATE TRIGGER api_keys_changed AFTER DELETE OR UPDATE OF is_active, expires_at ON api_keys
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();

DROP INDEX api_keys_account;
DROP INDEX api_keys_former_key;
ALTER TABLE api_keys
    DROP CONSTRAINT api_keys_former_check,
    DROP CONSTRAINT api_keys_scopes_check,
    DROP COLUMN scopes,
    DROP COLUMN secret_version,
    DROP COLUMN rotated_at,
    DROP COLUMN former_hash,
    DROP COLUMN former_until;
