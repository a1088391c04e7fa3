package whatsapp

import (
	"context"
	"errors"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

// Send implements worker.Conn.
func (c *conn) Send(ctx context.Context, m wire.Send) (wire.SendResult, error) {
	l, leave, err := c.enter()
	if err != nil {
		return wire.SendResult{}, err
	}
	defer leave()
	if _, ok := message.RuleOf(m.Type); !ok {
		return wire.SendResult{}, worker.ErrUnsupported
	}
	to, err := types.ParseJID(m.To)
	if err != nil || to.User == "" {
		return *failed(wire.CodeInvalidRequest, "the recipient is no WhatsApp address"), nil
	}
	if to.Server == types.NewsletterServer && m.Type != message.Text { // channels have media and edits of another kind
		return wire.SendResult{}, worker.ErrUnsupported
	}
	to, r, err := c.recipient(ctx, l, to.ToNonAD())
	if err != nil || r != nil {
		return known(r), err
	}
	text, r, err := c.prepare(ctx, l, to, &m)
	if err != nil || r != nil {
		return known(r), err
	}
	if err := c.typing(ctx, l, to, &m); err != nil {
		return wire.SendResult{}, err
	}
	if _, again, err := c.enter(); err != nil { // time has passed
		return wire.SendResult{}, err
	} else {
		again()
	}
	sent, err := c.hand(ctx, l, to, &m, text)
	if err != nil {
		return wire.SendResult{}, err
	}
	if m.Media != nil && (sent.Outcome == wire.OutcomeSent || sent.Outcome == wire.OutcomeFailed) {
		c.carriers[mediaTypes[m.Type]].Drop(m.WhatsappID) // else the message comes again
	}
	return sent, nil
}

func known(r *wire.SendResult) wire.SendResult {
	if r == nil {
		return wire.SendResult{}
	}
	return *r
}

// prepare makes the message and keeps it, or finds the one that was kept. A result is one without a send; an error means that
// nothing can be sent now.
func (c *conn) prepare(ctx context.Context, l *link, to types.JID, m *wire.Send) (*waE2E.Message, *wire.SendResult, error) {
	kept, accepted, err := c.holder.kept(ctx, m.WhatsappID)
	if err != nil {
		return nil, nil, c.storeError(err)
	}
	if !accepted.IsZero() {
		return nil, &wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: accepted.UTC()}, nil
	}
	if kept != nil {
		if err := c.holder.again(ctx, m.WhatsappID); err != nil {
			return nil, nil, c.storeError(err)
		}
		return kept, nil, nil
	}
	w := &composer{client: l.client, own: l.people.own(), chat: to}
	if err := w.address(ctx, l, m); err != nil {
		c.log.Info("a group cannot be looked up", "error", redact(err.Error()))
		return nil, nil, worker.ErrNotConnected
	}
	if m.Media != nil {
		medium, r, err := c.carry(ctx, m)
		if err != nil || r != nil {
			if c.present() != l { // time has passed
				err = worker.ErrNotConnected
			}
			return nil, r, err
		}
		w.medium = medium
	}
	if m.ReplyTo != nil && m.ReplyTo.FromMe {
		if w.quoted, err = c.holder.message(ctx, m.ReplyTo.WhatsappID); err != nil {
			return nil, nil, c.storeError(err)
		}
	}
	text, err := w.compose(m)
	if err != nil {
		return nil, failed(wire.CodeInvalidRequest, "the message names somebody who has no WhatsApp address"), nil
	}
	if text == nil {
		return nil, nil, worker.ErrUnsupported
	}
	if m.Poll != nil {
		if err := c.holder.keepPoll(ctx, m.WhatsappID, m.Poll.Options); err != nil {
			return nil, nil, c.storeError(err)
		}
	}
	if err := c.holder.begin(ctx, m.WhatsappID, to.String(), text); err != nil {
		return nil, nil, c.storeError(err)
	}
	return text, nil, nil
}

// storeError is why nothing is sent: the database refuses a holder that is none any more, or does not answer.
func (c *conn) storeError(err error) error {
	if errors.Is(err, errSuperseded) {
		c.engine.fenced.Add(1)
		return worker.ErrLeaseLost
	}
	c.log.Warn("a message is not sent: the database does not take it", "error", redact(err.Error()))
	return worker.ErrNotConnected
}

// hand gives a message to WhatsApp and waits for its acknowledgement. An error means that the database failed, and nothing was sent.
func (c *conn) hand(ctx context.Context, l *link, to types.JID, m *wire.Send, text *waE2E.Message) (wire.SendResult, error) {
	began := time.Now()
	turn, done := c.ratchet.Encrypt(ctx)
	defer done() // should it not come to an end by itself
	sealing, turn, sealed := l.sealing(turn, to)
	defer sealed()
	r, err := l.client.SendMessage(turn, to, text, whatsmeow.SendRequestExtra{ID: m.WhatsappID, Timeout: c.engine.cfg.SendTimeout})
	switch {
	case errors.Is(sealing.err, errStorage), errors.Is(sealing.err, errSuperseded):
		return wire.SendResult{}, c.storeError(sealing.err)
	case sealing.err != nil:
		err = sealing.err
	case err == nil:
		err = sealing.complete() // what nobody can read is not sent, even if it went out
	}
	// The outcome is kept even if nobody waits for it any more.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	if err == nil {
		if err := c.holder.accepted(ctx, m.WhatsappID, r.Timestamp); err != nil {
			c.log.Warn("WhatsApp's acknowledgement is not kept", "error", redact(err.Error()))
		}
		return wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: r.Timestamp.UTC()}, nil
	}
	out := outcomeOf(err)
	c.log.Info("a send did not succeed", "message", m.MessageID, "outcome", out.Outcome, "code", out.Code, "took", time.Since(began), "error", redact(err.Error()))
	if out.Outcome == wire.OutcomeFailed || out.Outcome == wire.OutcomeThrottled {
		if err := c.holder.refused(ctx, m.WhatsappID); err != nil {
			c.log.Warn("a message that was refused is not forgotten", "error", redact(err.Error()))
		}
	}
	return out, nil
}

// storeTimeout is for the database to keep what became of a message.
const storeTimeout = 5 * time.Second
