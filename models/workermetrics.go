package models

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"kurir/wire"
)

// AddWorkerMetrics keeps one reading per worker and minute.
func AddWorkerMetrics(ctx context.Context, db bun.IDB, id string, m wire.Metrics) error {
	_, err := db.ExecContext(ctx, `INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, uptime)
		SELECT ?0, ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM worker_metrics
			WHERE worker_id = ?0 AND timestamp > now() - interval '55 seconds')`,
		id, m.CPUUsage, m.MemoryUsage, m.SessionCount, m.MessageCount, m.Uptime)
	return err
}

// ForgetMetrics drops readings older than the given age.
func ForgetMetrics(ctx context.Context, q Querier, age time.Duration) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM worker_metrics WHERE timestamp < now() - make_interval(secs => $1)`, age.Seconds())
	return tag.RowsAffected(), err
}

// Readings are thinned when they are older than thinAfter: one per thinTo stays.
const (
	thinAfter = 24 * time.Hour
	thinTo    = 15 * time.Minute
	thinFrom  = 3 * 24 * time.Hour // older ones have been thinned; three days, lest a runner was down
)

// ThinMetrics drops most of the readings of yesterday and the days before.
func ThinMetrics(ctx context.Context, q Querier) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM worker_metrics WHERE id IN (SELECT id FROM (
			SELECT id, row_number() OVER (PARTITION BY worker_id, date_bin(make_interval(secs => $1), timestamp, 'epoch') ORDER BY timestamp) AS n
			FROM worker_metrics WHERE timestamp < now() - make_interval(secs => $2) AND timestamp >= now() - make_interval(secs => $3)) r WHERE n > 1)`,
		thinTo.Seconds(), thinAfter.Seconds(), thinFrom.Seconds())
	return tag.RowsAffected(), err
}

// Reading is the average of a worker's readings over a stretch of time.
type Reading struct {
	WorkerID     string
	At           time.Time // its beginning
	CPUUsage     float64   // percent
	MemoryUsage  float64   // percent
	SessionCount float64
	MessageCount int64 // since the worker's process began, at the end of the stretch
}

// readingsLimit bounds an answer: 200 workers with 168 steps each.
const readingsLimit = 200 * 168

// FleetReading is how all workers were in a step.
type FleetReading struct {
	At          time.Time
	Workers     int     // that were heard of
	CPUUsage    float64 // percent, the average of these
	MemoryUsage float64
	Sessions    float64 // of all of them together
}

// WorkerReadings lists readings of a window, averaged over its steps: of all workers together by time, and of each by worker and
// time.
func WorkerReadings(ctx context.Context, q Querier, w Window) (fleet []FleetReading, each []Reading, err error) {
	rows, err := q.Query(ctx, `WITH each AS (
			SELECT worker_id, date_bin(make_interval(secs => $3), timestamp, 'epoch') AS at, avg(cpu_usage) AS cpu, avg(memory_usage) AS memory,
				avg(session_count)::float8 AS sessions, max(message_count) AS messages
			FROM worker_metrics WHERE timestamp >= $1 AND timestamp < $2 GROUP BY 1, 2
		), fleet AS (
			SELECT at, avg(cpu) AS cpu, avg(memory) AS memory, sum(sessions) AS sessions, count(*) AS workers FROM each GROUP BY 1
		)
		SELECT '' AS worker_id, * FROM fleet UNION ALL (SELECT * FROM each ORDER BY 1, 2 LIMIT $4) ORDER BY 1, 2`,
		w.From, w.Until, w.Step.Seconds(), readingsLimit)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r Reading
		var n int64
		if err := rows.Scan(&r.WorkerID, &r.At, &r.CPUUsage, &r.MemoryUsage, &r.SessionCount, &n); err != nil {
			return nil, nil, err
		}
		if r.WorkerID == "" {
			fleet = append(fleet, FleetReading{At: r.At, Workers: int(n), CPUUsage: r.CPUUsage, MemoryUsage: r.MemoryUsage, Sessions: r.SessionCount})
			continue
		}
		r.MessageCount = n
		each = append(each, r)
	}
	return fleet, each, rows.Err()
}

// EndpointsOf finds where workers are, removed ones too.
func EndpointsOf(ctx context.Context, q Querier, workers []string) (map[string]string, error) {
	rows, err := q.Query(ctx, `SELECT id, endpoint FROM workers WHERE id = ANY($1)`, workers)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	endpoints := make(map[string]string, len(workers))
	for rows.Next() {
		var id, endpoint string
		if err := rows.Scan(&id, &endpoint); err != nil {
			return nil, err
		}
		endpoints[id] = endpoint
	}
	return endpoints, rows.Err()
}
