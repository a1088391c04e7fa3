CREATE TABLE workers (
    id               text PRIMARY KEY CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    endpoint         text NOT NULL,
    status           text NOT NULL DEFAULT 'ONLINE' CHECK (status IN ('ONLINE', 'OFFLINE', 'MAINTENANCE')),
    max_sessions     integer NOT NULL DEFAULT 50 CHECK (max_sessions BETWEEN 0 AND 1000000),
    cpu_usage        double precision NOT NULL DEFAULT 0,
    memory_usage     double precision NOT NULL DEFAULT 0,
    message_count    bigint NOT NULL DEFAULT 0,
    uptime           bigint NOT NULL DEFAULT 0, -- seconds
    engine           text NOT NULL DEFAULT '',
    version          text NOT NULL DEFAULT '',
    description      text,
    term             bigint NOT NULL DEFAULT 0,          -- grows with each registration
    lease_expires_at timestamptz NOT NULL DEFAULT '-infinity',
    next_event_seq   bigint NOT NULL DEFAULT 1,          -- within the term
    last_heartbeat   timestamptz NOT NULL DEFAULT now(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

-- A worker that comes back under another ID takes its endpoint with it.
CREATE UNIQUE INDEX workers_endpoint_key ON workers (endpoint) WHERE status <> 'OFFLINE';

CREATE TABLE sessions (
    uid           uuid PRIMARY KEY,
    id            text NOT NULL CHECK (id ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    worker_id     text REFERENCES workers (id),
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    phone_number  text,
    desired       text NOT NULL DEFAULT 'RUNNING' CHECK (desired IN ('RUNNING', 'STOPPED', 'LOGGED_OUT', 'DELETED')),
    status        text NOT NULL DEFAULT 'INIT'
        CHECK (status IN ('INIT', 'QR_REQUIRED', 'CONNECTED', 'DISCONNECTED', 'RECONNECTING', 'ERROR')),
    reason        text,
    epoch         bigint NOT NULL DEFAULT 1,             -- one higher at each assignment
    held_term     bigint NOT NULL DEFAULT 0,             -- the worker's term that confirmed holding it at this epoch
    qr_code       text,
    qr_expires_at timestamptz,
    engine        text NOT NULL DEFAULT '',
    metadata      jsonb,
    linked_at     timestamptz,
    last_seen_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz,                           -- a tombstone: only its owner may reuse the name
    released_at   timestamptz,                           -- of a tombstone: when the worker had let go of it
    CHECK ((desired = 'DELETED') = (deleted_at IS NOT NULL))
);

CREATE UNIQUE INDEX sessions_id_key ON sessions (id) WHERE deleted_at IS NULL;
CREATE INDEX sessions_id_tombstones ON sessions (id) WHERE deleted_at IS NOT NULL;
CREATE INDEX sessions_user ON sessions (user_id, uid DESC) WHERE deleted_at IS NULL;
CREATE INDEX sessions_worker ON sessions (worker_id) WHERE worker_id IS NOT NULL;

CREATE TABLE api_keys (
    id             uuid PRIMARY KEY,
    key_hash       bytea NOT NULL CHECK (length(key_hash) = 32), -- SHA-256
    prefix         text NOT NULL,                                -- shown, to tell keys apart
    user_id        uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    session_uid    uuid REFERENCES sessions (uid) ON DELETE CASCADE, -- null: an account key
    name           text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    is_active      boolean NOT NULL DEFAULT true,
    last_used      timestamptz,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz,
    deactivated_at timestamptz,
    CONSTRAINT api_keys_hash_key UNIQUE (key_hash)
);

CREATE INDEX api_keys_user ON api_keys (user_id, id DESC);
CREATE UNIQUE INDEX api_keys_session_key ON api_keys (session_uid) WHERE session_uid IS NOT NULL AND is_active;

CREATE TABLE worker_metrics (
    id            uuid PRIMARY KEY DEFAULT kurir_uuid_v7(),
    worker_id     text NOT NULL REFERENCES workers (id) ON DELETE CASCADE,
    cpu_usage     double precision NOT NULL,
    memory_usage  double precision NOT NULL,
    session_count integer NOT NULL,
    message_count bigint NOT NULL,
    uptime        bigint NOT NULL DEFAULT 0, -- seconds
    timestamp     timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX worker_metrics_time ON worker_metrics (worker_id, timestamp);

-- What the API processes keep in memory of credentials is dropped when one of these rows changes: the channel
-- carries the user's ID. Triggers, so that no code path can forget it.
CREATE FUNCTION kurir_notify_user() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        PERFORM pg_notify('kurir_credentials', OLD.id::text);
    ELSE
        PERFORM pg_notify('kurir_credentials', OLD.user_id::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER users_changed AFTER DELETE OR UPDATE OF is_active, token_version, role, tier, email, name ON users
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();
CREATE TRIGGER api_keys_changed AFTER DELETE OR UPDATE OF is_active, expires_at ON api_keys
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();
CREATE TRIGGER sessions_changed AFTER DELETE OR UPDATE OF id, user_id, desired, deleted_at ON sessions
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();
