DROP TABLE usage_records;
DROP TABLE system_logs;
DROP TABLE idempotency_keys;
DROP TABLE jobs;
