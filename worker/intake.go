package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"kurir/wire"
)

const (
	intakeMedia   = 4               // media of one connection that are handed over at once
	intakeTimeout = 5 * time.Minute // for one attempt to hand one over

	intakePatience = 10 * time.Minute // from its arrival, after which a message whose medium fails goes without it
	intakePressed  = time.Minute      // the same while somebody waits for a place
	intakePlaces   = 1000             // messages that one connection holds back, before its reader has to wait
	nodePlaces     = 10_000           // the same of all connections of a node
)

// Fetch opens the medium of a message that came in, at the network. ErrMediaGone: the network has it no more; other
// errors pass.
type Fetch func(ctx context.Context) (io.ReadCloser, error)

// Intake reports what comes in over one connection. A message with a medium is held back until the gateway has the
// medium, and so are the later messages of its chat, so that a chat keeps its order; all else passes by. It is for
// engines, which make one for each connection to their network.
//
// A medium is tried for ten minutes, or for one while what is held back takes all places: then Message blocks, and with it the
// connection's reader. One that fails for so long, or is gone or refused for good, is reported as the message without it, and
// why: a chat does not end with a medium.
type Intake struct {
	ctx    context.Context
	cancel context.CancelFunc
	media  MediaStore
	sink   Sink
	log    *slog.Logger
	slots  chan struct{}
	rooms  []*Room // this connection's own, and the node's

	mu      sync.Mutex
	taken   int                   // places
	held    map[string][]incoming // by chat: what waits behind the one in hand
	closed  bool
	working sync.WaitGroup
}

type incoming struct {
	event Event
	fetch Fetch // nil: no medium
	since time.Time
}

// Room is places for messages that are held back in memory.
type Room struct {
	places chan struct{}
	wanted atomic.Int32 // who waits for one
}

// NewRoom makes a Room.
func NewRoom(places int) *Room { return &Room{places: make(chan struct{}, places)} }

// take takes a place, and waits for one. False: ctx ended first.
func (r *Room) take(ctx context.Context) bool {
	select {
	case r.places <- struct{}{}:
		return true
	default:
	}
	r.wanted.Add(1)
	defer r.wanted.Add(-1)
	select {
	case r.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *Room) leave() { <-r.places }

// NewIntake makes an Intake that ends with ctx, or by Close.
func NewIntake(ctx context.Context, s Session, sink Sink, log *slog.Logger) *Intake {
	i := &Intake{media: s.Media, sink: sink, log: log.With("session", s.ID), slots: make(chan struct{}, intakeMedia), held: map[string][]incoming{}, rooms: []*Room{NewRoom(intakePlaces)}}
	if s.Room != nil {
		i.rooms = append(i.rooms, s.Room)
	}
	i.ctx, i.cancel = context.WithCancel(ctx)
	return i
}

// Message reports a message, whose Data is a wire.ReceivedData, when its turn in its chat comes; with fetch, once the
// gateway has its medium.
func (i *Intake) Message(e Event, fetch Fetch) {
	chat := e.Data.(wire.ReceivedData).Chat
	if fetch == nil && !i.busy(chat) {
		i.sink(e)
		return
	}
	in := incoming{e, fetch, time.Now()}
	if !i.take() {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	waiting, busy := i.held[chat]
	i.taken++
	switch {
	case i.closed:
		i.leaveLocked()
	case busy:
		i.held[chat] = append(waiting, in)
	default:
		i.held[chat] = nil
		i.working.Go(func() { i.work(chat, in) })
	}
}

// Hurry has media be tried for one minute only, as if somebody waited for a place, until done is called: for an engine whose reader
// waits for a message.
func (i *Intake) Hurry() (done func()) {
	own := i.rooms[0]
	own.wanted.Add(1)
	return func() { own.wanted.Add(-1) }
}

// busy reports whether something of a chat is held back, or nothing is reported any more.
func (i *Intake) busy(chat string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	_, busy := i.held[chat]
	return busy || i.closed
}

// take takes a place in each room. False: the connection ended meanwhile.
func (i *Intake) take() bool {
	for n, r := range i.rooms {
		if !r.take(i.ctx) {
			for _, former := range i.rooms[:n] {
				former.leave()
			}
			return false
		}
	}
	return true
}

func (i *Intake) leaveLocked() {
	i.taken--
	for _, r := range i.rooms {
		r.leave()
	}
}

// pressed reports whether somebody waits for a place.
func (i *Intake) pressed() bool {
	return slices.ContainsFunc(i.rooms, func(r *Room) bool { return r.wanted.Load() > 0 })
}

// Close ends what is on its way and returns when nothing more is reported. What was held back is not: the network
// delivers it again.
func (i *Intake) Close() {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.cancel()
	i.working.Wait()
	i.mu.Lock()
	defer i.mu.Unlock()
	for i.taken > 0 {
		i.leaveLocked()
	}
}

// work reports a chat's messages in order until none waits.
func (i *Intake) work(chat string, in incoming) {
	for {
		if in.fetch != nil && !i.obtain(&in) || i.ctx.Err() != nil {
			return
		}
		i.sink(in.event)
		i.mu.Lock()
		i.leaveLocked()
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
	data := in.event.Data.(wire.ReceivedData)
	pause := newBackOff(200*time.Millisecond, 10*time.Second)
	for {
		err := i.attempt(&data, in.fetch)
		if i.ctx.Err() != nil && err != nil {
			return false
		}
		if data.MediaError = i.verdict(in, err); err == nil || data.MediaError != "" {
			if err != nil {
				i.log.Warn("a medium that came in is left out", "type", data.Type, "reason", data.MediaError, "error", redact(err))
			}
			in.event.Data = data
			return true
		}
		i.log.Warn("a medium that came in cannot be handed over now", "type", data.Type, "error", redact(err))
		select {
		case <-time.After(pause.NextBackOff()):
		case <-i.ctx.Done():
			return false
		}
	}
}

// verdict is why a message is reported without its medium after an attempt; "": it is not, or tried again.
func (i *Intake) verdict(in *incoming, err error) string {
	waited := time.Since(in.since)
	switch {
	case errors.Is(err, ErrMediaGone):
		return wire.CodeMediaGone
	case errors.Is(err, ErrMediaRefused):
		return cmp.Or(wire.Code(err), wire.CodeMediaRefused)
	case err != nil && (waited >= intakePatience || waited >= intakePressed && i.pressed()):
		return wire.CodeMediaUnavailable
	}
	return ""
}

// attempt is handOver when there is a slot. Between two attempts others have it.
func (i *Intake) attempt(data *wire.ReceivedData, fetch Fetch) error {
	select {
	case i.slots <- struct{}{}:
	case <-i.ctx.Done():
		return i.ctx.Err()
	}
	defer func() { <-i.slots }()
	return i.handOver(data, fetch)
}

// handOver has the gateway store a medium. What a stranger has sent may bring the network's library to panic, which is an error like
// others.
func (i *Intake) handOver(data *wire.ReceivedData, fetch Fetch) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while a medium is fetched: %v", p)
		}
	}()
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
