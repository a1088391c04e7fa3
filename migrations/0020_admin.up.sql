-- What administrators see and do.

ALTER TABLE sessions
    ADD COLUMN sending_paused_at timestamptz, -- since when an administrator has nothing of it sent
    ADD COLUMN suspended_at      timestamptz; -- it ran when its owner was deactivated, and will again

-- What holds for all tenants.
CREATE TABLE platform (
    one               boolean PRIMARY KEY DEFAULT true CHECK (one),
    sending_paused_at timestamptz -- since when nothing at all is sent
);
INSERT INTO platform DEFAULT VALUES;

-- Every claim asks these two, and finds them empty as a rule.
CREATE INDEX users_sending_paused ON users (id) WHERE sending_paused_at IS NOT NULL;
CREATE INDEX platform_sending_paused ON platform (one) WHERE sending_paused_at IS NOT NULL;

-- What API processes remember of users holds this too, see users_changed.
CREATE TRIGGER users_changed_by_administrator AFTER UPDATE OF sending_paused_at, email_verified_at ON users
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();

-- Lists of users. Words of name and mail address are found by how they begin; the expression stands in models/useradmin.go.
CREATE INDEX users_words ON users USING gin (to_tsvector('simple', kurir_fold(translate(name || ' ' || email, '@._+-/\:&''', '          '))));
CREATE INDEX users_name ON users (lower(name), id);
CREATE INDEX users_last_login ON users (last_login_at DESC NULLS LAST, id DESC);
CREATE INDEX users_deactivated ON users (updated_at) WHERE NOT is_active;
CREATE INDEX users_administrators ON users (id) WHERE role = 'ADMINISTRATOR' AND is_active;

-- Lists of sessions, see models/sessionadmin.go.
CREATE INDEX sessions_words ON sessions USING gin
    (to_tsvector('simple', kurir_fold(translate(id || ' ' || name || ' ' || coalesce(phone_number, ''), '@._+-/\:&''', '          '))))
    WHERE deleted_at IS NULL;

-- The audit trail is read newest first, by one of these; its IDs begin with the time.
DROP INDEX system_logs_user;
CREATE INDEX system_logs_user ON system_logs (user_id, id) WHERE user_id IS NOT NULL;
CREATE INDEX system_logs_target ON system_logs (target_user_id, id) WHERE target_user_id IS NOT NULL;
CREATE INDEX system_logs_session ON system_logs (session_id, id) WHERE session_id IS NOT NULL;
CREATE INDEX system_logs_worker ON system_logs (worker_id, id) WHERE worker_id IS NOT NULL;
CREATE INDEX system_logs_ip ON system_logs (ip, id) WHERE ip IS NOT NULL;
CREATE INDEX system_logs_action ON system_logs (message, id);
CREATE INDEX system_logs_level ON system_logs (level, id) WHERE level <> 'INFO';
