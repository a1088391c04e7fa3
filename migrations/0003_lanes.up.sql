-- The processes that run jobs. A runner's one lease keeps all lanes that it holds alive.
CREATE TABLE runners (
    id         uuid PRIMARY KEY,
    hostname   text NOT NULL,
    pid        integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);

-- A lane is an ordered set of rows that one runner at a time drains: the outgoing messages of a session (id = its
-- uid) or the deliveries of a webhook (id = its id). The holder is no foreign key: a take would lock the one row
-- of its runner each time, and a holder whose row is gone is simply not alive.
CREATE TABLE lanes (
    id          uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('MESSAGES', 'WEBHOOK')),
    open        boolean NOT NULL DEFAULT false, -- whether it takes new rows
    next_seq    bigint NOT NULL DEFAULT 1,
    generation  bigint NOT NULL DEFAULT 0,      -- one higher at each take
    holder      uuid,
    next_due_at timestamptz                     -- null: nothing to do
) WITH (fillfactor = 70);

CREATE INDEX lanes_due ON lanes (next_due_at) WHERE next_due_at IS NOT NULL;

CREATE TABLE messages (
    id              uuid NOT NULL,               -- begins with a time
    session_uid     uuid NOT NULL REFERENCES sessions (uid) ON DELETE CASCADE,
    direction       text NOT NULL CHECK (direction IN ('INBOUND', 'OUTBOUND')),
    seq             bigint NOT NULL DEFAULT 0,   -- place in the session's lane; 0 for inbound ones
    chat            text NOT NULL,               -- JID of the conversation
    from_number     text,
    from_lid        text,
    from_name       text,
    from_me         boolean NOT NULL DEFAULT false,
    to_number       text NOT NULL,
    message_type    text NOT NULL CHECK (message_type IN
        ('TEXT', 'IMAGE', 'DOCUMENT', 'AUDIO', 'VIDEO', 'STICKER', 'LOCATION', 'CONTACT', 'POLL', 'REACTION', 'UNKNOWN')),
    content         text NOT NULL DEFAULT '',
    media_url       text,
    filename        text,
    caption         text,
    status          text NOT NULL CHECK (status IN
        ('PENDING', 'SENDING', 'SENT', 'DELIVERED', 'READ', 'FAILED', 'UNKNOWN', 'CANCELLED', 'EXPIRED')),
    error_code      text,
    error_message   text,
    whatsapp_id     text NOT NULL,
    generation      bigint NOT NULL DEFAULT 0,   -- of the lane's holder that claimed it last
    attempts        integer NOT NULL DEFAULT 0,  -- sends that ended without a final outcome
    next_attempt_at timestamptz,
    send_at         timestamptz,
    expires_at      timestamptz,
    metadata        jsonb,
    sent_at         timestamptz,
    delivered_at    timestamptz,
    read_at         timestamptz,
    finished_at     timestamptz,                 -- when it failed, expired, was cancelled or given up
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

-- A lane's work: what was never tried, and what was tried and is not settled.
CREATE INDEX messages_pending ON messages (session_uid, seq) WHERE status = 'PENDING';
CREATE INDEX messages_sending ON messages (session_uid, seq) WHERE status = 'SENDING';
-- Its condition is written so that no other query seems to fit it: a claim would otherwise read it whole.
CREATE INDEX messages_expiring ON messages (expires_at) WHERE coalesce(status, '') = 'PENDING';
CREATE INDEX messages_history ON messages (session_uid, id DESC);

CREATE TABLE events (
    id          uuid NOT NULL, -- begins with a time
    user_id     uuid NOT NULL,
    session_uid uuid,
    type        text NOT NULL,
    data        jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);

CREATE INDEX events_session ON events (session_uid, id);
CREATE INDEX events_user ON events (user_id, id);

-- This month, three to come, and one partition for what is older than all of them: a phone may hand over a
-- message from long ago.
DO $$
DECLARE
    parent text;
    ahead integer;
    this_month date := date_trunc('month', now() AT TIME ZONE 'UTC');
BEGIN
    FOREACH parent IN ARRAY ARRAY['messages', 'events'] LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (MINVALUE) TO (%L)',
            parent || '_old', parent, kurir_uuid_from(this_month::timestamp AT TIME ZONE 'UTC'));
        FOR ahead IN 0..3 LOOP
            PERFORM kurir_add_month(parent, (this_month + make_interval(months => ahead))::date);
        END LOOP;
    END LOOP;
END
$$;
