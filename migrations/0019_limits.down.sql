DROP TRIGGER users_limits_changed ON users;
DROP INDEX sessions_user_deleted;
ALTER TABLE lanes DROP COLUMN quota_epoch;
