DROP INDEX users_retention;
ALTER TABLE users DROP COLUMN retention_days;
DROP INDEX messages_ended;
DROP TRIGGER messages_indexed ON messages;
DROP TRIGGER messages_reindexed ON messages;
DROP TRIGGER messages_unindexed ON messages;
DROP FUNCTION kurir_index_inserted, kurir_index_changed, kurir_index_deleted;
DROP TABLE message_index;
DROP FUNCTION kurir_document, kurir_session_lexeme, kurir_fold;
