package models

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/placement"
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
	SecretKey      string    // names the key that the term's secret is derived from, see Vault
	LeaseExpiresAt time.Time `bun:"-"`
	Maintenance    bool      // wanted by an administrator; outlives terms
	SessionCap     *int      // an administrator's bound beside MaxSessions
	Flaps          int
	LapsedAt       *time.Time
	RestingUntil   *time.Time
	Problem        *string // for the operator
	ProblemSince   *time.Time
	LastHeartbeat  time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Room is how many sessions the worker may have.
func (w *Worker) Room() int {
	if w.SessionCap != nil {
		return min(w.MaxSessions, *w.SessionCap)
	}
	return w.MaxSessions
}

// WorkerLoad is a worker with what is counted, never stored: how many sessions it has, and whether its lease lives.
type WorkerLoad struct {
	Worker       `bun:",extend"`
	SessionCount int
	LeaseLive    bool
}

// workerColumns avoid lease_expires_at, which may be -infinity.
const workerColumns = `w.id, w.endpoint, w.status, w.max_sessions, w.cpu_usage, w.memory_usage, w.message_count, w.uptime,
	w.engine, w.version, w.description, w.term, w.secret_key, w.maintenance, w.session_cap, w.flaps, w.lapsed_at, w.resting_until,
	w.problem, w.problem_since, w.last_heartbeat, w.created_at, w.updated_at`

// Workers lists all workers with their load, by ID; removed ones are left out. A session counts while it is assigned: from
// the transaction that makes it to the one that releases it.
func Workers(ctx context.Context, db bun.IDB) ([]WorkerLoad, error) {
	var list []WorkerLoad
	err := db.NewRaw(workerLoads+` WHERE w.removed_at IS NULL ORDER BY w.id`).Scan(ctx, &list)
	return list, err
}

const workerLoads = `SELECT ` + workerColumns + `, w.lease_expires_at > now() AS lease_live,
	(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id) AS session_count FROM workers w`

// LoadOf finds a worker with its load; a removed one is not found.
func LoadOf(ctx context.Context, db bun.IDB, id string) (*WorkerLoad, error) {
	w := new(WorkerLoad)
	err := db.NewRaw(workerLoads+` WHERE w.id = ? AND w.removed_at IS NULL`, id).Scan(ctx, w)
	return w, err
}

// WorkerByID finds a worker, removed or not.
func WorkerByID(ctx context.Context, db bun.IDB, id string) (*Worker, error) {
	w := new(Worker)
	err := db.NewRaw(`SELECT `+workerColumns+` FROM workers w WHERE w.id = ?`, id).Scan(ctx, w)
	return w, err
}

// WorkersAlive lists workers whose lease lives, by ID.
func WorkersAlive(ctx context.Context, db bun.IDB) ([]Worker, error) {
	var list []Worker
	err := db.NewRaw(`SELECT `+workerColumns+` FROM workers w WHERE w.lease_expires_at > now() ORDER BY w.id`).Scan(ctx, &list)
	return list, err
}

// Fleet counts workers and sessions.
type Fleet struct {
	Workers, Sessions  map[string]int // by status, lower case
	Assigned, Capacity int            // of the engines that take new sessions
}

// FleetOf reads how workers and sessions are. A worker whose lease is over is offline, whatever it said last. Each process asks at each
// scrape, so sessions are counted in an index that has all of it; the engine of one that takes room is its worker's.
func FleetOf(ctx context.Context, q Querier) (Fleet, error) {
	f := Fleet{Workers: map[string]int{}, Sessions: map[string]int{}}
	rows, err := q.Query(ctx, `
		SELECT true AS worker, engine, CASE WHEN lease_expires_at > now() THEN lower(status) ELSE 'offline' END AS label, count(*),
			sum(CASE WHEN lease_expires_at > now() AND status = 'ONLINE' THEN least(max_sessions, session_cap) ELSE 0 END) AS room
			FROM workers WHERE removed_at IS NULL GROUP BY 2, 3
		UNION ALL
		SELECT false, coalesce(w.engine, ''), lower(s.status), sum(s.n), coalesce(sum(s.n) FILTER (WHERE s.worker_id IS NOT NULL), 0)
			FROM (SELECT status, worker_id, count(*) AS n FROM sessions WHERE deleted_at IS NULL GROUP BY 1, 2 OFFSET 0) s
			LEFT JOIN LATERAL (SELECT engine FROM workers WHERE id = s.worker_id LIMIT 1) w ON true GROUP BY 2, 3`)
	if err != nil {
		return f, err
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[fleetCount])
	var registered []string
	for _, c := range counts {
		if c.Worker {
			registered = append(registered, c.Engine)
		}
	}
	for _, c := range counts {
		c.addTo(&f, placement.TakesNew(c.Engine, registered))
	}
	return f, err
}

// fleetCount is the workers, or the sessions, of an engine in a status.
type fleetCount struct {
	Worker        bool
	Engine, Label string
	N, Room       int // of workers, that they offer; of sessions, that they take
}

func (c fleetCount) addTo(f *Fleet, takesNew bool) {
	if !takesNew {
		c.Room = 0
	}
	if c.Worker {
		f.Workers[c.Label] += c.N
		f.Capacity += c.Room
	} else {
		f.Sessions[c.Label] += c.N
		f.Assigned += c.Room
	}
}
