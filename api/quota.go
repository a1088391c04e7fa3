package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
	"kurir/throttle"
)

// A message is counted in Redis before it is stored, and given back if it is not: so never more than the tier's number are
// stored, however many processes store them. What Redis has lost is counted anew from PostgreSQL, see
// models.RecountMessages.

var errMessageLimit = fault.New(fault.Limited, "message_limit", "")

// quotaTries is how often a message is let in again because its count was made anew meanwhile.
const quotaTries = 20

// counted has accept store messages of the caller, if his tier allows them.
func (a *API) counted(ctx context.Context, list []*models.NewMessage, accept func() error) error {
	user := callerOf(ctx).user
	former := int64(-1) // the epoch that the last try found to be past
	for range quotaTries {
		t, err := a.takeMessages(ctx, user, len(list))
		switch {
		case errors.Is(err, throttle.ErrDown):
			return a.acceptUncounted(user, list, accept, err)
		case err != nil:
			return err
		case !t.Allowed:
			return a.overMessages(ctx, user, t)
		case t.Epoch == former: // Redis has what PostgreSQL has given up
			a.forgetCount(ctx, t)
			continue
		}
		for _, m := range list {
			m.Quota, m.Before = &t.Epoch, false
		}
		err = accept()
		if errors.Is(err, models.ErrQuotaMoved) {
			former = t.Epoch
			continue
		}
		a.settleCount(ctx, t, list, err)
		return err
	}
	return models.ErrQuotaMoved
}

// settleCount gives back what was counted and not stored. Where nobody knows whether it was, the count is made anew.
func (a *API) settleCount(ctx context.Context, t throttle.Taken, list []*models.NewMessage, failed error) {
	back := 0
	switch {
	case failed != nil && fault.Of(failed) == fault.Unavailable:
		a.forgetCount(ctx, t)
		return
	case failed != nil:
		back = len(list)
	default:
		for _, m := range list {
			if m.Before {
				back++
			}
		}
		a.noteRate(ctx, t)
	}
	if back == 0 {
		return
	}
	if err := a.limiter.store.Give(ctx, t, back); err != nil {
		a.limiter.uncounted.Store(callerOf(ctx).user.ID, true)
	}
}

func (a *API) forgetCount(ctx context.Context, t throttle.Taken) {
	if err := a.limiter.store.Forget(ctx, t.Ask.Key, t.Epoch); err != nil {
		a.limiter.uncounted.Store(callerOf(ctx).user.ID, true)
	}
}

func (a *API) noteRate(ctx context.Context, t throttle.Taken) {
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); ok {
		info.rates = append(info.rates, rate{t.Ask.Policy, t.Quota})
	}
}

// acceptUncounted stores messages while Redis does not answer. They are counted when it is back.
func (a *API) acceptUncounted(user *models.User, list []*models.NewMessage, accept func() error, down error) error {
	a.limiter.unchecked(user.Limits(a.cfg.Tiers).Messages().Name, down)
	for _, m := range list {
		m.Quota = nil
	}
	err := accept()
	a.limiter.uncounted.Store(user.ID, true)
	return err
}

// takeMessages counts n messages, with a count that is complete.
func (a *API) takeMessages(ctx context.Context, user *models.User, n int) (throttle.Taken, error) {
	p := user.Limits(a.cfg.Tiers).Messages()
	ask := throttle.Ask{Key: userKey(p, user.ID), Policy: p, N: n, Strict: true}
	if _, ok := a.limiter.uncounted.LoadAndDelete(user.ID); ok {
		if err := a.limiter.store.Clear(ctx, ask.Key); err != nil {
			a.limiter.uncounted.Store(user.ID, true)
			return throttle.Taken{}, err
		}
	}
	for range quotaTries {
		taken, err := a.limiter.store.Take(ctx, ask)
		if err != nil {
			return throttle.Taken{}, err
		}
		if !taken[0].Missing {
			return taken[0], nil
		}
		if err := a.recount(ctx, user.ID, ask); err != nil {
			return throttle.Taken{}, err
		}
	}
	return throttle.Taken{}, models.ErrQuotaMoved
}

// recountTimeout is of a count in PostgreSQL.
const recountTimeout = 20 * time.Second

// recount makes a user's count from PostgreSQL, once for all who need it.
func (a *API) recount(ctx context.Context, user uuid.UUID, ask throttle.Ask) error {
	_, err, _ := a.limiter.recounts.Do(user.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recountTimeout)
		defer cancel()
		p := ask.Policy
		r, err := models.RecountMessages(ctx, a.db, user, time.Duration(p.Kept())*p.Width(), p.Width())
		if err != nil {
			return nil, databaseFault(err)
		}
		a.metrics.MessagesRecounted()
		return nil, a.limiter.store.Install(ctx, ask.Key, p, r.Epoch, r.Counts)
	})
	return err
}

// mayMessage refuses a user who has reached his limit, without counting anything.
func (a *API) mayMessage(ctx context.Context, user *models.User) error {
	p := user.Limits(a.cfg.Tiers).Messages()
	taken, err := a.limiter.store.Take(ctx, throttle.Ask{Key: userKey(p, user.ID), Policy: p, Strict: true})
	if err != nil || taken[0].Missing || taken[0].Allowed {
		return nil
	}
	return a.overMessages(ctx, user, taken[0])
}

// overMessages is the refusal of messages that would be too many.
func (a *API) overMessages(ctx context.Context, user *models.User, t throttle.Taken) error {
	a.noteRate(ctx, t)
	a.metrics.RateLimited(t.Ask.Policy.Name)
	a.limitReached(user, t.Ask.Policy.Name)
	f := *errMessageLimit
	f.Sentence = fmt.Sprintf("Message limit exceeded. %s allows %d messages per hour", user.LimitedBy(user.MaxMessagesPerHour), t.Limit)
	if t.Ask.N > 1 {
		f.Sentence += fmt.Sprintf("; of these %d, %d would fit now", t.Ask.N, t.Left)
	}
	return f.After(t.Retry)
}
