ALTER TABLE sessions DROP COLUMN settings;
DROP TABLE chats;
DROP INDEX messages_foreign, messages_media, messages_held;
DELETE FROM messages WHERE message_type IN ('VOICE', 'EDIT', 'DELETE', 'VOTE');
ALTER TABLE messages
    DROP COLUMN media_id, DROP COLUMN media, DROP COLUMN details, DROP COLUMN target_id, DROP COLUMN priority,
    DROP COLUMN waiting_for, DROP COLUMN edited_at, DROP COLUMN deleted_at, DROP COLUMN reactions;
ALTER TABLE messages DROP CONSTRAINT messages_message_type_check;
ALTER TABLE messages ADD CONSTRAINT messages_message_type_check CHECK (message_type IN
    ('TEXT', 'IMAGE', 'DOCUMENT', 'AUDIO', 'VIDEO', 'STICKER', 'LOCATION', 'CONTACT', 'POLL', 'REACTION', 'UNKNOWN'));
