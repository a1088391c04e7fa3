package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"kurir/wire"
)

const (
	carryAtOnce = 4               // media that one connection carries at a time
	carryWait   = 3 * time.Second // that the first send of a message waits for its medium
	carryStall  = time.Minute     // without progress, after which a medium is given up
	carryForget = 5 * time.Minute // after which a medium that no send asks for is let go; the gateway asks more often
)

// Upload brings a content to the network and answers how a message names it there. Errors pass.
type Upload[T any] func(ctx context.Context, m *wire.Media, content io.Reader) (T, error)

// Carrier carries the media of messages from the gateway to the network, beside the sends: a large one on a slow line takes
// longer than a send may. The first send of a message begins it and waits for a moment; until it is there, sends are told
// ErrMediaUnavailable and come again, while other messages go. It is for engines, which make one for each connection of
// a session.
type Carrier[T any] struct {
	ctx    context.Context
	media  MediaStore
	upload Upload[T]
	log    *slog.Logger
	slots  chan struct{}

	mu      sync.Mutex
	carries map[string]*carry[T] // by message
}

// carry is one medium on its way, or there. Result and err are set before done is closed.
type carry[T any] struct {
	done   chan struct{}
	result T
	err    error
	forget *time.Timer
	cancel context.CancelCauseFunc
}

var (
	errStalled  = errors.New("the medium made no progress")
	errUnwanted = errors.New("nobody asks for the medium any more")
)

// NewCarrier makes a Carrier that ends with ctx.
func NewCarrier[T any](ctx context.Context, s Session, upload Upload[T], log *slog.Logger) *Carrier[T] {
	return &Carrier[T]{ctx: ctx, media: s.Media, upload: upload, log: log.With("session", s.ID),
		slots: make(chan struct{}, carryAtOnce), carries: map[string]*carry[T]{}}
}

// Get answers how the network knows the medium of the message with this WhatsApp ID. ErrMediaGone is final;
// ErrMediaUnavailable says that it is on its way, or can't be had now, and to ask again. Once the message is sent, Drop it.
func (c *Carrier[T]) Get(ctx context.Context, id string, m *wire.Media) (result T, err error) {
	if c.media == nil {
		return result, fmt.Errorf("%w: there is no store of media", ErrMediaUnavailable)
	}
	k, wait := c.ask(id, m)
	if k == nil {
		return result, fmt.Errorf("%w: others are being carried", ErrMediaUnavailable)
	}
	if deadline, ok := ctx.Deadline(); ok { // the rest is the send's
		wait = min(wait, time.Until(deadline)/2)
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	select {
	case <-k.done:
	case <-patience.C:
		return result, fmt.Errorf("%w: it is being carried", ErrMediaUnavailable)
	case <-ctx.Done():
		return result, fmt.Errorf("%w: %w", ErrMediaUnavailable, ctx.Err())
	}
	if k.err != nil {
		c.drop(id, k) // the next one to ask begins anew
		return result, k.err
	}
	return k.result, nil
}

// ask finds a message's carry, or begins it, which is worth waiting for. It is nil where too many are on their way.
func (c *Carrier[T]) ask(id string, m *wire.Media) (k *carry[T], wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k = c.carries[id]; k != nil {
		k.forget.Reset(carryForget)
		select {
		case <-k.done:
			wait = carryWait // none, as it is there
		default:
		}
		return k, wait
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return nil, 0
	}
	k = &carry[T]{done: make(chan struct{})}
	ctx, cancel := context.WithCancelCause(c.ctx)
	k.cancel = cancel
	k.forget = time.AfterFunc(carryForget, func() { c.drop(id, k) })
	c.carries[id] = k
	go c.run(ctx, k, m)
	return k, carryWait
}

// Drop forgets a message's medium.
func (c *Carrier[T]) Drop(id string) {
	c.mu.Lock()
	k := c.carries[id]
	c.mu.Unlock()
	if k != nil {
		c.drop(id, k)
	}
}

func (c *Carrier[T]) drop(id string, k *carry[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.forget.Stop()
	k.cancel(errUnwanted)
	if c.carries[id] == k {
		delete(c.carries, id)
	}
}

func (c *Carrier[T]) run(ctx context.Context, k *carry[T], m *wire.Media) {
	defer func() {
		if p := recover(); p != nil {
			k.err = fmt.Errorf("panic in the engine's upload: %v", p)
		}
		if k.err != nil {
			if cause := context.Cause(ctx); cause != nil {
				k.err = cause
			}
			c.log.Warn("a medium cannot be carried now", "medium", m.ID, "error", redact(k.err))
			if !errors.Is(k.err, ErrMediaGone) {
				k.err = fmt.Errorf("%w: %w", ErrMediaUnavailable, k.err)
			}
		}
		k.cancel(nil)
		<-c.slots
		close(k.done)
	}()
	content, err := c.media.Open(ctx, m.ID)
	if err != nil {
		k.err = fmt.Errorf("open the medium: %w", err)
		return
	}
	defer func() { _ = content.Close() }() // read to its end, or given up
	watch := time.AfterFunc(carryStall, func() { k.cancel(errStalled) })
	defer watch.Stop()
	k.result, k.err = c.upload(ctx, m, &watched{content, watch})
}

// watched is a reader that is given up when nothing comes of it.
type watched struct {
	io.Reader
	watch *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.watch.Reset(carryStall)
	return n, err
}
