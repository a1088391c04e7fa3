-- What an administrator wants of a worker outlives its terms; what is known of its health is for people and placement.
ALTER TABLE workers
    ADD COLUMN maintenance    boolean NOT NULL DEFAULT false,    -- wanted by an administrator: takes no new sessions
    ADD COLUMN session_cap    integer CHECK (session_cap BETWEEN 0 AND 1000000), -- an administrator's bound beside max_sessions
    ADD COLUMN removed_at     timestamptz,                       -- a tombstone: terms must go on growing
    ADD COLUMN lapsed_at      timestamptz,                       -- when its lease lapsed last
    ADD COLUMN flaps          integer NOT NULL DEFAULT 0,        -- lapses, each soon after the one before
    ADD COLUMN resting_until  timestamptz,                       -- until then, others get new sessions first
    ADD COLUMN problem        text,                              -- what is wrong with it, for the operator
    ADD COLUMN problem_since  timestamptz,
    ADD COLUMN probed_at      timestamptz,
    ADD COLUMN probe_failures integer NOT NULL DEFAULT 0;        -- in a row

ALTER TABLE sessions
    ADD COLUMN moving_to    text REFERENCES workers (id),        -- room reserved there for a move under way
    ADD COLUMN moved_from   text,                                -- the worker that held it before, until the next one confirms
    ADD COLUMN moved_reason text,
    ADD COLUMN moved_at     timestamptz,                         -- of the last assignment anew
    ADD COLUMN held_at      timestamptz,                         -- when held_term was confirmed
    ADD COLUMN trouble_at   timestamptz;                         -- since when it cannot reach the network

CREATE INDEX sessions_moving ON sessions (moving_to) WHERE moving_to IS NOT NULL;
CREATE INDEX sessions_homeless ON sessions (uid) WHERE worker_id IS NULL AND desired = 'RUNNING';
CREATE INDEX sessions_trouble ON sessions (worker_id, trouble_at) WHERE trouble_at IS NOT NULL;

ALTER TABLE jobs
    ADD COLUMN params   jsonb,  -- what was asked for
    ADD COLUMN progress jsonb;  -- where it stands

UPDATE jobs j SET status = 'CANCELLED', finished_at = now() WHERE kind = 'session:create' AND status IN ('QUEUED', 'RUNNING')
    AND EXISTS (SELECT 1 FROM jobs o WHERE o.session_uid = j.session_uid AND o.kind = j.kind AND o.status IN ('QUEUED', 'RUNNING') AND o.id > j.id);

-- One creation and one move per session, and one drain per worker and reason, at a time.
CREATE UNIQUE INDEX jobs_create_key ON jobs (session_uid) WHERE kind = 'session:create' AND status IN ('QUEUED', 'RUNNING');
CREATE UNIQUE INDEX jobs_migrate_key ON jobs (session_uid) WHERE kind = 'session:migrate' AND status IN ('QUEUED', 'RUNNING');
CREATE UNIQUE INDEX jobs_drain_key ON jobs (worker_id, (params->>'reason')) WHERE kind = 'worker:drain' AND status IN ('QUEUED', 'RUNNING');

-- Where a worker's events stand within its term. A table of its own: a batch locks its row until all is stored, and
-- heartbeats must not wait for that.
CREATE TABLE worker_streams (
    worker_id text PRIMARY KEY REFERENCES workers (id),
    term      bigint NOT NULL,
    next_seq  bigint NOT NULL
);
INSERT INTO worker_streams SELECT id, term, next_event_seq FROM workers;
ALTER TABLE workers DROP COLUMN next_event_seq;

-- Since when heartbeats could be taken without a break: every API process beats here. A lease lapses only if its
-- worker could have renewed it.
CREATE TABLE intake (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    since timestamptz NOT NULL,
    seen  timestamptz NOT NULL,
    lease interval NOT NULL -- as the API grants it
);

-- How many workers there should be.
CREATE TABLE scaling (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    recommended integer NOT NULL,
    since       timestamptz NOT NULL,
    candidate   integer NOT NULL DEFAULT 0,
    pending     timestamptz,
    workers     integer NOT NULL,
    utilization double precision NOT NULL,
    reason      text NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX worker_metrics_age ON worker_metrics (timestamp);
