DROP INDEX worker_metrics_age;
DROP TABLE scaling;
DROP TABLE intake;
ALTER TABLE workers ADD COLUMN next_event_seq bigint NOT NULL DEFAULT 1;
UPDATE workers w SET next_event_seq = s.next_seq FROM worker_streams s WHERE s.worker_id = w.id AND s.term = w.term;
DROP TABLE worker_streams;
DROP INDEX jobs_drain_key;
DROP INDEX jobs_migrate_key;
DROP INDEX jobs_create_key;
ALTER TABLE jobs DROP COLUMN params, DROP COLUMN progress;
DROP INDEX sessions_trouble;
DROP INDEX sessions_homeless;
DROP INDEX sessions_moving;
ALTER TABLE sessions DROP COLUMN moving_to, DROP COLUMN moved_from, DROP COLUMN moved_reason, DROP COLUMN moved_at,
    DROP COLUMN held_at, DROP COLUMN trouble_at;
ALTER TABLE workers DROP COLUMN maintenance, DROP COLUMN session_cap, DROP COLUMN removed_at, DROP COLUMN lapsed_at,
    DROP COLUMN flaps, DROP COLUMN resting_until, DROP COLUMN problem, DROP COLUMN problem_since, DROP COLUMN probed_at,
    DROP COLUMN probe_failures;
