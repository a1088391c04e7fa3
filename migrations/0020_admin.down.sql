DROP INDEX system_logs_user, system_logs_target, system_logs_session, system_logs_worker, system_logs_ip, system_logs_action, system_logs_level;
CREATE INDEX system_logs_user ON system_logs (user_id, timestamp DESC) WHERE user_id IS NOT NULL;
DROP INDEX sessions_words;
DROP INDEX users_words, users_name, users_last_login, users_deactivated, users_administrators, users_sending_paused;
DROP TRIGGER users_changed_by_administrator ON users;
DROP TABLE platform;
ALTER TABLE sessions DROP COLUMN sending_paused_at, DROP COLUMN suspended_at;
