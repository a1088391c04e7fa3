-- Deliveries outlive their webhook, until upkeep has removed them: a large log is not to be deleted in the one transaction for
-- whose end everyone waits who has an event for that webhook.
ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_webhook_id_fkey;

-- Webhooks that are gone, and whose deliveries have to go. Whoever deletes one, in whatever way, leaves a row.
CREATE TABLE deleted_webhooks (
    user_id    uuid NOT NULL,
    id         uuid NOT NULL,
    deleted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, id)
);

CREATE FUNCTION kurir_webhook_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO deleted_webhooks (user_id, id) VALUES (OLD.user_id, OLD.id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER webhooks_deleted AFTER DELETE ON webhooks FOR EACH ROW EXECUTE FUNCTION kurir_webhook_deleted();

-- A webhook is failing for long only if failures came again and again.
ALTER TABLE webhooks ADD COLUMN last_failure timestamptz;
