package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"kurir/models"
	"kurir/wire"
)

// KindLeases ends leases that were not renewed and gives the sessions of workers that are gone to others; those that cannot
// reach the network move to who can. Lease expiry, and a worker's own goodbye, are all that ever takes a session from a
// worker that has not released it.
const KindLeases = "workers:leases"

func (r *Runner) expireLeases(ctx context.Context, _ tick) error {
	f, err := models.ExpireLeases(ctx, r.db)
	if err != nil {
		return fmt.Errorf("expire leases: %w", err)
	}
	for _, w := range f.Lapsed {
		r.metrics.LeaseLapsed(w.Silent)
		r.log.Warn("worker is offline: its lease has lapsed", "worker", w.ID, "silent", w.Silent, "flaps", w.Flaps)
	}
	if f.Freed+f.Placed > 0 {
		r.log.Info("sessions assigned anew", "freed", f.Freed, "placed", f.Placed, "jobs", len(f.Jobs))
		r.repaired(ctx, "assigned", f.Placed)
	}
	r.waker.Webhooks(f.Webhooks...)
	r.start(ctx, KindMigrateSession, f.Jobs...)
	moves, err := models.EscapeTrouble(ctx, r.db, r.cfg.TroubleAfter)
	if err != nil {
		return fmt.Errorf("find sessions in trouble: %w", err)
	}
	r.start(ctx, KindMigrateSession, moves...)
	r.repaired(ctx, "moved", len(moves))
	return r.probeSilent(ctx)
}

// KindProbe asks every living worker how it is. Probes inform people and placement; they never take a session away.
const KindProbe = "workers:probe"

const (
	probeTimeout = 5 * time.Second
	silentAfter  = 7 * time.Second // two heartbeats missed
)

func (r *Runner) probe(ctx context.Context, _ tick) error {
	workers, err := models.WorkersAlive(ctx, r.db)
	if err != nil {
		return fmt.Errorf("list workers: %w", err)
	}
	return r.probeAll(ctx, workers, false)
}

// probeSilent asks the workers whose heartbeats have stopped: whoever looks at the list should read why.
func (r *Runner) probeSilent(ctx context.Context) error {
	workers, err := models.SilentWorkers(ctx, r.db, silentAfter)
	if err != nil {
		return fmt.Errorf("list silent workers: %w", err)
	}
	return r.probeAll(ctx, workers, true)
}

func (r *Runner) probeAll(ctx context.Context, workers []models.Worker, silent bool) error {
	var group errgroup.Group
	group.SetLimit(16)
	for i := range workers {
		w := &workers[i]
		group.Go(func() error { return r.probeOne(ctx, w, silent) })
	}
	return group.Wait()
}

func (r *Runner) probeOne(ctx context.Context, w *models.Worker, silent bool) error {
	call, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	health, err := r.workers.client(w).Health(call)
	outcome, problem := diagnose(w, health, err, silent)
	r.metrics.Probe(outcome)
	news, err := models.SetProblem(ctx, r.db.Pool, w.ID, w.Term, problem, outcome != "ok" && outcome != "silent")
	if err != nil {
		return fmt.Errorf("note problem of %s: %w", w.ID, err)
	}
	switch {
	case news && problem != "":
		r.log.Warn("worker has a problem", "worker", w.ID, "endpoint", w.Endpoint, "outcome", outcome, "problem", problem)
	case news:
		r.log.Info("worker is well again", "worker", w.ID)
	}
	return nil
}

// diagnose tells the operator what a probe means. The outcome is for metrics: ok, silent, unreachable, timeout,
// garbage, wrong_term or refused.
func diagnose(w *models.Worker, h wire.Health, err error, silent bool) (outcome, problem string) {
	var refusal *wire.Error
	switch {
	case err != nil && wire.Code(err) == wire.CodeBadAnswer:
		return "garbage", "What answers at " + w.Endpoint + " is no worker of Kurir's: check WORKER_ENDPOINT, and proxies on the way."
	case errors.As(err, &refusal):
		return "refused", "The worker refuses its probe: " + refusal.Code + "."
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout", "The worker takes connections at " + w.Endpoint + " or loses them, and does not answer: it hangs, or a firewall drops packets."
	case err != nil && silent:
		return "unreachable", "The worker has stopped its heartbeats and cannot be reached at " + w.Endpoint + ": it is down, or its host is."
	case err != nil:
		return "unreachable", "The worker's heartbeats come, but it cannot be reached at " + w.Endpoint + ": check WORKER_ENDPOINT and firewalls."
	case h.Term != w.Term:
		return "wrong_term", fmt.Sprintf("The worker at %s answers under term %d, and %d is current: two processes may share this WORKER_ID or endpoint.", w.Endpoint, h.Term, w.Term)
	case silent:
		return "silent", "The worker answers, but its heartbeats do not come: it cannot reach the gateway. Check GATEWAY_URL and the network."
	}
	return "ok", ""
}
