package whatsapp

import (
	"context"
	"fmt"
	"time"

	"kurir/wire"
	"kurir/worker"
)

// Close implements worker.Conn. It refuses sends, lets those in hand finish for as long as ctx allows, disconnects, and waits
// until nothing of this session is written to the database any more. Without the lease it gives the sends no time: a worker node, which
// takes it away before it closes, has waited for them, and by Settle for acknowledgements. It must not be called by the sink.
func (c *conn) Close(ctx context.Context) error {
	c.startClosing()
	if c.session.Lease() {
		c.drain(ctx)
	}
	return c.finish(ctx, reasonClosed)
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
	c.drain(ctx)
	l.end(errHungUp)
	select {
	case <-l.over:
	case <-ctx.Done():
	}
	return nil
}

// startClosing refuses sends from now on.
func (c *conn) startClosing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		close(c.leaving)
	}
	c.closing, c.ready = true, false
}

// finish ends run, waits for whoever still writes to the database, and leaves a final state, unless there is one.
func (c *conn) finish(ctx context.Context, reason string) error {
	c.cancel()
	<-c.done
	c.telling.Lock()
	c.quiet = true
	c.telling.Unlock()
	if err := c.holder.close(ctx); err != nil {
		return err
	}
	c.engine.closed(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.qrLimit != nil {
		c.qrLimit.Stop()
	}
	if s := c.state.Status; s != wire.StatusDisconnected && s != wire.StatusError {
		c.state.Status, c.state.Reason, c.state.QR, c.state.QRExpiresAt = wire.StatusDisconnected, reason, "", nil
	}
	return nil
}

const writersPoll = 5 * time.Millisecond

// close takes no further statements, and waits for those that run.
func (h *holder) close(ctx context.Context) error {
	if err := h.db.Close(); err != nil {
		return err
	}
	tick := time.NewTicker(writersPoll)
	defer tick.Stop()
	for h.db.Stats().InUse > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the session's writers do not end: %w", ctx.Err())
		}
	}
	return nil
}

// Logout implements worker.Conn. A session that was never linked or is logged out already has nothing to forget. An
// error means that WhatsApp could not be told before ctx ended: the device is linked still, as far as is known, and
// the session goes on, so that Logout can be repeated.
func (c *conn) Logout(ctx context.Context) error {
	if err := c.unlink(ctx); err != nil {
		return err
	}
	c.startClosing()
	c.forget()
	return c.finish(ctx, reasonLoggedOut)
}

// forget deletes the credentials of a device that WhatsApp has unlinked. If it fails, WhatsApp refuses them the next time.
func (c *conn) forget() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), storeTimeout)
	defer cancel()
	if err := c.holder.forget(ctx); err != nil {
		c.log.Warn("what a device leaves behind is not deleted", "error", redact(err.Error()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unlinked = true
}

// nothingLinked tells whether the session has no device, as far as is known.
func (c *conn) nothingLinked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unlinked || c.state.Status == wire.StatusQRRequired || c.state.Reason == reasonQRTimeout || c.state.Reason == reasonLoggedOut
}

const logoutPoll = 20 * time.Millisecond

// unlink asks WhatsApp to forget the device, over the present link or the next one, until it has.
func (c *conn) unlink(ctx context.Context) error {
	tick := time.NewTicker(logoutPoll)
	defer tick.Stop()
	for {
		if c.nothingLinked() {
			return nil
		}
		l, leave, err := c.enter()
		if err == worker.ErrLeaseLost { //nolint:errorlint // enter wraps nothing
			return err
		}
		if err == nil {
			err = c.logoutOver(ctx, l)
			leave()
			if err == nil {
				return nil
			}
			c.log.Info("a device is not unlinked yet", "error", redact(err.Error()))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("log out: %w: %w", worker.ErrNotConnected, ctx.Err())
		case <-c.done:
			if c.nothingLinked() {
				return nil
			}
			return fmt.Errorf("log out: %w", worker.ErrNotConnected)
		case <-tick.C:
		}
	}
}

// logoutOver asks over a link. Meanwhile run does not go on: without its device, the session would ask for a new one.
func (c *conn) logoutOver(ctx context.Context, l *link) error {
	c.unlinking.Lock()
	defer c.unlinking.Unlock()
	err := l.client.Logout(ctx)
	if err == nil {
		c.startClosing()
	}
	return err
}
