ALTER TABLE webhooks DROP COLUMN last_failure;
DROP TRIGGER webhooks_deleted ON webhooks;
DROP FUNCTION kurir_webhook_deleted();
DELETE FROM webhook_deliveries d USING deleted_webhooks w WHERE d.webhook_id = w.id;
DROP TABLE deleted_webhooks;
ALTER TABLE webhook_deliveries ADD CONSTRAINT webhook_deliveries_webhook_id_fkey FOREIGN KEY (webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE;
