DROP TABLE session_links;
DROP TABLE stream_tickets;
DROP INDEX events_session;
DROP INDEX events_user;
ALTER TABLE events DROP COLUMN xid;
CREATE INDEX events_session ON events (session_uid, id);
CREATE INDEX events_user ON events (user_id, id);
