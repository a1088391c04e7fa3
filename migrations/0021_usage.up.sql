-- Usage: what is counted, and the months that are closed. It outlives session, key and user: all IDs are plain.

-- Up to where months are closed. Whoever counts holds the row FOR SHARE, whoever closes a month FOR UPDATE.
CREATE TABLE usage_state (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    open_from date NOT NULL CHECK (open_from = date_trunc('month', open_from::timestamp)) -- the first month that is not closed
);
INSERT INTO usage_state (open_from) VALUES (date_trunc('month', now() AT TIME ZONE 'UTC'));

-- What happened to messages and is not counted yet: written in the transaction of the change, taken out in the one that counts.
CREATE TABLE message_tallies (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id      uuid NOT NULL,
    session_uid  uuid NOT NULL,
    direction    text NOT NULL,
    message_type text NOT NULL,
    status       text NOT NULL,        -- that it reached
    at           timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE usage_days (
    user_id     uuid NOT NULL,
    day         date NOT NULL,         -- of UTC
    session_uid uuid,                  -- null: requests about no session
    messages    bigint NOT NULL DEFAULT 0,
    api_hits    bigint NOT NULL DEFAULT 0,
    CONSTRAINT usage_days_key UNIQUE NULLS NOT DISTINCT (user_id, day, session_uid)
) WITH (fillfactor = 80);

CREATE TABLE usage_months (
    month    date NOT NULL CHECK (month = date_trunc('month', month::timestamp)),
    user_id  uuid NOT NULL,
    messages bigint NOT NULL DEFAULT 0,
    api_hits bigint NOT NULL DEFAULT 0,
    tier     text,                     -- when the month was closed
    PRIMARY KEY (month, user_id)
) WITH (fillfactor = 80);

CREATE INDEX usage_records_user_date ON usage_records (user_id, billing_date);

-- Which batch of each API process was counted last.
CREATE TABLE usage_writers (
    process uuid PRIMARY KEY,
    batch   bigint NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE billing_periods (
    month        date PRIMARY KEY,
    id           uuid NOT NULL UNIQUE, -- of the event that tells of it
    users        bigint NOT NULL,      -- that used anything
    messages     bigint NOT NULL,
    api_hits     bigint NOT NULL,
    closed_at    timestamptz NOT NULL DEFAULT now(),
    announced_at timestamptz           -- when BILLING_WEBHOOK_URL had taken the event
);

-- A message of ours was sent: once, since a status only rises, and what fails afterwards keeps sent_at. A message that was
-- typed on the phone has no seq.
CREATE FUNCTION kurir_tally_sent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at)
    SELECT s.user_id, NEW.session_uid, NEW.direction, NEW.message_type, 'SENT', greatest(NEW.created_at, least(NEW.sent_at, now()))
    FROM sessions s WHERE s.uid = NEW.session_uid;
    RETURN NULL;
END
$$;

CREATE TRIGGER messages_sent AFTER UPDATE OF status ON messages
    FOR EACH ROW WHEN (NEW.seq > 0 AND NEW.status IN ('SENT', 'DELIVERED', 'READ') AND OLD.sent_at IS NULL
        AND OLD.status NOT IN ('SENT', 'DELIVERED', 'READ') AND NEW.direction = 'OUTBOUND')
    EXECUTE FUNCTION kurir_tally_sent();

-- What was sent this month before there was this table: looked for once. The trigger holds up whoever writes messages until all of
-- this is committed, so nothing is missed or counted twice.
SET LOCAL statement_timeout = 0;
SET LOCAL enable_seqscan = on;
INSERT INTO usage_days (user_id, day, session_uid, messages)
    SELECT s.user_id, (m.sent_at AT TIME ZONE 'UTC')::date, m.session_uid, count(*)
    FROM messages m JOIN sessions s ON s.uid = m.session_uid JOIN usage_state u ON m.sent_at >= u.open_from::timestamp AT TIME ZONE 'UTC'
    WHERE m.direction = 'OUTBOUND' AND m.seq > 0 AND m.status IN ('SENT', 'DELIVERED', 'READ') AND m.message_type NOT IN ('REACTION', 'EDIT', 'DELETE', 'VOTE')
    GROUP BY 1, 2, 3;
INSERT INTO usage_months (month, user_id, messages) SELECT date_trunc('month', day::timestamp), user_id, sum(messages) FROM usage_days GROUP BY 1, 2;

-- The figures of a month that is closed never change. The argument is the column that has the date.
CREATE FUNCTION kurir_refuse_closed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched date;
BEGIN
    IF TG_OP = 'INSERT' THEN
        touched := to_jsonb(NEW)->>TG_ARGV[0];
    ELSE
        touched := to_jsonb(OLD)->>TG_ARGV[0];
    END IF;
    IF touched < (SELECT open_from FROM usage_state) THEN
        RAISE EXCEPTION 'the month of % is closed', touched USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER usage_days_closed BEFORE INSERT OR UPDATE OR DELETE ON usage_days
    FOR EACH ROW EXECUTE FUNCTION kurir_refuse_closed('day');
CREATE TRIGGER usage_months_closed BEFORE INSERT OR UPDATE OR DELETE ON usage_months
    FOR EACH ROW EXECUTE FUNCTION kurir_refuse_closed('month');
CREATE TRIGGER usage_records_closed BEFORE INSERT OR UPDATE OR DELETE ON usage_records
    FOR EACH ROW EXECUTE FUNCTION kurir_refuse_closed('billing_date');
