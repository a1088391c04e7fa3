package jobs

import (
	"context"
	"fmt"

	"kurir/models"
)

// KindReconcile compares what should be with what is, and repairs: whatever failed half way ends up here, so nothing else
// needs an undo of its own. Workers drop what is not theirs by their heartbeats' answers.
const KindReconcile = "sessions:reconcile"

const reconcileLimit = 2000

func (r *Runner) reconcile(ctx context.Context, _ tick) error {
	missing, err := models.CreateMissing(ctx, r.db.Pool, reconcileLimit)
	if err != nil {
		return fmt.Errorf("create missing sessions: %w", err)
	}
	r.start(ctx, KindCreateSession, missing...)
	r.repaired(ctx, "created", len(missing))

	late, err := models.SuspendLate(ctx, r.db)
	if err != nil {
		return fmt.Errorf("suspend sessions: %w", err)
	}
	r.repaired(ctx, "suspended", late)

	stops, logouts, err := models.EndMissing(ctx, r.db.Pool, reconcileLimit)
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	r.start(ctx, KindStopSession, stops...)
	r.start(ctx, KindLogoutSession, logouts...)
	r.repaired(ctx, "ended", len(stops)+len(logouts))

	freed, err := models.FreeReservations(ctx, r.db.Pool)
	if err != nil {
		return fmt.Errorf("free reservations: %w", err)
	}
	r.repaired(ctx, "unreserved", freed)
	return nil
}

// repaired counts repairs and writes them to the audit trail.
func (r *Runner) repaired(ctx context.Context, kind string, n int) {
	if n == 0 {
		return
	}
	r.metrics.Repairs(kind, n)
	r.log.Info("sessions repaired", "kind", kind, "count", n)
	r.audit(ctx, models.Audit{Message: "sessions.repaired", Details: map[string]any{"kind": kind, "count": n}})
}

// audit writes a line about what is done already: if that fails, the log has it.
func (r *Runner) audit(ctx context.Context, line models.Audit) {
	line.Service = "runner"
	if err := models.WriteAudit(ctx, r.db.Pool, line); err != nil {
		r.log.Error("audit line not written", "message", line.Message, "details", line.Details, "error", err)
	}
}
