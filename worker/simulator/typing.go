package simulator

import (
	"context"
	"fmt"
	"time"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// maxTyping bounds how long a chat sees "typing" before a message, whatever the message asks for; half of the time that
// its send has left bounds it too.
const maxTyping = 10 * time.Second

// typing shows that the session's user types, or records, for as long as the message wants it. An error means that
// the connection or the time ended meanwhile.
func (c *conn) typing(ctx context.Context, l *link, m *wire.Send) error {
	d := min(time.Duration(max(m.Typing, 0))*time.Millisecond, maxTyping)
	if m.Typing > maxTyping.Milliseconds() {
		d = maxTyping
	}
	if deadline, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(deadline)/2)
	}
	if d <= 0 {
		return nil
	}
	presence := wire.PresenceComposing
	if m.Type == message.Voice {
		presence = wire.PresenceRecording
	}
	l.show(&simnet.Typing{To: m.To, Presence: presence})
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-l.ctx.Done():
		return worker.ErrNotConnected
	case <-c.leaving:
		return worker.ErrNotConnected
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", worker.ErrNotConnected, ctx.Err())
	}
	l.show(&simnet.Typing{To: m.To, Presence: wire.PresencePaused})
	return nil
}
