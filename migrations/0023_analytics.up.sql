-- Analytics: how many messages and users there are, by time. Nothing that is shown looks through messages or users.

-- What changed and is not counted yet: written in the transaction of the change, taken out in the one that counts.
CREATE TABLE analytics_changes (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,            -- MESSAGE; USER, NEW_USER, LAST_LOGIN, ACTIVE_USER
    kind    text NOT NULL DEFAULT '', -- of a message its type, of a user his tier
    state   text NOT NULL DEFAULT '', -- of a message of ours its status; RECEIVED
    at      timestamptz NOT NULL,     -- when the message was written, the user came, or logged in
    former  timestamptz,              -- a stretch of time that has this in it as well has counted it already
    n       bigint NOT NULL           -- how many more there are, or fewer
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE analytics_counts (
    step    integer NOT NULL,         -- how many seconds a row stands for, 0: all time
    at      timestamptz NOT NULL,     -- when they begin
    subject text NOT NULL,
    kind    text NOT NULL,
    state   text NOT NULL,
    n       bigint NOT NULL,
    PRIMARY KEY (step, at, subject, kind, state)
) WITH (fillfactor = 80);

-- Messages: what a statement added, and what it took away by changing. What comes to nothing is left out: most statements
-- change no status. SENDING counts as PENDING, or each message would be counted twice more.
CREATE FUNCTION kurir_count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO analytics_changes (subject, kind, state, at, n)
        SELECT 'MESSAGE', message_type, CASE WHEN direction = 'INBOUND' THEN 'RECEIVED' WHEN status = 'SENDING' THEN 'PENDING' ELSE status END,
            date_bin('1 minute', created_at, 'epoch'), count(*)
        FROM added GROUP BY 2, 3, 4;
    ELSE
        INSERT INTO analytics_changes (subject, kind, state, at, n)
        SELECT 'MESSAGE', message_type, CASE WHEN direction = 'INBOUND' THEN 'RECEIVED' WHEN status = 'SENDING' THEN 'PENDING' ELSE status END,
            date_bin('1 minute', created_at, 'epoch'), sum(sign)
        FROM (SELECT message_type, direction, status, created_at, -1 AS sign FROM former
            UNION ALL SELECT message_type, direction, status, created_at, 1 FROM added) c GROUP BY 2, 3, 4 HAVING sum(sign) <> 0;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER messages_counted AFTER INSERT ON messages
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION kurir_count_messages();
CREATE TRIGGER messages_recounted AFTER UPDATE ON messages
    REFERENCING OLD TABLE AS former NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION kurir_count_messages();

-- Users: how many there are of a tier, when they came, when they were here last, and how many were here in a stretch of time.
CREATE FUNCTION kurir_count_users() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was boolean := TG_OP <> 'INSERT' AND OLD.closed_at IS NULL;
    is_now boolean := TG_OP <> 'DELETE' AND NEW.closed_at IS NULL;
BEGIN
    IF was AND is_now AND OLD.tier = NEW.tier AND OLD.last_login_at IS NOT DISTINCT FROM NEW.last_login_at THEN
        RETURN NULL;
    END IF;
    INSERT INTO analytics_changes (subject, kind, at, former, n)
    SELECT * FROM (VALUES
        ('USER', OLD.tier, 'epoch'::timestamptz, NULL::timestamptz, CASE WHEN was THEN -1 END),
        ('USER', NEW.tier, 'epoch', NULL, CASE WHEN is_now THEN 1 END),
        ('NEW_USER', '', NEW.created_at, NULL, CASE WHEN TG_OP = 'INSERT' THEN 1 END),
        ('LAST_LOGIN', '', OLD.last_login_at, NULL, CASE WHEN was THEN -1 END),
        ('LAST_LOGIN', '', NEW.last_login_at, NULL, CASE WHEN is_now THEN 1 END),
        ('ACTIVE_USER', '', NEW.last_login_at, OLD.last_login_at, CASE WHEN is_now AND (OLD.last_login_at IS NULL OR NEW.last_login_at > OLD.last_login_at) THEN 1 END)
    ) AS c (subject, kind, at, former, n) WHERE n IS NOT NULL AND at IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER users_counted AFTER INSERT OR DELETE OR UPDATE OF tier, last_login_at, closed_at ON users
    FOR EACH ROW EXECUTE FUNCTION kurir_count_users();

CREATE INDEX sessions_status ON sessions (status, worker_id) WHERE deleted_at IS NULL;

-- What there was before: looked through once. The triggers hold up whoever writes until all of this is committed, so nothing is
-- missed or counted twice.
SET LOCAL statement_timeout = 0;
SET LOCAL enable_seqscan = on;
INSERT INTO analytics_changes (subject, kind, state, at, n)
SELECT 'MESSAGE', message_type, CASE WHEN direction = 'INBOUND' THEN 'RECEIVED' WHEN status = 'SENDING' THEN 'PENDING' ELSE status END,
    CASE WHEN created_at > now() - interval '32 days' THEN date_bin('1 minute', created_at, 'epoch') ELSE 'epoch' END, count(*)
FROM messages GROUP BY 2, 3, 4;
INSERT INTO analytics_changes (subject, kind, at, n)
SELECT 'USER', tier, 'epoch'::timestamptz, count(*) FROM users WHERE closed_at IS NULL GROUP BY 2
UNION ALL
SELECT 'NEW_USER', '', date_bin('1 minute', created_at, 'epoch'), count(*) FROM users WHERE created_at > now() - interval '32 days' GROUP BY 3
UNION ALL
SELECT of, '', date_bin('1 minute', last_login_at, 'epoch'), count(*) FROM users, unnest('{LAST_LOGIN,ACTIVE_USER}'::text[]) of
WHERE last_login_at > now() - interval '32 days' AND closed_at IS NULL GROUP BY 1, 3;
