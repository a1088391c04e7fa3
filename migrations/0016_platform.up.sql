-- What the platform keeps about a user besides his account.

ALTER TABLE users
    ADD COLUMN email_verified_at timestamptz,
    -- Limits of this user instead of those of his tier, set by an administrator.
    ADD COLUMN max_sessions integer CHECK (max_sessions >= 0),
    ADD COLUMN max_messages_per_hour integer CHECK (max_messages_per_hour >= 0),
    -- Since when nothing of this user is sent: an administrator has said so.
    ADD COLUMN sending_paused_at timestamptz;

-- The audit trail: who did what to what from where.
ALTER TABLE system_logs
    ADD COLUMN actor text NOT NULL DEFAULT 'system' CHECK (actor IN ('anonymous', 'user', 'api_key', 'administrator', 'worker', 'system', 'operator')),
    ADD COLUMN api_key_id uuid,
    ADD COLUMN target_user_id uuid,
    ADD COLUMN ip inet,
    ADD COLUMN request_id text;
