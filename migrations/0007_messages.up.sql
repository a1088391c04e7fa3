-- Every type of message, what it holds beside its text, and what may hold it up.
ALTER TABLE messages DROP CONSTRAINT messages_message_type_check;
ALTER TABLE messages ADD CONSTRAINT messages_message_type_check CHECK (message_type IN
    ('TEXT', 'IMAGE', 'DOCUMENT', 'AUDIO', 'VOICE', 'VIDEO', 'STICKER', 'LOCATION', 'CONTACT', 'POLL', 'REACTION', 'EDIT',
     'DELETE', 'VOTE', 'UNKNOWN'));
ALTER TABLE messages
    ADD COLUMN media_id    uuid,                          -- in the blob store, see table media
    ADD COLUMN media       jsonb,                         -- its type, size and hash, so that reading needs no join
    ADD COLUMN details     jsonb,                         -- message.Details
    ADD COLUMN target_id   uuid,                          -- the message that a reaction, edit, delete or vote is about
    ADD COLUMN priority    smallint NOT NULL DEFAULT 0,   -- chooses between chats: 1 high, 0 normal
    ADD COLUMN waiting_for text,                          -- why a pending one is held until next_attempt_at
    ADD COLUMN edited_at   timestamptz,
    ADD COLUMN deleted_at  timestamptz,                   -- by its author, for everyone
    ADD COLUMN reactions   jsonb;                         -- [message.Mark], one a person

-- Messages that are held for a time, or back off: few. They block their chat.
CREATE INDEX messages_held ON messages (session_uid, chat, seq) WHERE next_attempt_at IS NOT NULL AND status IN ('PENDING', 'SENDING');
CREATE INDEX messages_media ON messages (media_id) WHERE media_id IS NOT NULL;
-- WhatsApp's IDs of messages that are not ours say nothing of where their rows are.
CREATE INDEX messages_foreign ON messages (session_uid, whatsapp_id) WHERE seq = 0;

-- What is known of the other side of a conversation.
CREATE TABLE chats (
    session_uid      uuid NOT NULL REFERENCES sessions (uid) ON DELETE CASCADE,
    chat             text NOT NULL,               -- JID
    phone            text,
    lid              text,
    name             text,
    first_sent_at    timestamptz,                 -- when a message to it first went out
    last_received_at timestamptz,                 -- when they last wrote
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (session_uid, chat)
);

-- Choices of a session's owner, see models.Settings.
ALTER TABLE sessions ADD COLUMN settings jsonb;
