DELETE FROM jobs WHERE kind IN ('mail:letter', 'account:close');

DROP INDEX webhooks_user;
DROP INDEX api_keys_session;
DROP INDEX api_keys_expiring;
ALTER TABLE api_keys
    DROP COLUMN warned_expiry,
    DROP COLUMN warned_days;

DROP TABLE letter_quotas;
DROP TABLE account_tokens;

DROP TRIGGER users_proof_changed ON users;
ALTER TABLE users
    DROP COLUMN must_verify_email,
    DROP COLUMN pending_email,
    DROP COLUMN password_changed_at,
    DROP COLUMN closed_at;
