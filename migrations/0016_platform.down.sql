ALTER TABLE system_logs
    DROP COLUMN actor,
    DROP COLUMN api_key_id,
    DROP COLUMN target_user_id,
    DROP COLUMN ip,
    DROP COLUMN request_id;

ALTER TABLE users
    DROP COLUMN email_verified_at,
    DROP COLUMN max_sessions,
    DROP COLUMN max_messages_per_hour,
    DROP COLUMN sending_paused_at;
