package jobs

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"kurir/models"
	"kurir/monitoring"
	"kurir/tracing"
	"kurir/wire"
)

// KindSendMessages wakes a session's lane, which sends, in order, the messages that the session owes. The API wakes
// it after each accept, a session that connects after it was away, the sweep what these missed.
const KindSendMessages = "message:send"

// SendMessages is its payload.
type SendMessages struct {
	SessionUID uuid.UUID `json:"sessionUid"`
}

func (SendMessages) kind() string            { return KindSendMessages }
func (SendMessages) options() []asynq.Option { return laneOptions(QueueMessages) }

const (
	sendClaim   = 32                     // messages that are claimed together, at most
	sendFirst   = 4                      // and at first
	sendRound   = 250 * time.Millisecond // after which a round writes its outcomes back and claims anew
	sendTimeout = 20 * time.Second       // of one call to the worker
	sendPause   = time.Second            // of the lane when its worker cannot be reached or is not connected
	sendTries   = 8                      // attempts without outcome after which a message is UNKNOWN
	sendBackoff = time.Minute            // longest wait between two of them
)

// sender drains the lanes of sessions.
type sender struct {
	db      *models.DB
	lanes   *Lanes
	workers *Workers
	queue   *Queue
	waker   *Waker
	metrics *monitoring.Metrics
	log     *slog.Logger
	flights flights
	carries carries
	media   MediaFetcher   // nil: media by URL cannot be sent
	luck    func() float64 // for jitter, from 0 to 1
	traces  *tracing.Tracer
}

// run drains one session's lane. A failure needs nothing of its own: what was claimed and not settled is claimed again by
// the lane's next holder, and sent under the same WhatsApp ID, by which workers and phones know it.
func (s *sender) run(ctx context.Context, p SendMessages) error {
	claim := sendFirst
	wake, err := s.lanes.drain(ctx, p.SessionUID, models.LaneMessages, func(ctx context.Context, h *models.Hold) (step, error) {
		return s.round(ctx, h, &claim)
	})
	s.waker.Messages(wake...)
	return err
}

// round claims a few messages and sends them one after another. size is how many: as many as the rounds before could send
// in their time, since what is claimed and not sent has to be put back.
func (s *sender) round(ctx context.Context, h *models.Hold, size *int) (step, error) {
	if s.workers.resting(h.Worker) {
		return step{pause: sendPause}, nil // what would be claimed would have to be put back
	}
	asked := *size
	claim, err := s.lanes.claim(ctx, h, asked)
	switch {
	case err != nil:
		return step{}, err
	case !claim.Held:
		return step{lost: true}, nil
	case len(claim.Messages) == 0 && (!claim.Connected || claim.Paused):
		return step{pause: time.Millisecond}, nil // parked: the sweep passes it over until the session is connected and goes on
	case len(claim.Messages) == 0:
		return s.rest(ctx, h.Lane, claim), nil
	}
	r := s.newRound(*h, claim)
	r.batch = s.batchOf(ctx, claim)
	defer r.batch.End()
	client, err := s.workers.Of(ctx, claim.WorkerID)
	if err != nil {
		s.log.Warn("worker of session not usable", "session", h.Lane, "worker", claim.WorkerID, "error", err)
		r.pause = sendPause
	}
	for i := range claim.Messages {
		r.one(ctx, client, &claim.Messages[i])
	}
	if time.Now().After(r.end) {
		*size = max(*size/2, 1)
	} else {
		*size = min(*size*2, sendClaim)
	}
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer cancel()
	if err := r.write(settle); err != nil {
		return step{}, err
	}
	// A claim that came back short has seen nearly all that was due: the release looks for the rest.
	ended := len(claim.Messages) < asked && !h.Guarded && r.ended()
	return step{lost: r.lost, pause: r.pause, left: r.left, idle: ended, ended: ended, keep: ended}, nil
}

func (s *sender) newRound(h models.Hold, claim *models.Claim) *sendRoundState {
	return &sendRoundState{sender: s, hold: h, claim: claim, blocked: map[string]time.Time{}, end: time.Now().Add(sendRound),
		paced: paced{state: claim.Guard.State, cooldown: claim.Guard.Cooldown, read: time.Now()}}
}

// sendRoundState is one round on its way.
type sendRoundState struct {
	*sender
	hold     models.Hold
	claim    *models.Claim
	outcomes []models.Outcome
	blocked  map[string]time.Time // chats with a message that is not settled, and until when
	pause    time.Duration        // set: nothing more is sent in this round
	lost     bool
	left     bool // something stays unsettled, see models.Settle
	end      time.Time
	paced                // see pace.go
	fetch    []uuid.UUID // messages that wait for their medium
	batch    tracing.Span
}

// one sends a message, or puts it back where it must wait for another one.
func (r *sendRoundState) one(ctx context.Context, client *WorkerClient, m *models.Claimed) {
	now := r.clock()
	until, blocked := r.blocked[m.Chat]
	switch {
	case blocked:
		r.putBack(m, until)
	case m.ExpiresAt != nil && m.ExpiresAt.Before(now):
		r.expire(m, now)
	case r.lost || r.pause > 0 || r.gated || time.Now().After(r.end) || ctx.Err() != nil:
		r.putBack(m, now)
	case m.Attempts >= sendTries: // each time the runner died with it in hand
		r.giveUp(m, now)
	case m.Unfetched():
		r.awaitMedium(m, now)
	case r.closedTo(m):
		r.park(m)
	default:
		r.send(ctx, client, m)
	}
}

func (r *sendRoundState) send(ctx context.Context, client *WorkerClient, m *models.Claimed) {
	ctx, span := r.traces.Continue(ctx, tracing.Consumer, KindSendMessages, text(m.Trace), r.batch)
	defer span.End()
	m.Trace = span.Carried(m.Trace) // what is told of its outcome was caused here
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	defer r.flights.begin(r.hold.Lane, r.claim.Epoch, cancel)()
	send := wireOf(r.claim, r.hold, m)
	send.Typing = r.typing(m)
	result, err := client.Send(ctx, r.hold.Lane.String(), send)
	noteSend(span, r.hold.Lane, m, result, err)
	r.settle(m, result, err)
}

// refusedForGood are the refusals that lie in the message itself: nothing was sent and nothing ever will be.
var refusedForGood = map[string]bool{wire.CodeUnsupported: true, wire.CodeInvalidRequest: true, wire.CodeTooLarge: true}

// settle turns the worker's answer into an outcome.
func (r *sendRoundState) settle(m *models.Claimed, result wire.SendResult, err error) {
	now := r.clock()
	switch {
	case err == nil && result.Outcome == wire.OutcomeSent:
		if result.Timestamp.IsZero() {
			result.Timestamp = now
		}
		r.wentOut(m)
		r.metrics.Messages("sent", 1)
		r.metrics.AcceptToSent(now.Sub(r.since(m, now)))
		r.add(models.Outcome{Message: &m.Message, Status: models.MessageSent, At: result.Timestamp})
	case err == nil && result.Outcome == wire.OutcomeThrottled:
		r.throttled(m, result)
		r.putBack(m, now)
	case err == nil && result.Outcome == wire.OutcomeFailed:
		r.went()
		r.metrics.Messages("failed", 1)
		r.add(models.Outcome{Message: &m.Message, Status: models.MessageFailed, Code: result.Code, Error: result.Error, At: now})
	case err != nil && refusedForGood[wire.Code(err)]:
		r.metrics.Messages("failed", 1)
		r.add(models.Outcome{Message: &m.Message, Status: models.MessageFailed, Code: wire.Code(err), Error: "The worker refused the message.", At: now})
	case wire.Code(err) == wire.CodeMediaUnavailable && wire.NotSent(err):
		r.awaitCarried(m, now, err)
	case err != nil && wire.NotSent(err):
		// Nothing went out, now. The lane comes again; the message spends no attempt.
		r.lost = wire.Code(err) == wire.CodeStaleGeneration
		r.pause = sendPause
		level := slog.LevelInfo
		if wire.Code(err) == wire.CodeUnauthenticated { // the processes do not have the same ENCRYPTION_KEY
			level = slog.LevelError
		}
		r.log.Log(context.Background(), level, "send put off", "session", r.hold.Lane, "message", m.ID, "reason", err)
		r.putBack(m, now)
	default:
		r.inDoubt(m, now, err)
	}
}

// inDoubt leaves a message unsettled, to be sent again under the same WhatsApp ID, until it has no attempts left.
func (r *sendRoundState) inDoubt(m *models.Claimed, now time.Time, cause error) {
	r.wentOut(m)
	tries := m.Attempts + 1
	r.log.Warn("outcome of send unknown", "session", r.hold.Lane, "message", m.ID, "attempt", tries, "error", cause)
	if tries >= sendTries {
		r.giveUp(m, now)
		return
	}
	next := now.Add(backoff(tries, sendBackoff))
	r.blocked[m.Chat] = next
	r.add(models.Outcome{Message: &m.Message, Status: models.MessageSending, NextAttemptAt: &next, Tried: true, At: now,
		Code: "outcome_unknown", Error: "The worker did not say whether the message went out. It is sent again, as the same message."})
	var timeout interface{ Timeout() bool }
	if errors.As(cause, &timeout) && timeout.Timeout() {
		r.pause = sendPause // a worker that hangs must not hold the slot for one timeout after another
	}
}

func (r *sendRoundState) giveUp(m *models.Claimed, now time.Time) {
	r.metrics.Messages("unknown", 1)
	r.add(models.Outcome{Message: &m.Message, Status: models.MessageUnknown, Code: "outcome_unknown",
		Error: "The worker never said whether the message went out.", Tried: true, At: now})
}

func (r *sendRoundState) expire(m *models.Claimed, now time.Time) {
	if !m.Fresh {
		r.giveUp(m, now)
		return
	}
	r.metrics.Messages("expired", 1)
	r.add(models.Outcome{Message: &m.Message, Status: models.MessageExpired, Code: "expired",
		Error: "The message could not be sent before it expired.", At: now})
}

// putBack returns a message that was not sent in this round: to PENDING if it was never tried, else it stays in doubt.
func (r *sendRoundState) putBack(m *models.Claimed, until time.Time) {
	switch {
	case m.Parked && m.Fresh: // it keeps its place among the strangers
		r.park(m)
		return
	case m.Fresh:
		r.add(models.Outcome{Message: &m.Message, Status: models.MessagePending, At: until})
		return
	}
	r.blocked[m.Chat] = until
	r.add(models.Outcome{Message: &m.Message, Status: models.MessageSending, NextAttemptAt: &until, At: until})
}

// ended reports whether all that was claimed has come to its end.
func (r *sendRoundState) ended() bool {
	return !slices.ContainsFunc(r.outcomes, func(o models.Outcome) bool {
		return o.Status == models.MessagePending || o.Status == models.MessageSending
	})
}

func (r *sendRoundState) add(o models.Outcome) {
	o.KeepError()
	r.outcomes = append(r.outcomes, o)
}
