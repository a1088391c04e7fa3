package models

import (
	"context"
	"slices"
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

// ForgetMetrics drops the oldest of the readings older than the given age, forgetRows at most.
func ForgetMetrics(ctx context.Context, q Querier, age time.Duration) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM worker_metrics WHERE id = ANY (ARRAY (
		SELECT id FROM worker_metrics WHERE timestamp < now() - make_interval(secs => $1) ORDER BY timestamp LIMIT $2))`, age.Seconds(), forgetRows)
	return tag.RowsAffected(), err
}

// Readings are thinned when they are older than thinAfter: one per thinTo stays.
const (
	thinAfter = 24 * time.Hour
	thinTo    = 15 * time.Minute
	thinFrom  = 3 * 24 * time.Hour // older ones have been thinned; three days, lest a runner was down
)

// ThinMetrics drops most of the readings of yesterday and the days before, an hour of them in one statement.
func ThinMetrics(ctx context.Context, q Querier) (thinned int64, err error) {
	now, err := Now(ctx, q)
	if err != nil {
		return 0, err
	}
	until := now.Add(-thinAfter)
	for hour := now.Add(-thinFrom).Truncate(time.Hour); hour.Before(until); hour = hour.Add(time.Hour) {
		end := hour.Add(time.Hour)
		if end.After(until) {
			end = until
		}
		tag, err := q.Exec(ctx, `DELETE FROM worker_metrics WHERE id = ANY (ARRAY (SELECT id FROM (
			SELECT id, row_number() OVER (PARTITION BY worker_id, date_bin(make_interval(secs => $1), timestamp, 'epoch') ORDER BY timestamp) AS n
			FROM worker_metrics WHERE timestamp >= $2 AND timestamp < $3) r WHERE n > 1))`, thinTo.Seconds(), hour, end)
		if err != nil {
			return thinned, err
		}
		thinned += tag.RowsAffected()
	}
	return thinned, nil
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

// readingsLimit bounds an answer: 200 workers with 168 steps each. Of a worker there is all or nothing.
const readingsLimit = 200 * 168

// FleetReading is how all workers were in a step.
type FleetReading struct {
	At          time.Time
	Workers     int     // that were heard of
	CPUUsage    float64 // percent, the average of these, each by how long it was there
	MemoryUsage float64
	Sessions    float64 // of all of them together: of those that were there at the same time, on the average of the step
}

// bin is the small stretch of time within a step in which a worker was there or was not: as often as readings are kept. A
// step has 24 of them at most.
func (w Window) bin() time.Duration {
	if w.Step <= thinTo {
		return time.Minute
	}
	return thinTo
}

// A worker's sessions count for those bins of the step in which it was heard of; bits say which ones. So one that takes another's
// place is not counted beside it, but for the bin in which both were there. The bin under way, in which not all have been
// heard of, counts for none, and a step of which there is no more is not there.
const readingsSQL = `WITH each AS (
		SELECT worker_id, date_bin(make_interval(secs => $3), timestamp, 'epoch') AS at, avg(cpu_usage) AS cpu, avg(memory_usage) AS memory,
			avg(session_count)::float8 AS sessions, max(message_count) AS messages,
			bit_or(1::bigint << (floor(date_part('epoch', timestamp))::bigint % $3::bigint / $4::bigint)::int)
				FILTER (WHERE timestamp < (SELECT date_bin(make_interval(secs => $4), now(), 'epoch'))) AS bins
		FROM worker_metrics WHERE timestamp >= $1 AND timestamp < $2 GROUP BY 1, 2
	), fleet AS (
		SELECT at, sum(cpu * n) / sum(n) AS cpu, sum(memory * n) / sum(n) AS memory, sum(sessions * n) / bit_count(bit_or(bins)::bit(64)) AS sessions,
			count(*) AS workers
		FROM (SELECT *, bit_count(bins::bit(64))::float8 AS n FROM each WHERE bins IS NOT NULL) there GROUP BY 1
	)
	SELECT '' AS worker_id, at, cpu, memory, sessions, workers FROM fleet
	UNION ALL (SELECT worker_id, at, cpu, memory, sessions, messages FROM each ORDER BY 1, 2 LIMIT $5) ORDER BY 1, 2`

// WorkerReadings lists readings of a window, averaged over its steps: of all workers together by time, and of each by worker and
// time.
func WorkerReadings(ctx context.Context, q Querier, w Window) (fleet []FleetReading, each []Reading, err error) {
	rows, err := q.Query(ctx, readingsSQL, w.From, w.Until, w.Step.Seconds(), w.bin().Seconds(), readingsLimit+1)
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
	return fleet, wholeWorkers(each), rows.Err()
}

// wholeWorkers leaves out the last worker where the limit may have cut it.
func wholeWorkers(each []Reading) []Reading {
	n := len(each)
	if n <= readingsLimit {
		return each
	}
	last := each[n-1].WorkerID
	return each[:slices.IndexFunc(each, func(r Reading) bool { return r.WorkerID == last })]
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
