-- What is in the blob store, by owner and content: the same content is one medium, however often it comes. The row is there
-- before its blob (stored_at is null so long) and goes after it, see models/media.go.
CREATE TABLE media (
    id         uuid PRIMARY KEY,                              -- made of user_id and sha256
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    sha256     bytea NOT NULL CHECK (length(sha256) = 32),
    mimetype   text NOT NULL CHECK (length(mimetype) BETWEEN 1 AND 200), -- as found in the content
    size       bigint NOT NULL CHECK (size >= 0),
    stored_at  timestamptz,                                   -- null: there is no blob, or not yet, or no longer
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at    timestamptz NOT NULL DEFAULT now(),            -- uploaded or sent again
    look_at    timestamptz NOT NULL                           -- when upkeep next asks whether anybody needs it
);

CREATE INDEX media_look ON media (look_at);
CREATE INDEX media_user ON media (user_id);

-- With the session, because a session's key opens the media of that session's messages only.
DROP INDEX messages_media;
CREATE INDEX messages_media ON messages (media_id, session_uid) WHERE media_id IS NOT NULL;
