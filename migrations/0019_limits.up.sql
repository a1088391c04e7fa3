-- Which count of its owner's messages a lane goes by. A count in Redis that was lost is made anew from the messages, under
-- another epoch: a message that was let in by the former count is then refused, and counted again. Null: by any.
ALTER TABLE lanes ADD COLUMN quota_epoch bigint;

-- Sessions deleted a short time ago: their messages count still.
CREATE INDEX sessions_user_deleted ON sessions (user_id, deleted_at) WHERE deleted_at IS NOT NULL;

-- Limits of a user's own, like his tier, are heard of at once.
CREATE TRIGGER users_limits_changed AFTER UPDATE OF max_sessions, max_messages_per_hour ON users
    FOR EACH ROW EXECUTE FUNCTION kurir_notify_user();
