-- Beside whatsmeow's tables, in the same schema. It is run whole at each start, under a lock.

-- Who holds a session, and which device it is. The epoch only grows.
CREATE TABLE IF NOT EXISTS kurir_sessions (
    session    text PRIMARY KEY,
    epoch      bigint NOT NULL,
    jid        text UNIQUE,
    changed_at timestamptz NOT NULL DEFAULT now()
);

-- What was sent: for phones that ask for a message again, and for senders that ask a second time under the same ID.
CREATE TABLE IF NOT EXISTS kurir_sent (
    session  text NOT NULL REFERENCES kurir_sessions (session) ON DELETE CASCADE,
    id       text NOT NULL,
    chat     text NOT NULL,
    message  bytea NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(),
    sent_at  timestamptz,
    PRIMARY KEY (session, id)
);
CREATE INDEX IF NOT EXISTS kurir_sent_age ON kurir_sent (begun_at);

-- Groups that were made, by the key of who asked for them: asked again, he gets the same one.
CREATE TABLE IF NOT EXISTS kurir_groups (
    session text NOT NULL REFERENCES kurir_sessions (session) ON DELETE CASCADE,
    key     text NOT NULL,
    jid     text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session, key)
);
CREATE INDEX IF NOT EXISTS kurir_groups_age ON kurir_groups (made_at);

-- The options of polls: a vote names only their hashes.
CREATE TABLE IF NOT EXISTS kurir_polls (
    session  text NOT NULL REFERENCES kurir_sessions (session) ON DELETE CASCADE,
    id       text NOT NULL,
    options  text[] NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session, id)
);
CREATE INDEX IF NOT EXISTS kurir_polls_age ON kurir_polls (seen_at);
DROP INDEX IF EXISTS kurir_sent_old, kurir_groups_old, kurir_polls_old; -- of former versions, by session

-- The fence: a statement that changes credentials is refused unless its connection names a session, the epoch at which
-- that session is held now, and the device that it is now: a phone may have linked another session under the same address, whose
-- credentials they are then. Without a device, as workers of former versions are, session and epoch decide. The lock lets a claim wait for the transactions of the holder before, which thereby end either
-- before the claim or with this refusal. It is shared, in memory, and writes nothing.
CREATE OR REPLACE FUNCTION kurir_fence() RETURNS trigger LANGUAGE plpgsql AS $fence$
DECLARE
    fence  text := current_setting('kurir.fence', true);
    holder text := substr(fence, strpos(fence, '/') + 1);
    device text := coalesce(current_setting('kurir.device', true), '');
BEGIN
    IF fence = 'upgrade' THEN
        RETURN NULL;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(1263881801, hashtext(holder));
    PERFORM 1 FROM kurir_sessions WHERE session = holder AND epoch = split_part(fence, '/', 1)::bigint AND (device = '' OR device = jid);
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the session % is not held at this epoch, or not with this device', coalesce(holder, '') USING ERRCODE = 'KF001';
    END IF;
    RETURN NULL;
END
$fence$;

-- whatsmeow's map of numbers to LIDs is nobody's credential and shared by all sessions.
DO $triggers$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
          AND (c.relname LIKE 'whatsmeow\_%' AND c.relname NOT IN ('whatsmeow_version', 'whatsmeow_lid_map') OR c.relname = 'kurir_sent')
          AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'kurir_fence')
    LOOP
        EXECUTE format('CREATE TRIGGER kurir_fence BEFORE INSERT OR UPDATE OR DELETE ON %I FOR EACH STATEMENT EXECUTE FUNCTION kurir_fence()', name);
    END LOOP;
END
$triggers$;
