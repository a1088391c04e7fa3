-- Each month that is there costs every statement about a lane something. The next one is made four days before it begins now; a version before
-- makes it again at once, which does no harm. And what is older than all months has nothing that waits, mostly nothing at all: it is sealed from the start.
-- allow lock: for a look whether something is there
-- allow constraint: nothing is there that would have to be read
SET LOCAL lock_timeout = '2s';
DO $$
DECLARE
    parent text;
    part text;
    filled boolean;
BEGIN
    FOREACH parent IN ARRAY ARRAY['messages', 'message_index', 'events'] LOOP
        FOR part IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = parent::regclass AND c.relname ~ ('^' || parent || '_\d{6}$')
              AND c.relname > parent || '_' || to_char(now() AT TIME ZONE 'UTC' + interval '4 days', 'YYYYMM')
        LOOP
            EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', part);
            EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', part) INTO filled;
            IF NOT filled THEN
                EXECUTE format('DROP TABLE %I', part);
            END IF;
        END LOOP;
    END LOOP;
    IF to_regclass('messages_old') IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass('messages_old') AND conname = 'messages_settled') THEN
        LOCK TABLE messages_old IN ACCESS EXCLUSIVE MODE;
        IF NOT EXISTS (SELECT 1 FROM messages_old) THEN
            ALTER TABLE messages_old ADD CONSTRAINT messages_settled CHECK (status <> 'PENDING' AND status <> 'SENDING');
        END IF;
    END IF;
END
$$;
