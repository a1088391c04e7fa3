package models

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/fault"
	"kurir/placement"
)

// ErrNoWorker says that nobody has room.
var ErrNoWorker = fault.New(fault.Unavailable, "no_worker_available", "No worker has room for another session now. Try again later.").After(30 * time.Second)

// onlySimulated is its sentence where simulated phones have room, which take no new sessions beside real workers.
const onlySimulated = "No worker that speaks to WhatsApp has room for another session now, and simulated phones take none while such a worker is registered. Try again later."

// placementLock is the advisory lock under which room on workers is counted and taken ("place" in ASCII).
const placementLock int64 = 0x706c616365

// candidate is a worker whose lease lives, as placement sees it.
type candidate struct {
	ID          string
	Engine      string
	Online      bool
	Resting     bool
	Sessions    int
	MaxSessions int
	CPU         float64
	Memory      float64
	Troubled    int
	Outdated    bool
}

// outdatedWorker is whether the network has refused the version of w's present process.
const outdatedWorker = `EXISTS (SELECT 1 FROM worker_streams e WHERE e.worker_id = w.id AND e.outdated_term = w.term)`

// candidates reads all workers whose lease lives. Room that is reserved for a session on its way counts as taken.
const candidates = `SELECT w.id, w.engine, w.status = 'ONLINE' AS online,
	coalesce(w.resting_until > now(), false) OR w.probe_failures >= 3 AS resting,
	(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id) + (SELECT count(*) FROM sessions s WHERE s.moving_to = w.id) AS sessions,
	least(w.max_sessions, w.session_cap) AS max_sessions, w.cpu_usage AS cpu, w.memory_usage AS memory,
	(SELECT count(*) FROM sessions s WHERE s.worker_id = w.id AND s.trouble_at IS NOT NULL) AS troubled,
	` + outdatedWorker + ` AS outdated
	FROM workers w WHERE w.lease_expires_at > now() AND w.removed_at IS NULL ORDER BY w.id`

// fleet is the candidates by engine: a session stays with the kind of network that it is linked to.
type fleet map[string][]placement.Worker

func fleetOf(list []candidate) fleet {
	f := fleet{}
	for _, c := range list {
		f[c.Engine] = append(f[c.Engine], placement.Worker{ID: c.ID, Online: c.Online, Resting: c.Resting || c.Outdated, Sessions: c.Sessions,
			MaxSessions: c.MaxSessions, CPU: c.CPU, Memory: c.Memory, Troubled: c.Troubled, Outdated: c.Outdated})
	}
	return f
}

// without is the workers of an engine but one.
func (f fleet) without(engine, id string) []placement.Worker {
	var others []placement.Worker
	for _, w := range f[engine] {
		if w.ID != id {
			others = append(others, w)
		}
	}
	return others
}

// worker finds one of an engine's workers.
func (f fleet) worker(engine, id string) (placement.Worker, bool) {
	for _, w := range f[engine] {
		if w.ID == id {
			return w, true
		}
	}
	return placement.Worker{}, false
}

// enginesWithRoom are those that somebody who is online has room for.
func (f fleet) enginesWithRoom() []string {
	list := []string{}
	for engine, workers := range f {
		if _, ok := placement.Pick(workers); ok {
			list = append(list, engine)
		}
	}
	return list
}

// registeredEngines are those of all workers that are not removed, whether their leases live or not.
const registeredEngines = `SELECT DISTINCT engine FROM workers WHERE removed_at IS NULL`

// forNew is the workers that new sessions go to.
func (f fleet) forNew(registered []string) (list []placement.Worker) {
	for engine, workers := range f {
		if placement.TakesNew(engine, registered) {
			list = append(list, workers...)
		}
	}
	return list
}

// count changes the number of sessions of a worker, of which there may be none by that ID.
func (f fleet) count(engine, id string, by int) {
	for i := range f[engine] {
		if w := &f[engine][i]; w.ID == id {
			w.Sessions += by
		}
	}
}

// readFleet reads the candidates as they are, to look at them. Whoever takes room calls lockFleet.
func readFleet(ctx context.Context, q Querier) (fleet, error) {
	rows, err := q.Query(ctx, candidates)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[candidate])
	return fleetOf(list), err
}

// lockFleet reads the candidates under the placement lock, so that what was counted stays true until the transaction
// ends and what it took counts too.
func lockFleet(ctx context.Context, tx pgx.Tx) (fleet, error) {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", placementLock); err != nil {
		return nil, err
	}
	return readFleet(ctx, tx)
}

// place picks the worker for one more session, of the engines that take new ones, as lockFleet does.
func place(ctx context.Context, tx bun.Tx) (worker, engine string, err error) {
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?)", placementLock); err != nil {
		return "", "", err
	}
	var list []candidate
	if err := tx.NewRaw(candidates).Scan(ctx, &list); err != nil {
		return "", "", err
	}
	var registered []string
	if err := tx.NewRaw(registeredEngines).Scan(ctx, &registered); err != nil {
		return "", "", err
	}
	workers := fleetOf(list)
	if id, ok := placement.Pick(workers.forNew(registered)); ok {
		at := slices.IndexFunc(list, func(c candidate) bool { return c.ID == id })
		return id, list[at].Engine, nil
	}
	refusal := *ErrNoWorker
	if _, ok := placement.Pick(workers[placement.Simulator]); ok {
		refusal.Sentence = onlySimulated
	}
	return "", "", &refusal
}
