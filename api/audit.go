package api

import (
	"context"

	"kurir/models"
)

// audit writes a line about what the caller changes, in the transaction of the change.
func (a *API) audit(ctx context.Context, q models.Querier, line models.Audit) error {
	line.Service = "api"
	if p := callerOf(ctx); p != nil {
		line.User = p.user.ID
	}
	return models.WriteAudit(ctx, q, line)
}

// auditDone is audit for what is done already: if it fails, the log has it.
func (a *API) auditDone(ctx context.Context, line models.Audit) {
	if err := a.audit(ctx, a.db.Pool, line); err != nil {
		a.log.Error("audit line not written", "message", line.Message, "worker", line.Worker, "details", line.Details, "error", err)
	}
}
