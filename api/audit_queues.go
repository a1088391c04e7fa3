package api

import (
	"context"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"kurir/models"
)

// The queues' dashboard is no operation of the API, so its lines are written here.

// auditQueues writes down what an administrator did there.
func (a *API) auditQueues(c *fiber.Ctx, u *models.User, action string, details any) {
	ctx := c.UserContext()
	line := models.Audit{Service: "api", Message: action, Details: details, Actor: models.ActorAdministrator, User: u.ID, IP: addressOf(ctx), RequestID: requestIDOf(ctx)}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := models.WriteAudit(within, a.db.Pool, line); err != nil {
		a.log.Error("audit line not written", "message", line.Message, "user", line.User, "details", details, "requestId", line.RequestID, "error", err)
	}
}

// changeQueues passes a request on to the dashboard, and writes down what changed something.
func (a *API) changeQueues(c *fiber.Ctx, u *models.User) error {
	if err := c.Next(); err != nil {
		return err
	}
	if c.Method() != http.MethodGet && c.Method() != http.MethodHead && c.Response().StatusCode() < http.StatusBadRequest {
		a.auditQueues(c, u, "queues.changed", map[string]string{"method": c.Method(), "path": short(c.Path())})
	}
	return nil
}
