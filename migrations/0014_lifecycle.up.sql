-- One stop, one start and one logout per session at a time. The jobs do what the rows say, so a second one adds nothing.
CREATE UNIQUE INDEX jobs_stop_key ON jobs (session_uid) WHERE kind = 'session:stop' AND status IN ('QUEUED', 'RUNNING');
CREATE UNIQUE INDEX jobs_start_key ON jobs (session_uid) WHERE kind = 'session:start' AND status IN ('QUEUED', 'RUNNING');
CREATE UNIQUE INDEX jobs_logout_key ON jobs (session_uid) WHERE kind = 'session:logout' AND status IN ('QUEUED', 'RUNNING');

-- Sessions that have still to be let go of, or unlinked.
CREATE INDEX sessions_ending ON sessions (uid) WHERE desired IN ('STOPPED', 'LOGGED_OUT')
    AND (worker_id IS NOT NULL OR status <> 'DISCONNECTED' OR desired = 'LOGGED_OUT' AND linked_at IS NOT NULL);

-- What came in and was not marked as read, by chat.
CREATE INDEX messages_unread ON messages (session_uid, chat, id DESC) WHERE direction = 'INBOUND' AND read_at IS NULL;
