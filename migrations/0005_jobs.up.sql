CREATE TABLE jobs (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL,
    status      text NOT NULL DEFAULT 'QUEUED' CHECK (status IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    attempts    integer NOT NULL DEFAULT 0,
    user_id     uuid REFERENCES users (id) ON DELETE CASCADE,        -- null: the platform's own
    session_uid uuid REFERENCES sessions (uid) ON DELETE CASCADE,
    worker_id   text REFERENCES workers (id) ON DELETE SET NULL,
    runner_id   uuid,                                                -- who runs it, while RUNNING
    run_at      timestamptz NOT NULL DEFAULT now(),                  -- not before
    error       text,
    result      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    finished_at timestamptz
);

CREATE INDEX jobs_open ON jobs (run_at) WHERE status IN ('QUEUED', 'RUNNING');
CREATE INDEX jobs_user ON jobs (user_id, id DESC);
CREATE INDEX jobs_session ON jobs (session_uid);

CREATE TABLE idempotency_keys (
    owner        uuid NOT NULL,               -- the credential's owner: a user or, for a session key, a session
    route        text NOT NULL,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL,
    resource_id  uuid NOT NULL,               -- the ID of what the request makes, fixed before the first attempt
    status_code  integer,                     -- null while the first request runs
    response     bytea,
    location     text,
    locked_until timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (owner, route, key)
);

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

CREATE TABLE system_logs (
    id         uuid PRIMARY KEY DEFAULT kurir_uuid_v7(),
    level      text NOT NULL CHECK (level IN ('ERROR', 'WARN', 'INFO', 'DEBUG')),
    service    text NOT NULL,
    message    text NOT NULL,
    details    jsonb,
    user_id    uuid,
    session_id text,
    worker_id  text,
    timestamp  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX system_logs_time ON system_logs (timestamp DESC);
CREATE INDEX system_logs_user ON system_logs (user_id, timestamp DESC) WHERE user_id IS NOT NULL;

-- Usage outlives session and user: what it counts for is kept as plain IDs.
CREATE TABLE usage_records (
    id           uuid PRIMARY KEY DEFAULT kurir_uuid_v7(),
    user_id      uuid NOT NULL,
    session_id   uuid,
    api_key_id   uuid,
    usage_count  bigint NOT NULL DEFAULT 0,
    billing_date date NOT NULL CHECK (billing_date = date_trunc('month', billing_date)),
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT usage_records_key UNIQUE NULLS NOT DISTINCT (user_id, session_id, api_key_id, billing_date)
);

CREATE INDEX usage_records_key_date ON usage_records (api_key_id, billing_date);
CREATE INDEX usage_records_session_date ON usage_records (session_id, billing_date);
