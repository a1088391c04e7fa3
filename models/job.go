package models

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/tracing"
)

// States of jobs.
const (
	JobQueued    = "QUEUED"
	JobRunning   = "RUNNING"
	JobSucceeded = "SUCCEEDED"
	JobFailed    = "FAILED"
	JobCancelled = "CANCELLED"
)

// Job is a piece of control-plane work. Its row is the truth; the task in Redis only says that it is due.
type Job struct {
	bun.BaseModel `bun:"table:jobs,alias:j"`

	ID         uuid.UUID `bun:",pk,type:uuid"`
	Kind       string
	Status     string
	Attempts   int
	UserID     *uuid.UUID // nil: the platform's own
	SessionUID *uuid.UUID
	WorkerID   *string
	RunnerID   *uuid.UUID
	RunAt      time.Time       `bun:",nullzero,default:now()"`
	Params     json.RawMessage `bun:"type:jsonb,nullzero"` // what was asked for
	Progress   json.RawMessage `bun:"type:jsonb,nullzero"` // where it stands
	Error      *string
	Result     json.RawMessage `bun:"type:jsonb,nullzero"`
	CreatedAt  time.Time       `bun:",nullzero,default:now()"`
	StartedAt  *time.Time
	FinishedAt *time.Time
	Trace      *string // the span that caused it, where it is traced
}

// InsertJob adds a job, to be enqueued after the commit.
func InsertJob(ctx context.Context, db bun.IDB, j *Job) error {
	j.Status, j.Trace = JobQueued, tracing.Carried(ctx)
	_, err := db.NewInsert().Model(j).Exec(ctx)
	return err
}

// AddNotice adds a job that tells somebody something: params is what.
func AddNotice(ctx context.Context, q Execer, id uuid.UUID, kind string, params any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return err
	}
	_, err = q.Exec(ctx, `INSERT INTO jobs (id, kind, params, trace) VALUES ($1, $2, $3, $4)`, id, kind, body, tracing.Carried(ctx))
	return err
}

// StartJob makes a runner the one that runs a job's given attempt. False: it has been started already, or has ended.
func StartJob(ctx context.Context, db bun.IDB, id uuid.UUID, attempt int, runner uuid.UUID) (*Job, bool, error) {
	j := new(Job)
	err := db.NewUpdate().Model(j).Set("status = ?", JobRunning).Set("attempts = ?", attempt).Set("runner_id = ?", runner).
		Set("started_at = coalesce(started_at, now())").
		Where("id = ?", id).Where("status = ?", JobQueued).Where("attempts = ?", attempt-1).Returning("*").Scan(ctx)
	ok, err := Found(err)
	return j, ok, err
}

// FinishJob ends a job's running attempt, and writes down that it did.
func FinishJob(ctx context.Context, db bun.IDB, j *Job, status string, result json.RawMessage, failure string) error {
	_, err := db.NewRaw(`WITH ended AS (
			UPDATE jobs SET status = ?0, result = ?1, error = nullif(?2, ''), finished_at = now(), runner_id = NULL
			WHERE id = ?3 AND status = 'RUNNING' AND attempts = ?4 RETURNING id, kind, status, attempts, user_id, session_uid, worker_id
		) INSERT INTO system_logs (level, service, actor, message, details, target_user_id, session_id, worker_id)
		SELECT CASE e.status WHEN 'FAILED' THEN 'WARN' ELSE 'INFO' END, 'runner', 'system', 'job.' || lower(e.status),
			jsonb_build_object('job', e.id, 'kind', e.kind, 'attempts', e.attempts), coalesce(s.user_id, e.user_id), s.id, e.worker_id
		FROM ended e LEFT JOIN sessions s ON s.uid = e.session_uid`, status, result, failure, j.ID, j.Attempts).Exec(ctx)
	return err
}

// SetProgress notes where a job's running attempt stands.
func SetProgress(ctx context.Context, db bun.IDB, j *Job, progress json.RawMessage) error {
	_, err := db.NewUpdate().Model(j).Set("progress = ?", progress).
		Where("id = ?", j.ID).Where("status = ?", JobRunning).Where("attempts = ?", j.Attempts).Exec(ctx)
	return err
}

// RetryJob puts a job's running attempt back, to be run again after a pause. failure is empty if it did not fail but has to
// wait.
func RetryJob(ctx context.Context, db bun.IDB, j *Job, after time.Duration, failure string) error {
	_, err := db.NewUpdate().Model(j).Set("status = ?", JobQueued).Set("error = nullif(?, '')", failure).Set("runner_id = NULL").
		Set("run_at = now() + make_interval(secs => ?)", after.Seconds()).
		Where("id = ?", j.ID).Where("status = ?", JobRunning).Where("attempts = ?", j.Attempts).Exec(ctx)
	return err
}

// DueJob is a job that should be in Redis now.
type DueJob struct {
	ID      uuid.UUID
	Kind    string
	Attempt int           // the next one
	Overdue time.Duration // since it is due
}

// DueJobs puts back the jobs of runners that died and lists what is due.
func DueJobs(ctx context.Context, q Querier, limit int) ([]DueJob, error) {
	_, err := q.Exec(ctx, `UPDATE jobs j SET status = 'QUEUED', runner_id = NULL, run_at = now(), error = 'The runner died.'
		WHERE status = 'RUNNING' AND NOT EXISTS (SELECT 1 FROM runners r WHERE r.id = j.runner_id AND r.expires_at > now())`)
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, `SELECT id, kind, attempts + 1, extract(epoch FROM now() - run_at)::float8 FROM jobs
		WHERE status = 'QUEUED' AND run_at <= now() ORDER BY run_at LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (DueJob, error) {
		var d DueJob
		var seconds float64
		err := row.Scan(&d.ID, &d.Kind, &d.Attempt, &seconds)
		d.Overdue = time.Duration(seconds * float64(time.Second))
		return d, err
	})
}

// JobOf finds a user's job, or one of one of his sessions where session is given.
func JobOf(ctx context.Context, db bun.IDB, user uuid.UUID, session *uuid.UUID, id uuid.UUID) (*Job, error) {
	j := new(Job)
	q := db.NewSelect().Model(j).Where("id = ?", id).Where("user_id = ?", user)
	if session != nil {
		q = q.Where("session_uid = ?", *session)
	}
	return j, q.Scan(ctx)
}

// JobsOf lists a user's jobs, newest first, those before the given ID (zero: from the newest).
func JobsOf(ctx context.Context, db bun.IDB, user, before uuid.UUID, limit int) ([]Job, error) {
	var list []Job
	q := db.NewSelect().Model(&list).Where("user_id = ?", user).OrderExpr("id DESC").Limit(int64(limit))
	if before != uuid.Nil {
		q = q.Where("id < ?", before)
	}
	return list, q.Scan(ctx)
}

// ForgetJobs drops the oldest of the jobs that were made and ended before the given age, forgetRows at most.
func ForgetJobs(ctx context.Context, q Querier, age time.Duration) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM jobs WHERE id = ANY (ARRAY (
		SELECT id FROM jobs WHERE id < $1 AND finished_at < now() - make_interval(secs => $2) ORDER BY id LIMIT $3))`,
		lowestID(time.Now().Add(-age)), age.Seconds(), forgetRows)
	return tag.RowsAffected(), err
}

// FirstJobOf finds the first job of a kind that a session had.
func FirstJobOf(ctx context.Context, db bun.IDB, session uuid.UUID, kind string) (*Job, error) {
	j := new(Job)
	err := db.NewSelect().Model(j).Where("session_uid = ?", session).Where("kind = ?", kind).OrderExpr("id").Limit(1).Scan(ctx)
	return j, err
}
