-- Event streams read events in the order of the transactions that wrote them: see models/stream.go. Both steps change the
-- catalogue only, no row: events that are there already get 0, which is before all others, and stay in the order of their IDs.
ALTER TABLE events ADD COLUMN xid xid8 NOT NULL DEFAULT '0';
ALTER TABLE events ALTER COLUMN xid SET DEFAULT pg_current_xact_id();

DROP INDEX events_session;
DROP INDEX events_user;
CREATE INDEX events_session ON events (session_uid, xid, id);
CREATE INDEX events_user ON events (user_id, xid, id);

-- A ticket opens one stream for a browser, which cannot send headers. It lets in whom its maker's credential lets in.
CREATE TABLE stream_tickets (
    hash          bytea PRIMARY KEY CHECK (length(hash) = 32), -- SHA-256
    user_id       uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    session_uid   uuid REFERENCES sessions (uid) ON DELETE CASCADE, -- null: the account's stream, and those of its sessions
    key_id        uuid REFERENCES api_keys (id) ON DELETE CASCADE,  -- made with this key,
    token_version integer,                                          -- or with a token of this version
    token_until   timestamptz,
    credential    text NOT NULL,                                    -- what its streams count for
    expires_at    timestamptz NOT NULL,
    CHECK ((key_id IS NULL) = (token_version IS NOT NULL))
);

CREATE INDEX stream_tickets_user ON stream_tickets (user_id, expires_at DESC);

-- The public page with a session's QR code. A session has one link; another one takes its place.
CREATE TABLE session_links (
    session_uid uuid PRIMARY KEY REFERENCES sessions (uid) ON DELETE CASCADE,
    id          uuid NOT NULL,
    hash        bytea NOT NULL CHECK (length(hash) = 32), -- SHA-256 of the token
    language    text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    linked_at   timestamptz, -- done: it shows no code any more
    CONSTRAINT session_links_hash_key UNIQUE (hash)
);
