DROP INDEX jobs_replay_key;

DROP INDEX webhook_deliveries_time;
CREATE INDEX webhook_deliveries_created ON webhook_deliveries (created_at);

DROP INDEX webhook_deliveries_failed;
DROP INDEX webhook_deliveries_retrying;
DROP INDEX webhook_deliveries_retry;
DROP INDEX webhook_deliveries_pending;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, sequence) WHERE status IN ('PENDING', 'RETRYING');

UPDATE lanes SET open = true WHERE kind = 'WEBHOOK';

ALTER TABLE webhook_deliveries DROP COLUMN attempts_before;
ALTER TABLE webhooks DROP COLUMN on_failure, DROP COLUMN skip_after;
