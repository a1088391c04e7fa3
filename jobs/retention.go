package jobs

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"kurir/models"
)

// KindRetention drops messages, events and deliveries whose time is over. What only the installation's retention ends goes by
// whole months, in milliseconds, so up to a month late; what a user wants dropped earlier goes row by row.
const KindRetention = "history:retain"

const (
	retentionRows  = 2000             // dropped in one statement
	retentionTime  = 20 * time.Second // of one tick; the next one goes on
	sweepTime      = 6 * time.Second  // of it, for what deleted webhooks leave
	retentionUsers = 200              // read at once
)

func (r *Runner) retain(ctx context.Context, _ tick) error {
	now := time.Now()
	deadline := now.Add(retentionTime)
	if err := r.sweepDeliveries(ctx, now.Add(sweepTime)); err != nil {
		return err
	}
	if keep := r.cfg.KeepMessages; keep > 0 {
		if err := r.dropMonths(ctx, models.MessagePartitions, now.Add(-keep), deadline); err != nil {
			return err
		}
	}
	if keep := r.cfg.KeepDeliveries; keep > 0 {
		if err := r.dropMonths(ctx, models.EventPartitions, now.Add(-keep), deadline); err != nil {
			return err
		}
		n, err := until(deadline, func() (int, error) { return models.DropDeliveries(ctx, r.db.Pool, now.Add(-keep), retentionRows) })
		if err != nil {
			return fmt.Errorf("drop deliveries: %w", err)
		}
		r.dropped("deliveries", n)
	}
	if _, err := until(deadline, func() (int, error) { return models.DropLateEvents(ctx, r.db.Pool, now, retentionRows) }); err != nil {
		return fmt.Errorf("drop keys of late events: %w", err)
	}
	return r.retainOwn(ctx, now, deadline)
}

// sweepDeliveries removes what deleted webhooks leave, whatever the retention.
func (r *Runner) sweepDeliveries(ctx context.Context, deadline time.Time) error {
	n, err := until(deadline, func() (int, error) { return models.SweepDeliveries(ctx, r.db.Pool, retentionRows) })
	if err == nil {
		err = models.ForgetWebhooks(ctx, r.db.Pool)
	}
	if err != nil {
		return fmt.Errorf("sweep deliveries: %w", err)
	}
	r.dropped("deliveries of deleted webhooks", n)
	return nil
}

// dropMonths drops the months that lie before a time, oldest first.
func (r *Runner) dropMonths(ctx context.Context, family []string, before, deadline time.Time) error {
	for time.Now().Before(deadline) {
		dropped, err := models.DropMonth(ctx, r.db, family, before)
		if err != nil || !dropped {
			return err
		}
		r.log.Info("month dropped", "of", family[0], "before", before)
	}
	return nil
}

// retainOwn does what users want for themselves.
func (r *Runner) retainOwn(ctx context.Context, now, deadline time.Time) error {
	after := uuid.Nil
	for {
		users, err := models.Keepers(ctx, r.db.Pool, after, retentionUsers)
		if err != nil {
			return fmt.Errorf("list retentions: %w", err)
		}
		for _, u := range users {
			if time.Now().After(deadline) {
				return nil
			}
			if err := r.retainOf(ctx, u, now, deadline); err != nil {
				return err
			}
			after = u.User
		}
		if len(users) < retentionUsers {
			return nil
		}
	}
}

func (r *Runner) retainOf(ctx context.Context, u models.Keeper, now, deadline time.Time) error {
	before := now.AddDate(0, 0, -u.Days)
	sessions, err := models.AllSessions(ctx, r.db.Pool, u.User)
	if err != nil {
		return fmt.Errorf("list sessions of %s: %w", u.User, err)
	}
	total := 0
	for _, session := range sessions {
		n, err := until(deadline, func() (int, error) { return models.DropMessages(ctx, r.db.Pool, session, before, retentionRows) })
		if err != nil {
			return fmt.Errorf("drop messages of %s: %w", session, err)
		}
		total += n
	}
	r.dropped("messages", total)
	n, err := until(deadline, func() (int, error) { return models.DropEvents(ctx, r.db.Pool, u.User, before, retentionRows) })
	if err != nil {
		return fmt.Errorf("drop events of %s: %w", u.User, err)
	}
	r.dropped("events", n)
	return nil
}

// until repeats what drops rows until there are no more, or the time is up.
func until(deadline time.Time, drop func() (int, error)) (total int, err error) {
	for time.Now().Before(deadline) {
		n, err := drop()
		total += n
		if err != nil || n < retentionRows {
			return total, err
		}
	}
	return total, nil
}

func (r *Runner) dropped(what string, n int) {
	if n > 0 {
		r.log.Info("time is over", "what", what, "count", n)
	}
}
