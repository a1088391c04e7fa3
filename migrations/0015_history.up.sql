-- What search and the chat filter read, beside the messages: one row a message. Indexes on messages themselves would be
-- written again at each change of a status, four or five times in the life of a message. The words are filled in by a job,
-- a moment later: to find them takes longer than to store the message.

-- Folds case, accents and the signs of other scripts, so that what people type finds what people wrote. It depends on no
-- extension. A database with the C locale, as the embedded one, knows upper case of ASCII only: ICU helps, where there is one.
DO $$
DECLARE
    lowered text := 'lower(%s)';
BEGIN
    IF lower('É') <> 'é' AND EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu') THEN
        lowered := 'lower(%s COLLATE "und-x-icu")';
    END IF;
    EXECUTE format($f$
        CREATE FUNCTION kurir_fold(source text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $body$
            SELECT CASE WHEN octet_length(source) = length(source) THEN source ELSE
                regexp_replace(normalize(regexp_replace(normalize(%s, NFKD), '[\u0300-\u036f]', '', 'g'), NFKC),
                    '[\u00a1-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u2000-\u206f\u20a0-\u20cf\u2190-\u2bff\u3000-\u3004\u3008-\u3020\ufe00-\ufe0f\uff01-\uff0f\U0001f000-\U0001faff]+', ' ', 'g')
            END
        $body$ $f$, format(lowered, 'source'));
END
$$;

-- The lexeme that marks a message's session. The parser makes none with a blank, so no text can forge it.
CREATE FUNCTION kurir_session_lexeme(session_uid uuid) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT 's ' || translate(session_uid::text, '-', '')
$$;

-- A message's words, with its session among them: a search in a small session then reads no more of the index than that
-- session's messages, however often the word stands elsewhere. Null: nothing to find. Messages about another one (an
-- edit, a reaction) are not found by themselves. 16,384 characters a field are enough, and bound the work.
CREATE FUNCTION kurir_document(session_uid uuid, kind text, content text, caption text, filename text, deleted_at timestamptz)
RETURNS tsvector LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    words tsvector;
BEGIN
    IF deleted_at IS NOT NULL OR kind IN ('REACTION', 'EDIT', 'DELETE', 'VOTE') THEN
        RETURN NULL;
    END IF;
    IF caption IS NULL AND filename IS NULL THEN
        IF content = '' THEN
            RETURN NULL;
        END IF;
        words := to_tsvector('simple', kurir_fold(left(content, 16384)));
    ELSE
        words := to_tsvector('simple', kurir_fold(concat_ws(' ', left(content, 16384), left(caption, 16384), left(filename, 1024))));
    END IF;
    IF length(words) = 0 THEN
        RETURN NULL;
    END IF;
    RETURN array_to_tsvector(ARRAY[kurir_session_lexeme(session_uid)]) || words;
END
$$;

CREATE TABLE message_index (
    session_uid uuid NOT NULL,
    chat        text NOT NULL,
    id          uuid NOT NULL,                 -- of the message
    todo        boolean NOT NULL DEFAULT true, -- the document is not made yet
    document    tsvector,
    PRIMARY KEY (session_uid, chat, id)
) PARTITION BY RANGE (id);

CREATE INDEX message_index_todo ON message_index (id) WHERE todo;
-- The list of what is not merged yet is read by every search, whole: 256 kB of it take a millisecond.
CREATE INDEX message_index_words ON message_index USING gin (document) WITH (fastupdate = on, gin_pending_list_limit = 256);

-- The same partitions as messages have.
DO $$
DECLARE
    part record;
BEGIN
    FOR part IN SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'messages'::regclass
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF message_index %s', 'message_index' || substr(part.relname, length('messages') + 1), part.bounds);
    END LOOP;
END
$$;

INSERT INTO message_index (session_uid, chat, id) SELECT session_uid, chat, id FROM messages;

-- Triggers, so that no code path can forget it. Inserts and deletes are taken by the statement; changes only where a
-- statement names one of the columns, so that a status costs nothing. What was edited or deleted is no longer found at once.
CREATE FUNCTION kurir_index_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_index (session_uid, chat, id) SELECT session_uid, chat, id FROM fresh
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE FUNCTION kurir_index_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE message_index SET todo = false, document = kurir_document(NEW.session_uid, NEW.message_type, NEW.content, NEW.caption, NEW.filename, NEW.deleted_at)
    WHERE session_uid = NEW.session_uid AND chat = NEW.chat AND id = NEW.id;
    RETURN NULL;
END
$$;

CREATE FUNCTION kurir_index_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM message_index i USING gone WHERE i.session_uid = gone.session_uid AND i.chat = gone.chat AND i.id = gone.id;
    RETURN NULL;
END
$$;

CREATE TRIGGER messages_indexed AFTER INSERT ON messages REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION kurir_index_inserted();
CREATE TRIGGER messages_reindexed AFTER UPDATE OF content, caption, filename, deleted_at ON messages
    FOR EACH ROW WHEN ((OLD.content, OLD.caption, OLD.filename, OLD.deleted_at) IS DISTINCT FROM (NEW.content, NEW.caption, NEW.filename, NEW.deleted_at))
    EXECUTE FUNCTION kurir_index_changed();
CREATE TRIGGER messages_unindexed AFTER DELETE ON messages REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION kurir_index_deleted();

-- The rare ends of messages: what went well, as nearly all do, is never written here.
CREATE INDEX messages_ended ON messages (session_uid, id DESC) WHERE status IN ('FAILED', 'UNKNOWN', 'CANCELLED', 'EXPIRED');

-- After how many days a user wants messages dropped. Null: when the installation does.
ALTER TABLE users ADD COLUMN retention_days integer CHECK (retention_days BETWEEN 1 AND 36500);
CREATE INDEX users_retention ON users (id) WHERE retention_days IS NOT NULL;

-- Deleted sessions too: their messages go like others.
CREATE INDEX sessions_owner ON sessions (user_id, uid);

-- Drops the partition of a month, which must be the oldest, and all that is older still; the partition for late comers reaches
-- up to the next month then, so that a message from long ago still finds its place.
CREATE FUNCTION kurir_drop_month(parent text, month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    old text := parent || '_old';
    next timestamptz := (date_trunc('month', month::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    EXECUTE format('DROP TABLE %I', parent || '_' || to_char(month, 'YYYYMM'));
    EXECUTE format('TRUNCATE %I', old);
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, old);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', parent, old, kurir_uuid_from(next));
END
$$;
