-- Accounts: proof of mail addresses, one-time tokens, letters, and the closing of an account.

ALTER TABLE users
    -- The account was opened while addresses had to be proved: it sends nothing until email_verified_at.
    ADD COLUMN must_verify_email boolean NOT NULL DEFAULT false,
    -- Takes the place of email when it is proved.
    ADD COLUMN pending_email text CHECK (length(pending_email) BETWEEN 3 AND 254 AND pending_email = lower(pending_email)),
    ADD COLUMN password_changed_at timestamptz,
    -- Since then the account is being closed: the row names nobody any more, and goes when all else is gone.
    ADD COLUMN closed_at timestamptz,
    ADD CONSTRAINT users_closed_check CHECK (closed_at IS NULL OR NOT is_active);

CREATE TRIGGER users_proof_changed AFTER UPDATE OF email_verified_at, must_verify_email, pending_email ON users
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();

-- What was mailed to a user, to be shown once: of it only the hash is here.
CREATE TABLE account_tokens (
    hash       bytea PRIMARY KEY CHECK (length(hash) = 32), -- SHA-256
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    text NOT NULL CHECK (purpose IN ('RESET', 'VERIFY')),
    email      text NOT NULL,                               -- where it went: who shows it has that mailbox
    expires_at timestamptz NOT NULL
);

CREATE INDEX account_tokens_user ON account_tokens (user_id);
CREATE INDEX account_tokens_expiry ON account_tokens (expires_at);

-- How many letters anybody has asked for, by what they are about and for whom.
CREATE TABLE letter_quotas (
    subject bytea PRIMARY KEY CHECK (length(subject) = 32), -- SHA-256
    count   integer NOT NULL,
    since   timestamptz NOT NULL                            -- the first of them
);

CREATE INDEX letter_quotas_since ON letter_quotas (since);

-- Which end of a key its owner was told of, and how many days before it.
ALTER TABLE api_keys
    ADD COLUMN warned_expiry timestamptz,
    ADD COLUMN warned_days smallint;

CREATE INDEX api_keys_expiring ON api_keys (expires_at) WHERE is_active AND expires_at IS NOT NULL;

-- What goes with an account, or with a session, is found without reading all.
CREATE INDEX webhooks_user ON webhooks (user_id);
CREATE INDEX api_keys_session ON api_keys (session_uid) WHERE session_uid IS NOT NULL;

-- All letters are jobs of one kind.
UPDATE jobs j SET kind = 'mail:letter', params = jsonb_build_object('letter', 'webhook_disabled', 'user', w.user_id, 'about', j.params)
FROM webhooks w WHERE j.kind = 'mail:webhook-disabled' AND w.id = (j.params->>'webhookId')::uuid;
DELETE FROM jobs WHERE kind = 'mail:webhook-disabled';
