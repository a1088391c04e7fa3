package models

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"kurir/wire"
)

// States of a worker.
const (
	WorkerOnline      = "ONLINE"
	WorkerOffline     = "OFFLINE"
	WorkerMaintenance = "MAINTENANCE"
)

// Worker is a node that holds connections.
type Worker struct {
	bun.BaseModel `bun:"table:workers,alias:w"`

	ID             string `bun:",pk"`
	Endpoint       string
	Status         string
	MaxSessions    int
	CPUUsage       float64 `bun:"cpu_usage"`
	MemoryUsage    float64
	MessageCount   int64
	Uptime         int64
	Engine         string
	Version        string
	Description    *string
	Term           int64
	LeaseExpiresAt time.Time `bun:"-"`
	NextEventSeq   int64     `bun:",nullzero,default:1"`
	LastHeartbeat  time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// WorkerLoad is a worker with what is counted, never stored: how many sessions it has, and whether its lease lives.
type WorkerLoad struct {
	Worker       `bun:",extend"`
	SessionCount int
	LeaseLive    bool
}

// workerColumns avoid lease_expires_at, which may be -infinity.
const workerColumns = `w.id, w.endpoint, w.status, w.max_sessions, w.cpu_usage, w.memory_usage, w.message_count, w.uptime,
	w.engine, w.version, w.description, w.term, w.next_event_seq, w.last_heartbeat, w.created_at, w.updated_at`

// Workers lists all workers with their load, by ID. A session counts while it is assigned: from the transaction that
// makes it to the one that releases it.
func Workers(ctx context.Context, db bun.IDB) ([]WorkerLoad, error) {
	var list []WorkerLoad
	err := db.NewRaw(`SELECT `+workerColumns+`, w.lease_expires_at > now() AS lease_live,
			(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id) AS session_count
		FROM workers w ORDER BY w.id`).Scan(ctx, &list)
	return list, err
}

// WorkerByID finds a worker.
func WorkerByID(ctx context.Context, db bun.IDB, id string) (*Worker, error) {
	w := new(Worker)
	err := db.NewRaw(`SELECT `+workerColumns+` FROM workers w WHERE w.id = ?`, id).Scan(ctx, w)
	return w, err
}

// RegisterWorker starts a new term of a worker, unless another process holds a live lease under its ID: then it says false.
// A worker of another ID at the same endpoint that is no longer alive gives the endpoint up.
func RegisterWorker(ctx context.Context, tx bun.Tx, r wire.Register, lease time.Duration) (term int64, ok bool, err error) {
	if _, err := tx.ExecContext(ctx, `UPDATE workers SET status = 'OFFLINE', updated_at = now()
		WHERE endpoint = ? AND id <> ? AND lease_expires_at <= now() AND status <> 'OFFLINE'`, r.Endpoint, r.WorkerID); err != nil {
		return 0, false, err
	}
	err = tx.NewRaw(`INSERT INTO workers AS w (id, endpoint, status, max_sessions, engine, version, description, term, lease_expires_at)
		VALUES (?, ?, 'ONLINE', ?, ?, ?, nullif(?, ''), 1, now() + make_interval(secs => ?))
		ON CONFLICT (id) DO UPDATE SET endpoint = excluded.endpoint, max_sessions = excluded.max_sessions, engine = excluded.engine,
			version = excluded.version, description = coalesce(excluded.description, w.description), term = w.term + 1,
			status = CASE w.status WHEN 'MAINTENANCE' THEN 'MAINTENANCE' ELSE 'ONLINE' END,
			lease_expires_at = excluded.lease_expires_at, next_event_seq = 1, last_heartbeat = now(), updated_at = now()
		WHERE w.lease_expires_at <= now()
		RETURNING term`, r.WorkerID, r.Endpoint, r.MaxSessions, r.Engine, r.Version, r.Description, lease.Seconds()).Scan(ctx, &term)
	ok, err = Found(err)
	return term, ok, err
}

// RenewLease takes a heartbeat of a worker in its present term; a heartbeat of another term changes nothing and
// answers false. "offline" ends the lease at once: the worker says that it holds nothing any more.
func RenewLease(ctx context.Context, db bun.IDB, id string, h wire.Heartbeat, lease time.Duration) (bool, error) {
	status, secs := WorkerOnline, lease.Seconds()
	switch h.Status {
	case "offline":
		status, secs = WorkerOffline, 0
	case "maintenance":
		status = WorkerMaintenance
	}
	res, err := db.NewUpdate().Model((*Worker)(nil)).
		Set("status = CASE WHEN ? = 'ONLINE' AND w.status = 'MAINTENANCE' THEN w.status ELSE ? END", status, status).
		Set("cpu_usage = ?", h.Metrics.CPUUsage).Set("memory_usage = ?", h.Metrics.MemoryUsage).
		Set("message_count = ?", h.Metrics.MessageCount).Set("uptime = ?", h.Metrics.Uptime).
		Set("lease_expires_at = now() + make_interval(secs => ?)", secs).
		Set("last_heartbeat = now()").Set("updated_at = now()").
		Where("id = ?", id).Where("term = ?", h.Term).Exec(ctx)
	return changed(res, err)
}

// AddWorkerMetrics keeps one reading per worker and minute.
func AddWorkerMetrics(ctx context.Context, db bun.IDB, id string, m wire.Metrics) error {
	_, err := db.ExecContext(ctx, `INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, uptime)
		SELECT ?0, ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM worker_metrics
			WHERE worker_id = ?0 AND timestamp > now() - interval '55 seconds')`,
		id, m.CPUUsage, m.MemoryUsage, m.SessionCount, m.MessageCount, m.Uptime)
	return err
}

// ToDrop lists which of the sessions that a worker says it holds are not its own, or not at that epoch.
func ToDrop(ctx context.Context, db bun.IDB, worker string, held []wire.HeldSession) ([]string, error) {
	if len(held) == 0 {
		return nil, nil
	}
	uids := make([]string, len(held))
	for i, h := range held {
		uids[i] = h.SessionID
	}
	var own []struct {
		UID   string
		Epoch int64
	}
	err := db.NewSelect().Model((*Session)(nil)).Column("uid", "epoch").
		Where("uid::text IN ?", bun.Tuple(uids)).Where("worker_id = ?", worker).Where("desired = ?", DesiredRunning).Scan(ctx, &own)
	if err != nil {
		return nil, err
	}
	epochs := make(map[string]int64, len(own))
	for _, o := range own {
		epochs[o.UID] = o.Epoch
	}
	var drop []string
	for _, h := range held {
		if epochs[h.SessionID] != h.Epoch {
			drop = append(drop, h.SessionID)
		}
	}
	return drop, nil
}

// LeaseLive reports whether a worker's lease of the given term lives.
func LeaseLive(ctx context.Context, db bun.IDB, id string, term int64) (bool, error) {
	return db.NewSelect().Model((*Worker)(nil)).Where("id = ?", id).Where("term = ?", term).Where("lease_expires_at > now()").Exists(ctx)
}

// WorkersAlive lists workers whose lease lives, by ID.
func WorkersAlive(ctx context.Context, db bun.IDB) ([]Worker, error) {
	var list []Worker
	err := db.NewRaw(`SELECT `+workerColumns+` FROM workers w WHERE w.lease_expires_at > now() ORDER BY w.id`).Scan(ctx, &list)
	return list, err
}

// ForgetMetrics drops readings older than the given age.
func ForgetMetrics(ctx context.Context, q Querier, age time.Duration) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM worker_metrics WHERE timestamp < now() - make_interval(secs => $1)`, age.Seconds())
	return tag.RowsAffected(), err
}

// Fleet counts workers and sessions.
type Fleet struct {
	Workers, Sessions  map[string]int // by status, lower case
	Assigned, Capacity int
}

// FleetOf reads how workers and sessions are. A worker whose lease is over is offline, whatever it said last.
func FleetOf(ctx context.Context, q Querier) (Fleet, error) {
	f := Fleet{Workers: map[string]int{}, Sessions: map[string]int{}}
	rows, err := q.Query(ctx, `
		SELECT 'worker', CASE WHEN lease_expires_at > now() THEN lower(status) ELSE 'offline' END AS label, count(*),
			sum(CASE WHEN lease_expires_at > now() AND status = 'ONLINE' THEN max_sessions ELSE 0 END) FROM workers GROUP BY 2
		UNION ALL
		SELECT 'session', lower(status), count(*), count(worker_id) FROM sessions WHERE deleted_at IS NULL GROUP BY 2`)
	if err != nil {
		return f, err
	}
	defer rows.Close()
	for rows.Next() {
		var of, label string
		var n, room int
		if err := rows.Scan(&of, &label, &n, &room); err != nil {
			return f, err
		}
		if of == "worker" {
			f.Workers[label] = n
			f.Capacity += room
		} else {
			f.Sessions[label] = n
			f.Assigned += room
		}
	}
	return f, rows.Err()
}
