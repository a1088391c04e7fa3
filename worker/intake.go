package worker

import (
	"cmp"
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
	intakeMedia   = 4               // media of one connection that are handed over at once
	intakeTimeout = 5 * time.Minute // for one attempt to hand one over
)

// Fetch opens the medium of a message that came in, at the network. ErrMediaGone: the network has it no more; other
// errors pass.
type Fetch func(ctx context.Context) (io.ReadCloser, error)

// Intake reports what comes in over one connection. A message with a medium is held back until the gateway has the
// medium, and so are the later messages of its chat, so that a chat keeps its order; all else passes by. It is for
// engines, which make one for each connection to their network.
//
// A medium is tried for as long as the connection lives, since what is not reported is not acknowledged. One that is gone
// or refused for good is reported as the message without it, and why.
type Intake struct {
	ctx    context.Context
	cancel context.CancelFunc
	media  MediaStore
	sink   Sink
	log    *slog.Logger
	slots  chan struct{}

	mu      sync.Mutex
	held    map[string][]incoming // by chat: what waits behind the one in hand
	closed  bool
	working sync.WaitGroup
}

type incoming struct {
	event Event
	fetch Fetch // nil: no medium
}

// NewIntake makes an Intake that ends with ctx, or by Close.
func NewIntake(ctx context.Context, s Session, sink Sink, log *slog.Logger) *Intake {
	i := &Intake{media: s.Media, sink: sink, log: log.With("session", s.ID), slots: make(chan struct{}, intakeMedia), held: map[string][]incoming{}}
	i.ctx, i.cancel = context.WithCancel(ctx)
	return i
}

// Message reports a message, whose Data is a wire.ReceivedData, when its turn in its chat comes; with fetch, once the
// gateway has its medium.
func (i *Intake) Message(e Event, fetch Fetch) {
	chat := e.Data.(wire.ReceivedData).Chat
	in := incoming{e, fetch}
	i.mu.Lock()
	waiting, busy := i.held[chat]
	switch {
	case i.closed:
		i.mu.Unlock()
	case busy:
		i.held[chat] = append(waiting, in)
		i.mu.Unlock()
	case fetch == nil:
		i.mu.Unlock()
		i.sink(e)
	default:
		i.held[chat] = nil
		i.working.Go(func() { i.work(chat, in) })
		i.mu.Unlock()
	}
}

// Close ends what is on its way and returns when nothing more is reported. What was held back is not: the network
// delivers it again.
func (i *Intake) Close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.cancel()
	i.working.Wait()
}

// work reports a chat's messages in order until none waits.
func (i *Intake) work(chat string, in incoming) {
	for {
		if in.fetch != nil && !i.obtain(&in) || i.ctx.Err() != nil {
			return
		}
		i.sink(in.event)
		i.mu.Lock()
		waiting := i.held[chat]
		if len(waiting) == 0 {
			delete(i.held, chat)
			i.mu.Unlock()
			return
		}
		in, i.held[chat] = waiting[0], waiting[1:]
		i.mu.Unlock()
	}
}

// obtain has the gateway store the medium of a message. It reports false if the connection ended meanwhile.
func (i *Intake) obtain(in *incoming) bool {
	select {
	case i.slots <- struct{}{}:
	case <-i.ctx.Done():
		return false
	}
	defer func() { <-i.slots }()
	data := in.event.Data.(wire.ReceivedData)
	pause := newBackOff(200*time.Millisecond, 10*time.Second)
	for {
		err := i.handOver(&data, in.fetch)
		if err == nil || errors.Is(err, ErrMediaGone) || errors.Is(err, ErrMediaRefused) {
			if err != nil {
				data.MediaError = cmp.Or(wire.Code(err), wire.CodeMediaRefused)
				if errors.Is(err, ErrMediaGone) {
					data.MediaError = wire.CodeMediaGone
				}
				i.log.Warn("a medium that came in is left out", "type", data.Type, "reason", data.MediaError, "error", redact(err))
			}
			in.event.Data = data
			return true
		}
		if i.ctx.Err() != nil {
			return false
		}
		i.log.Warn("a medium that came in cannot be handed over now", "type", data.Type, "error", redact(err))
		select {
		case <-time.After(pause.NextBackOff()):
		case <-i.ctx.Done():
			return false
		}
	}
}

func (i *Intake) handOver(data *wire.ReceivedData, fetch Fetch) error {
	if i.media == nil {
		return fmt.Errorf("%w: the worker has no store of media", ErrMediaRefused)
	}
	ctx, cancel := context.WithTimeout(i.ctx, intakeTimeout)
	defer cancel()
	body, err := fetch(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // read to its end, or given up
	media, err := i.media.Put(ctx, body)
	if err != nil {
		return err
	}
	data.Media = &media
	return nil
}
