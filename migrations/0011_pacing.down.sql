DROP TABLE paces;
ALTER TABLE sessions DROP COLUMN cooldown_until, DROP COLUMN cooldown_reason, DROP COLUMN cooldown_replies_at, DROP COLUMN cooldown_count;
DROP INDEX chats_received;
DROP INDEX messages_pending, messages_high, messages_scheduled, messages_hold_ends, messages_parked, messages_unfetched;
ALTER TABLE messages DROP COLUMN media_tries;
CREATE INDEX messages_pending ON messages (session_uid, seq) WHERE status = 'PENDING';
