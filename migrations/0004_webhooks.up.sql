CREATE TABLE webhooks (
    id                uuid PRIMARY KEY,
    user_id           uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    session_uid       uuid REFERENCES sessions (uid) ON DELETE CASCADE, -- null: of the whole account
    url               text NOT NULL,
    events            text[] NOT NULL CHECK (cardinality(events) > 0),
    secret            bytea NOT NULL,                  -- AES-256-GCM under ENCRYPTION_KEY
    previous_secret   bytea,
    previous_until    timestamptz,
    headers           bytea,                           -- custom headers, encrypted: they may carry credentials
    header_names      text[] NOT NULL DEFAULT '{}',
    ordered           boolean NOT NULL DEFAULT false,
    is_active         boolean NOT NULL DEFAULT true,
    disabled_reason   text,
    last_delivery     timestamptz,
    failure_count     integer NOT NULL DEFAULT 0,      -- failed attempts since the last success
    failing_since     timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

CREATE UNIQUE INDEX webhooks_session_key ON webhooks (session_uid) WHERE session_uid IS NOT NULL;
CREATE UNIQUE INDEX webhooks_account_key ON webhooks (user_id) WHERE session_uid IS NULL;

-- The payload is the event's data: a delivery refers to it. Not a foreign key: retention drops partitions of events.
CREATE TABLE webhook_deliveries (
    id            uuid PRIMARY KEY DEFAULT kurir_uuid_v7(),
    webhook_id    uuid NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id      uuid NOT NULL,
    event         text NOT NULL,
    sequence      bigint NOT NULL,                     -- per webhook, without gaps
    status        text NOT NULL DEFAULT 'PENDING' CHECK (status IN ('PENDING', 'DELIVERED', 'FAILED', 'RETRYING')),
    response_code integer,
    response_body text,
    error         text,
    attempts      integer NOT NULL DEFAULT 0,
    next_retry    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    delivered_at  timestamptz,
    CONSTRAINT webhook_deliveries_sequence_key UNIQUE (webhook_id, sequence)
);

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, sequence) WHERE status IN ('PENDING', 'RETRYING');
CREATE INDEX webhook_deliveries_created ON webhook_deliveries (created_at);

CREATE TABLE webhook_attempts (
    delivery_id   uuid NOT NULL REFERENCES webhook_deliveries (id) ON DELETE CASCADE,
    attempt       integer NOT NULL,
    response_code integer,
    response_body text,
    error         text,
    duration_ms   integer NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (delivery_id, attempt)
);
