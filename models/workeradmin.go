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

// KindDrainWorker is the kind of the jobs that empty a worker.
const KindDrainWorker = "worker:drain"

// DrainParams are their parameters.
type DrainParams struct {
	Reason string `json:"reason"` // MoveDrain, MoveRemoved or MoveShutdown
}

// WorkerChange is what an administrator changes of a worker; nil leaves it as it is.
type WorkerChange struct {
	Maintenance *bool
	SessionCap  *int
	Description *string
}

// ChangeWorker changes a worker that is not removed, and says whether there is one.
func ChangeWorker(ctx context.Context, q Querier, id string, c WorkerChange) (bool, error) {
	tag, err := q.Exec(ctx, `UPDATE workers SET maintenance = coalesce($2, maintenance), session_cap = coalesce($3, session_cap),
			description = coalesce($4, description), updated_at = now(),
			status = CASE WHEN $2 IS NULL OR status = 'OFFLINE' THEN status WHEN $2 THEN 'MAINTENANCE' ELSE 'ONLINE' END
		WHERE id = $1 AND removed_at IS NULL`, id, c.Maintenance, c.SessionCap, c.Description)
	return tag.RowsAffected() > 0, err
}

// AnnounceWorker adds a worker before it registers, with the room that an administrator grants it, or brings a removed
// one back. It says whether there was none.
func AnnounceWorker(ctx context.Context, q Querier, id, endpoint string, room int, description *string) (bool, error) {
	tag, err := q.Exec(ctx, `INSERT INTO workers AS w (id, endpoint, status, max_sessions, session_cap, description, problem, problem_since)
		VALUES ($1, $2, 'OFFLINE', $3, $3, $4, $5, now())
		ON CONFLICT (id) DO UPDATE SET endpoint = excluded.endpoint, session_cap = excluded.session_cap, description = coalesce(excluded.description, w.description),
			removed_at = NULL, maintenance = false, problem = excluded.problem, problem_since = now(), updated_at = now()
		WHERE w.removed_at IS NOT NULL`, id, endpoint, room, description, ProblemNotRegistered)
	return tag.RowsAffected() > 0, err
}

// EndpointTaken reports whether a living worker of another ID has an endpoint.
func EndpointTaken(ctx context.Context, q Querier, endpoint, id string) (taken bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM workers WHERE endpoint = $1 AND id <> $2 AND status <> 'OFFLINE' AND lease_expires_at > now())`,
		endpoint, id).Scan(&taken)
	return taken, err
}

// ProblemNotRegistered is what an operator reads of a worker that was announced.
const ProblemNotRegistered = "It has not registered yet: start it with this WORKER_ID, and with GATEWAY_URL and WORKER_AUTH_TOKEN of this gateway."

// RemoveWorker makes a worker a tombstone: it is listed no more and its lease is not renewed. Its sessions stay with it
// until it has released them or its lease is over.
func RemoveWorker(ctx context.Context, q Querier, id string) (bool, error) {
	tag, err := q.Exec(ctx, `UPDATE workers SET removed_at = now(), status = 'OFFLINE', maintenance = false, session_cap = NULL, problem = NULL,
			problem_since = NULL, term = term + 1, updated_at = now() WHERE id = $1 AND removed_at IS NULL`, id)
	return tag.RowsAffected() > 0, err
}

// RemoveEmptied is RemoveWorker for one that has been drained, if it is still unwanted and nothing has come to it since.
func RemoveEmptied(ctx context.Context, db *DB, id string) (removed bool, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		removed = false
		if _, err := lockFleet(ctx, tx); err != nil {
			return err
		}
		var empty bool
		err := tx.QueryRow(ctx, `SELECT NOT EXISTS (SELECT 1 FROM sessions s WHERE s.worker_id = w.id OR s.moving_to = w.id)
			FROM workers w WHERE w.id = $1 AND w.maintenance FOR UPDATE`, id).Scan(&empty)
		if ok, err := Found(err); err != nil || !ok || !empty {
			return err
		}
		removed, err = RemoveWorker(ctx, tx, id)
		return err
	})
	return removed, err
}

// StartDrain adds the job that empties a worker, or finds the one that does already for that reason.
func StartDrain(ctx context.Context, tx pgx.Tx, worker, reason string, user *uuid.UUID) (job uuid.UUID, err error) {
	params, err := json.Marshal(DrainParams{Reason: reason})
	if err != nil {
		return uuid.Nil, err
	}
	err = tx.QueryRow(ctx, `INSERT INTO jobs AS j (id, kind, user_id, worker_id, params, trace) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (worker_id, (params->>'reason')) WHERE kind = 'worker:drain' AND status IN ('QUEUED', 'RUNNING')
		DO UPDATE SET user_id = coalesce(j.user_id, excluded.user_id), trace = coalesce(j.trace, excluded.trace), run_at = CASE j.status WHEN 'QUEUED' THEN now() ELSE j.run_at END
		RETURNING id`, NewID(), KindDrainWorker, user, worker, params, tracing.Carried(ctx)).Scan(&job)
	return job, err
}

// SetProblem notes what is wrong with a worker, "" for nothing, and how many probes in a row have failed. It says whether
// that is news.
func SetProblem(ctx context.Context, q Querier, id string, term int64, problem string, failed bool) (news bool, err error) {
	err = q.QueryRow(ctx, `WITH was AS (SELECT id, problem, CASE WHEN $3 <> '' THEN $3 WHEN `+outdatedWorker+` THEN $6 WHEN problem = $5 AND resting_until > now() THEN problem END AS is
			FROM workers w WHERE id = $1 AND term = $2)
		UPDATE workers w SET problem = was.is, probed_at = now(), probe_failures = CASE WHEN $4 THEN least(w.probe_failures + 1, 1000) ELSE 0 END,
			problem_since = CASE WHEN was.is IS NULL THEN NULL WHEN was.problem = was.is THEN w.problem_since ELSE now() END
		FROM was WHERE w.id = was.id RETURNING was.problem IS DISTINCT FROM was.is`, id, term, problem, failed, ProblemNetwork, ProblemOutdated).Scan(&news)
	_, err = Found(err)
	return news, err
}

// SilentWorkers lists workers whose lease lives but who have not been heard of for the given time, nor been probed for it,
// and marks them as probed.
func SilentWorkers(ctx context.Context, db bun.IDB, since time.Duration) ([]Worker, error) {
	var list []Worker
	err := db.NewRaw(`UPDATE workers w SET probed_at = now() WHERE w.lease_expires_at > now() AND w.status <> 'OFFLINE'
		AND w.last_heartbeat < now() - make_interval(secs => ?0) AND (w.probed_at IS NULL OR w.probed_at < w.last_heartbeat + make_interval(secs => ?0))
		RETURNING `+workerColumns, since.Seconds()).Scan(ctx, &list)
	return list, err
}

// OnTheWay reports whether a session of a worker is about to move: room is reserved for it elsewhere.
func OnTheWay(ctx context.Context, q Querier, worker string) (moves bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM sessions WHERE worker_id = $1 AND moving_to IS NOT NULL)`, worker).Scan(&moves)
	return moves, err
}

// AskFor adds a job that a user asked for, unless it is there already, and says whether it was not.
func AskFor(ctx context.Context, q Querier, id uuid.UUID, kind string, user uuid.UUID) (bool, error) {
	tag, err := q.Exec(ctx, `INSERT INTO jobs (id, kind, user_id, trace) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`, id, kind, user, tracing.Carried(ctx))
	return tag.RowsAffected() > 0, err
}

// JobOfKind finds a job of one of the kinds, whoever asked for it.
func JobOfKind(ctx context.Context, db bun.IDB, id uuid.UUID, kinds ...string) (*Job, error) {
	j := new(Job)
	err := db.NewSelect().Model(j).Where("id = ?", id).Where("kind IN (?)", bun.List(kinds)).Scan(ctx)
	return j, err
}

// ScalingUpdated is when the recommendation was worked out last, zero if it never was.
func ScalingUpdated(ctx context.Context, q Querier) (at time.Time, err error) {
	_, err = Found(q.QueryRow(ctx, `SELECT updated_at FROM scaling WHERE recommended > 0`).Scan(&at))
	return at, err
}
