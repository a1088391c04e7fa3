package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/models"
)

// KindCloseAccount removes what an account leaves that was closed: its sessions, which unlink their phones by their own jobs, then
// messages, events, deliveries and media, and at last the row of the account itself. Each step is bounded and finds by itself what
// is left to do, so a killed runner's successor begins with the first one and soon stands where the other stood.
const KindCloseAccount = models.KindCloseAccount

const (
	closeRows = 1000             // removed in one statement
	closeTime = 20 * time.Second // of one run; then it lets others have the slot
	closeLook = 3 * time.Second  // between looks at what others have to finish
)

// closer is one run of the job.
type closer struct {
	r        *Runner
	user     uuid.UUID
	deadline time.Time
}

func (r *Runner) closeAccount(ctx context.Context, j *models.Job) (any, error) {
	var p models.Closing
	if err := json.Unmarshal(j.Params, &p); err != nil || p.User == uuid.Nil {
		return nil, errNoSubject.WithCause(err)
	}
	if closed, err := models.IsClosed(ctx, r.db.Pool, p.User); err != nil || !closed { // removed already, but for saying so
		return map[string]any{}, err
	}
	c := &closer{r: r, user: p.User, deadline: time.Now().Add(closeTime)}
	for _, step := range c.steps() {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("close account %s: %w", p.User, err)
		}
	}
	return map[string]any{}, nil
}

func (c *closer) steps() []func(context.Context) error {
	return []func(context.Context) error{c.deliveries, c.sessions, c.deliveries, c.history, c.events, c.media, c.trail, c.account}
}

// all repeats a bounded statement until it finds nothing, or the run has lasted long enough.
func (c *closer) all(remove func() (int, error)) error {
	for {
		n, err := remove()
		if err != nil || n == 0 {
			return err
		}
		if time.Now().After(c.deadline) {
			return later{0}
		}
	}
}

func (c *closer) deliveries(ctx context.Context) error {
	return c.all(func() (int, error) { return models.ClosedDeliveries(ctx, c.r.db.Pool, c.user, closeRows) })
}

// sessions go on when no worker holds one any more.
func (c *closer) sessions(ctx context.Context) error {
	started, err := models.CloseSessions(ctx, c.r.db, c.user, KindDeleteSession)
	if err != nil {
		return err
	}
	c.r.queue.StartJobs(ctx, KindDeleteSession, started)
	held, err := models.SessionsHeld(ctx, c.r.db.Pool, c.user)
	if err == nil && held {
		err = later{closeLook}
	}
	return err
}

func (c *closer) history(ctx context.Context) error {
	sessions, err := models.AllSessions(ctx, c.r.db.Pool, c.user)
	if err != nil {
		return err
	}
	for _, session := range sessions {
		if err := c.all(func() (int, error) { return models.ClosedHistory(ctx, c.r.db.Pool, session, closeRows) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *closer) events(ctx context.Context) error {
	return c.all(func() (int, error) { return models.ClosedEvents(ctx, c.r.db.Pool, c.user, closeRows) })
}

// media waits until upkeep has dropped the blobs: it alone knows how to do that beside an upload.
func (c *closer) media(ctx context.Context) error {
	if c.r.cfg.Media == nil {
		return nil
	}
	left, err := models.OfferMedia(ctx, c.r.db.Pool, c.user)
	if err != nil || !left {
		return err
	}
	if err := c.r.queue.Nudge(ctx, KindMediaUpkeep); err != nil {
		c.r.log.Warn("upkeep of media not asked for, its own tick will do", "error", err)
	}
	return later{closeLook}
}

func (c *closer) trail(ctx context.Context) error {
	return c.all(func() (int, error) {
		n, err := models.ForgetAddresses(ctx, c.r.db.Pool, c.user, closeRows)
		return int(n), err
	})
}

func (c *closer) account(ctx context.Context) error {
	return c.r.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		removed, err := models.RemoveAccount(ctx, tx, c.user)
		if err == nil && !removed {
			err = later{closeLook}
		}
		return err
	})
}
