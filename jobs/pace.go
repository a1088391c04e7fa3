package jobs

import (
	"context"
	"time"

	"github.com/google/uuid"

	"kurir/models"
	"kurir/pacing"
	"kurir/wire"
)

const (
	paceInPlace  = 100 * time.Millisecond // a wait that is shorter is not worth giving the lane back
	paceAhead    = time.Minute            // a wait that is longer is left to the sweep
	parkTogether = 1000                   // messages that are parked in one statement
)

// paced is the part of a round that keeps to the session's pace, its caps on new chats, and a pause that its network asks for.
// What it decides is written together with the outcomes.
type paced struct {
	state    pacing.State
	cooldown pacing.Cooldown
	read     time.Time // our time when claim.Guard was read
	moved    bool      // state has changed
	gated    bool      // nothing more goes out in this round
	begun    []string  // chats
	parked   bool      // the caps had somebody wait: there may be many more
}

// clock is PostgreSQL's time, so that runners whose clocks differ keep one pace.
func (r *sendRoundState) clock() time.Time { return r.claim.Guard.Now.Add(time.Since(r.read)) }

func (r *sendRoundState) typing(m *models.Claimed) int64 {
	return r.claim.Guard.Pace.TypingFor(m.Content + deref(m.Caption)).Milliseconds()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// stranger reports whether a message would begin a chat.
func stranger(m *models.Claimed) bool { return m.Fresh && !m.Begun && !m.Heard }

// closedTo reports whether the caps on new chats have a message wait.
func (r *sendRoundState) closedTo(m *models.Claimed) bool {
	p := r.claim.Guard.Pace
	if !p.Capped(m.Chat) || !stranger(m) {
		return false
	}
	at := p.NewChat(r.state)
	if at.After(r.clock()) {
		r.state.NewChatAt, r.moved, r.parked = at, true, true
		return true
	}
	return false
}

// since is from when on a message could have gone out, as far as pace and network are concerned: what was meant to wait is not late.
func (r *sendRoundState) since(m *models.Claimed, now time.Time) time.Time {
	since := m.DueSince()
	if open := pacing.OpenSince(r.claim.Guard.State, r.claim.Guard.Cooldown, m.Parked, now); open.After(since) {
		return open
	}
	return since
}

// park holds a message to a stranger. It ends when its chat is begun or heard from, or with its time.
func (r *sendRoundState) park(m *models.Claimed) {
	until := r.clock().Add(24 * time.Hour)
	if m.ExpiresAt != nil {
		until = *m.ExpiresAt
	}
	r.blocked[m.Chat] = until
	r.add(models.Outcome{Message: &m.Message, Status: models.MessagePending, NextAttemptAt: &until, WaitingFor: models.WaitingNewChat, At: until})
}

// went counts a message that reached the network, for the pace.
func (r *sendRoundState) went() {
	if p := r.claim.Guard.Pace; p.Rate > 0 {
		r.state, r.moved = p.Sent(r.state, r.clock(), r.luck()), true
		r.gated = true
	}
}

// wentOut counts a message that somebody got, or may have got.
func (r *sendRoundState) wentOut(m *models.Claimed) {
	r.went()
	if m.Begun {
		return
	}
	if p := r.claim.Guard.Pace; stranger(m) && p.Capped(m.Chat) {
		r.state, r.moved = p.Begun(r.state, r.clock()), true
	}
	r.begun = append(r.begun, m.Chat)
	for i := range r.claim.Messages { // the others to this chat
		if o := &r.claim.Messages[i]; o.Chat == m.Chat {
			o.Begun = true
		}
	}
}

// throttled begins or extends a cool-down: the network refused the message for now, so that it is put back as it was.
func (r *sendRoundState) throttled(m *models.Claimed, result wire.SendResult) {
	reason := pacing.RateLimited
	if result.Code == wire.CodeTemporaryBan {
		reason = pacing.TemporaryBan
	}
	r.gated = true
	asked := time.Duration(min(max(result.RetryAfterMs, 0), int64(365*24*time.Hour/time.Millisecond))) * time.Millisecond
	r.cooldown = pacing.Throttled(r.cooldown, reason, asked, m.Warm, r.clock())
	r.log.Warn("the network asks for a pause", "session", r.hold.Lane, "reason", reason, "until", r.cooldown.Until, "count", r.cooldown.Count)
	r.metrics.Messages("throttled", 1)
}

// write writes what the round came to. The cool-down comes after the outcomes, in a transaction of its own: it is told to
// subscribers, whose lanes are locked last.
func (r *sendRoundState) write(ctx context.Context) error {
	s := models.Settlement{Hold: r.hold, SessionID: r.claim.SessionID, Outcomes: r.outcomes, Begun: r.begun}
	if r.moved {
		s.Pace = &r.state
	}
	settled, err := r.lanes.settle(ctx, s)
	if err != nil {
		return err
	}
	r.left = settled.Left
	r.waker.Webhooks(settled.Woken...)
	if former := r.claim.Guard.Cooldown; former != r.cooldown {
		woken, err := models.CoolDown(ctx, r.db.Pool, r.hold.Lane, former, r.cooldown, r.claim.Guard.Now)
		if err != nil {
			return err
		}
		r.waker.Webhooks(woken...)
	}
	r.startFetches(ctx, r.fetch)
	parked := r.held(models.WaitingNewChat)
	if r.parked {
		more, err := models.ParkStrangers(ctx, r.db.Pool, r.hold, parkTogether)
		if err != nil {
			return err
		}
		parked = append(parked, more...)
	}
	return models.UnparkKnown(ctx, r.db.Pool, r.hold.Lane, parked)
}

// held lists the messages that the round has held for a reason.
func (r *sendRoundState) held(reason string) (ids []uuid.UUID) {
	for i := range r.outcomes {
		if r.outcomes[i].WaitingFor == reason {
			ids = append(ids, r.outcomes[i].Message.ID)
		}
	}
	return ids
}

// rest is what to do with a lane that has nothing to claim now. If that is for its pace, the lane is woken when the time has come;
// the sweep, which looks each second, would come too late by half a second on average.
func (s *sender) rest(ctx context.Context, lane uuid.UUID, claim *models.Claim) step {
	wait := claim.Guard.State.NextSendAt.Sub(claim.Guard.Now)
	switch {
	case wait <= 0 || wait > paceAhead:
	case wait <= paceInPlace:
		select {
		case <-time.After(wait):
			return step{}
		case <-ctx.Done():
		}
	default:
		s.waker.MessagesIn(wait, lane)
	}
	return step{idle: true}
}
