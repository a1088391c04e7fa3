package simulator

import (
	"context"
	"fmt"
	"time"

	"kurir/wire"
	"kurir/worker"
)

// Close implements worker.Conn. It lets the sends in hand finish for as long as ctx allows; a worker that has lost its
// lease gives it no time and says nothing more to the network. It must not be called by the sink.
func (c *conn) Close(ctx context.Context) error {
	if l := c.startClosing(); l != nil && c.session.Lease() {
		l.drain(ctx)
		l.hangUp(ctx)
	}
	c.finish(reasonClosed)
	return nil
}

// Reconnect implements worker.Reconnecter. Between two links the next one is on its way already.
func (c *conn) Reconnect(ctx context.Context) error {
	if !c.session.Lease() {
		return worker.ErrLeaseLost
	}
	c.mu.Lock()
	l := c.link
	if l == nil || c.closing {
		c.mu.Unlock()
		return nil
	}
	c.ready, c.renew = false, true
	c.mu.Unlock()
	l.drain(ctx)
	l.hangUp(ctx)
	l.cancel(errHungUp)
	return nil
}

// takeRenewal reports whether Reconnect ended the link that was there last.
func (c *conn) takeRenewal() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	renew := c.renew
	c.renew = false
	return renew
}

// Logout implements worker.Conn. A session that was never linked or is logged out already has nothing to forget. An
// error means that the network could not be told before ctx ended: the device is linked still, as far as is known, and
// the session goes on, so that Logout can be repeated.
func (c *conn) Logout(ctx context.Context) error {
	if err := c.unlink(ctx); err != nil {
		return err
	}
	c.startClosing()
	c.finish(reasonLoggedOut)
	return nil
}

const logoutPoll = 20 * time.Millisecond

// unlink asks the network to forget the device, over the present link or the next one, until the network has said so.
func (c *conn) unlink(ctx context.Context) error {
	tick := time.NewTicker(logoutPoll)
	defer tick.Stop()
	var asked *link
	for {
		c.mu.Lock()
		l, ready, state := c.link, c.ready, c.state
		c.mu.Unlock()
		if state.Status == wire.StatusQRRequired || nothingLinked(state.Reason) {
			return nil
		}
		if !c.session.Lease() {
			return worker.ErrLeaseLost
		}
		if ready && l != asked {
			l.logout()
			asked = l
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("log out: %w: %w", worker.ErrNotConnected, ctx.Err())
		case <-c.done:
			if nothingLinked(c.State().Reason) {
				return nil
			}
			return fmt.Errorf("log out: %w", worker.ErrNotConnected)
		case <-tick.C:
		}
	}
}

// nothingLinked tells whether a session that ended for this reason has no device any more.
func nothingLinked(reason string) bool {
	return reason == reasonLoggedOut || reason == reasonBanned || reason == reasonQRTimeout
}

// startClosing refuses sends from now on and returns the link that took them, if any.
func (c *conn) startClosing() *link {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready := c.ready
	if !c.closing {
		close(c.leaving)
	}
	c.closing, c.ready = true, false
	if !ready {
		return nil
	}
	return c.link
}

// finish ends run and leaves a final state, unless there is one.
func (c *conn) finish(reason string) {
	c.cancel()
	<-c.done
	c.engine.closed(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qrLimit != nil {
		c.qrLimit.Stop()
	}
	if s := c.state.Status; s != wire.StatusDisconnected && s != wire.StatusError {
		c.state.Status, c.state.Reason, c.state.QR, c.state.QRExpiresAt = wire.StatusDisconnected, reason, "", nil
	}
}
