-- What an ordered webhook does with a delivery that does not get through.
ALTER TABLE webhooks
    ADD COLUMN on_failure text NOT NULL DEFAULT 'BLOCK' CHECK (on_failure IN ('BLOCK', 'SKIP')),
    ADD COLUMN skip_after integer NOT NULL DEFAULT 5 CHECK (skip_after BETWEEN 1 AND 50); -- attempts, with SKIP

-- The schedule begins anew with a replay, the numbers of attempts go on.
ALTER TABLE webhook_deliveries ADD COLUMN attempts_before integer NOT NULL DEFAULT 0;

-- A webhook's lane is open while the webhook is active: what comes meanwhile is numbered and waits.
UPDATE lanes l SET open = w.is_active FROM webhooks w WHERE w.id = l.id;
UPDATE webhook_deliveries SET next_retry = now() WHERE status = 'RETRYING' AND next_retry IS NULL;
UPDATE webhook_deliveries SET next_retry = NULL WHERE status = 'PENDING' AND next_retry IS NOT NULL;

-- What was never tried, by its place; what was, by its time and by its place. A delivery that succeeds at once is written
-- to the first of them only. The last one is for lists of what failed.
DROP INDEX webhook_deliveries_due;
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (webhook_id, sequence) WHERE status = 'PENDING';
CREATE INDEX webhook_deliveries_retry ON webhook_deliveries (webhook_id, next_retry, sequence) WHERE status = 'RETRYING';
CREATE INDEX webhook_deliveries_retrying ON webhook_deliveries (webhook_id, sequence) WHERE status = 'RETRYING';
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (webhook_id, sequence) WHERE status = 'FAILED';

-- Ranges of time, and retention. Within a webhook, created_at rises with sequence.
DROP INDEX webhook_deliveries_created;
CREATE INDEX webhook_deliveries_time ON webhook_deliveries (webhook_id, created_at, sequence);

-- One replay of a range per webhook at a time.
CREATE UNIQUE INDEX jobs_replay_key ON jobs ((params->>'webhookId')) WHERE kind = 'webhook:replay' AND status IN ('QUEUED', 'RUNNING');
