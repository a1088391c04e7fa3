DROP INDEX messages_media;
CREATE INDEX messages_media ON messages (media_id) WHERE media_id IS NOT NULL;
DROP TABLE media;
