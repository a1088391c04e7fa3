package jobs

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
	"kurir/recent"
	"kurir/wire"
)

const (
	carryBackoff = 30 * time.Second // longest wait between two questions for a medium
	carryKnown   = 10 * time.Minute // for which it is remembered how often was asked; longer than that wait
)

// carries count how often a worker had a message's medium not at hand. They are this process's own, and may be forgotten: then
// the waits begin anew.
type carries struct {
	once  sync.Once
	asked *recent.Values[uuid.UUID, int]
}

func (c *carries) again(id uuid.UUID) int {
	c.once.Do(func() { c.asked = recent.New[uuid.UUID, int](10_000, carryKnown) })
	n, _ := c.asked.Get(id)
	c.asked.Add(id, n+1)
	return n + 1
}

// awaitCarried holds a message whose medium its worker can't send yet: it is being carried to the network, or can't be had.
// Nothing was sent, so that no attempt is spent; its chat waits, others go on. The message's expiry ends it.
func (r *sendRoundState) awaitCarried(m *models.Claimed, now time.Time, cause error) {
	until := now.Add(backoff(r.carries.again(m.ID), carryBackoff))
	if m.ExpiresAt != nil && m.ExpiresAt.Before(until) {
		until = *m.ExpiresAt
	}
	r.log.Info("medium not at hand", "session", r.hold.Lane, "message", m.ID, "until", until, "reason", cause)
	r.holdFor(m, until, now, errNotAtHand)
}

// errNotAtHand is told of a message whose medium the worker can't send yet.
var errNotAtHand = fault.New(fault.Unavailable, wire.CodeMediaUnavailable, "The session's worker is carrying the medium to the network, or cannot have it at this moment.")

// holdFor holds a message until then for its medium. why is that of the last try, nil if there was none.
func (r *sendRoundState) holdFor(m *models.Claimed, until, now time.Time, why *fault.Error) {
	r.blocked[m.Chat] = until
	status := models.MessagePending
	if !m.Fresh { // later ones of its chat may be in doubt, and it must not fall behind them
		status = models.MessageSending
	}
	o := models.Outcome{Message: &m.Message, Status: status, NextAttemptAt: &until, WaitingFor: models.WaitingMedia, At: now}
	if why != nil {
		o.Code, o.Error = why.Code, why.Sentence
	}
	r.add(o)
}
