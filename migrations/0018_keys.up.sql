-- What an account key may do, and the secret that it had before it was replaced.
ALTER TABLE api_keys
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{send,read,manage}',
    ADD COLUMN secret_version integer NOT NULL DEFAULT 1, -- one higher with each new secret
    ADD COLUMN rotated_at timestamptz,
    ADD COLUMN former_hash bytea,                         -- of the secret before, which is good until then
    ADD COLUMN former_until timestamptz,
    ADD CONSTRAINT api_keys_scopes_check CHECK (scopes <@ '{send,read,manage}'::text[] AND cardinality(scopes) > 0),
    ADD CONSTRAINT api_keys_former_check CHECK (length(former_hash) = 32 AND former_until IS NOT NULL OR former_hash IS NULL AND former_until IS NULL);

CREATE UNIQUE INDEX api_keys_former_key ON api_keys (former_hash) WHERE former_hash IS NOT NULL;
CREATE INDEX api_keys_account ON api_keys (user_id, id DESC) WHERE session_uid IS NULL AND is_active;

DROP TRIGGER api_keys_changed ON api_keys;
CREATE TRIGGER api_keys_changed AFTER DELETE OR UPDATE OF is_active, expires_at, scopes, key_hash, former_until ON api_keys
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();

-- A ticket is worth what the secret is worth that made it, and shows what its scopes let it see.
ALTER TABLE stream_tickets
    ADD COLUMN key_version integer,
    ADD COLUMN manage boolean NOT NULL DEFAULT false;

-- The keys that something in the database is sealed under: each seals its own name. A process that cannot open all of them
-- lacks a key.
CREATE TABLE encryption_keys (
    id         text PRIMARY KEY, -- made of the key
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The key that the secret of the worker's term is derived from; '': there was but one.
ALTER TABLE workers ADD COLUMN secret_key text NOT NULL DEFAULT '';
