package api

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kurir/models"
)

const auditTimeout = 5 * time.Second

// audited sees to it that every operation that changes something leaves its line: the first transaction of the handler that
// changes something writes it, or else it is written here, after a success. What a handler knows beyond who, what and where from,
// it says by tell, before it changes anything.
func (a *API) audited(ctx huma.Context, next func(huma.Context)) {
	action, _ := ctx.Operation().Metadata[metaAudit].(string)
	if action == "" {
		next(ctx)
		return
	}
	c := humafiber.Unwrap(ctx)
	inner, trail := models.WithTrail(ctx.Context(), a.lineOf(ctx, c, action))
	next(huma.WithContext(ctx, inner))
	if c.Response().StatusCode() < http.StatusBadRequest && !trail.Told() {
		a.auditDone(inner, models.Audit{})
	}
}

// lineOf is what is known before the handler runs.
func (a *API) lineOf(ctx huma.Context, c *fiber.Ctx, action string) models.Audit {
	line := models.Audit{Service: "api", Message: action, Actor: models.ActorAnonymous, IP: addressOf(ctx.Context()), RequestID: requestIDOf(ctx.Context())}
	need, _ := ctx.Operation().Metadata[metaAccess].(access)
	if need == accessWorker {
		line.Actor = models.ActorWorker
	}
	if p := callerOf(ctx.Context()); p != nil {
		line.User, line.Target, line.Key = p.user.ID, p.user.ID, p.key
		switch {
		case need == accessAdmin:
			line.Actor, line.Target = models.ActorAdministrator, uuid.Nil
		case p.token:
			line.Actor = models.ActorUser
		default:
			line.Actor = models.ActorAPIKey
		}
		line.Session = p.name
	}
	others := map[string]string{}
	for name, value := range c.AllParams() {
		id, err := uuid.Parse(value)
		switch {
		case name == "id":
			line.Session = value
		case name == "workerId":
			line.Worker = value
		case name == "userId" && err == nil:
			line.Target = id
		case err == nil: // never an address
			others[name] = id.String()
		}
	}
	if len(others) > 0 {
		line.Details = others
	}
	return line
}

// tell adds to the line of the request what its handler knows.
func tell(ctx context.Context, say func(line *models.Audit)) { models.TrailOf(ctx).Say(say) }

// tellNothing leaves the request without a line: it found everything as it should be.
func tellNothing(ctx context.Context) { models.TrailOf(ctx).Tell() }

// audit writes a line about what the caller changes, in the transaction of the change. It stands for the request's own.
func (a *API) audit(ctx context.Context, q models.Querier, line models.Audit) error {
	trail := models.TrailOf(ctx)
	if trail == nil {
		trail = &models.Trail{}
		trail.Say(func(base *models.Audit) {
			*base = models.Audit{Actor: models.ActorWorker, RequestID: requestIDOf(ctx), IP: addressOf(ctx)}
		})
	}
	whole := merged(trail.Line(), line)
	whole.Service = "api"
	if err := models.WriteAudit(ctx, q, whole); err != nil {
		return err
	}
	trail.Tell()
	return nil
}

// merged is a line with what another one says beyond it.
func merged(base, more models.Audit) models.Audit {
	if more.Message != "" {
		base.Message = more.Message
	}
	if more.Level != "" {
		base.Level = more.Level
	}
	if more.Details != nil {
		base.Details = more.Details
	}
	if more.Session != "" {
		base.Session = more.Session
	}
	if more.Worker != "" {
		base.Worker = more.Worker
	}
	if more.Actor != "" {
		base.Actor = more.Actor
	}
	if more.User != uuid.Nil {
		base.User = more.User
	}
	if more.Target != uuid.Nil {
		base.Target = more.Target
	}
	return base
}

// auditDone is audit for what is done already: if it fails, the log has it.
func (a *API) auditDone(ctx context.Context, line models.Audit) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := a.audit(within, a.db.Pool, line); err != nil {
		whole := merged(models.TrailOf(ctx).Line(), line)
		a.log.Error("audit line not written", "message", whole.Message, "user", whole.User, "session", whole.Session, "worker", whole.Worker,
			"details", whole.Details, "requestId", requestIDOf(ctx), "error", err)
	}
}

// loginFailed writes down who tried in vain, as far as that can be said: u is nil if there is no such user. The mail address is
// not kept, only what tells two of them apart.
func (a *API) loginFailed(ctx context.Context, email string, u *models.User) {
	line := models.Audit{Level: "WARN", Service: "api", Message: "user.login_failed", Actor: models.ActorAnonymous, IP: addressOf(ctx), RequestID: requestIDOf(ctx)}
	if u != nil {
		line.Target = u.ID
	} else {
		mac := hmac.New(sha256.New, a.cfg.JWTSecret)
		_, _ = mac.Write([]byte("audit of " + strings.ToLower(strings.TrimSpace(email)))) // never fails, see hash.Hash
		line.Details = map[string]string{"mail": hex.EncodeToString(mac.Sum(nil)[:8])}
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := models.WriteAudit(within, a.db.Pool, line); err != nil {
		a.log.Error("audit line not written", "message", line.Message, "user", line.Target, "requestId", line.RequestID, "error", err)
	}
}
