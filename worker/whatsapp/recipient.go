package whatsapp

import (
	"context"
	"errors"

	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
)

// recipientsKept bounds what a session remembers of whom it has looked up.
const recipientsKept = 4096

// recipient is the address to send to. WhatsApp takes a message to a number that nobody has, and says nothing; so a number of
// which no LID is known yet is looked up first. A result is one without a send; an error means that nothing can be sent now.
func (c *conn) recipient(ctx context.Context, l *link, to types.JID) (types.JID, *wire.SendResult, error) {
	if to.Server != types.DefaultUserServer || to.User == l.people.own().User {
		return to, nil, nil
	}
	if lid, err := l.device.LIDs.GetLIDForPN(ctx, to); err == nil && !lid.IsEmpty() {
		return to, nil, nil
	}
	if found, ok := c.recipients.Get(to.User); ok {
		return found, nil, nil
	}
	found, err := l.look(ctx, []string{to.User})
	switch {
	case wire.Code(err) == wire.CodeRateLimited:
		r := throttled(wire.CodeRateLimited, pauses[429].after)
		return to, &r, nil
	case errors.Is(err, worker.ErrLeaseLost):
		return to, nil, worker.ErrLeaseLost
	case err != nil:
		c.log.Info("a recipient cannot be looked up", "error", redact(err.Error()))
		return to, nil, worker.ErrNotConnected
	}
	jid, ok := found[to.User]
	if !ok {
		return to, failed(finals[404][0], finals[404][1]), nil
	}
	c.recipients.Add(to.User, jid.ToNonAD())
	return jid.ToNonAD(), nil, nil
}
