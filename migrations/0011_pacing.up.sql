-- What holds up messages that wait: a medium that is not here yet, a pace, caps on new chats, a network that asks for a
-- pause. A held message has next_attempt_at, and leaves the index of what can be claimed until its hold ends.
DROP INDEX messages_pending;
CREATE INDEX messages_pending ON messages (session_uid, seq) WHERE status = 'PENDING' AND next_attempt_at IS NULL;
-- These hold few rows, and cost the others nothing. There is none of what waits by chat: it would make each accept 12 % and
-- more dearer, to save the rare reader of a lane (see claimGuarded) a scan of it.
CREATE INDEX messages_high ON messages (session_uid, seq) WHERE status = 'PENDING' AND next_attempt_at IS NULL AND priority > 0;
CREATE INDEX messages_scheduled ON messages (session_uid, send_at) WHERE status = 'PENDING' AND send_at IS NOT NULL;
CREATE INDEX messages_hold_ends ON messages (next_attempt_at) WHERE status = 'PENDING' AND next_attempt_at IS NOT NULL;
CREATE INDEX messages_parked ON messages (session_uid, priority DESC, seq) WHERE status = 'PENDING' AND waiting_for = 'new_chat_limit';
CREATE INDEX messages_unfetched ON messages (send_at) WHERE status = 'PENDING' AND media_url IS NOT NULL AND media_id IS NULL
    AND next_attempt_at IS NULL AND send_at IS NOT NULL;
ALTER TABLE messages ADD COLUMN media_tries integer NOT NULL DEFAULT 0; -- fetches of its medium that failed

CREATE INDEX chats_received ON chats (session_uid, last_received_at) WHERE last_received_at IS NOT NULL;

-- A pause that the network asked for.
ALTER TABLE sessions
    ADD COLUMN cooldown_until      timestamptz,
    ADD COLUMN cooldown_reason     text,
    ADD COLUMN cooldown_replies_at timestamptz,                -- from when on people who wrote are answered nevertheless
    ADD COLUMN cooldown_count      integer NOT NULL DEFAULT 0; -- in a row: each doubles the pause

-- Where a paced session stands. A table of its own: a lane's holder writes it with what it sends, and sessions are locked by
-- others for other reasons.
CREATE TABLE paces (
    session_uid  uuid PRIMARY KEY REFERENCES sessions (uid) ON DELETE CASCADE,
    next_send_at timestamptz, -- nothing is sent before
    new_chat_at  timestamptz, -- no chat is begun before
    hour_tat     timestamptz, -- how far the caps on new chats are used, see package pacing
    day_tat      timestamptz
) WITH (fillfactor = 70);
