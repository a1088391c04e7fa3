package api

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kurir/limits"
	"kurir/models"
	"kurir/webhook"
)

// Why a stream ended, for log and metrics.
const (
	endGone     = "client_gone"
	endSlow     = "slow_client"
	endRevoked  = "revoked"
	endShutdown = "shutdown"
	endDatabase = "database"
	endFinished = "finished" // there is nothing more to tell
	endBroken   = "broken"   // a fault of ours
)

const (
	streamBytes  = 4 << 20     // that may wait for a client
	streamFinish = time.Second // for a stream that we end to say so
)

// listener is a stream as the hub knows it: what it wants, what must hold for it to go on, and the buffer between both.
type listener struct {
	of    models.EventSource
	types []string // none: all
	noQR  bool     // it may not link phones
	grant models.StreamGrant
	until *time.Time // of the credential
	wake  chan struct{}
	conn  net.Conn          // set before the hub knows it
	write time.Duration     // until a client that takes nothing is given up
	has   models.EventPlace // what the client had when it began to listen; the hub's

	mu     sync.Mutex
	frames [][]byte
	bytes  int
	told   uuid.UUID // the last event in the buffer
	seen   uuid.UUID // the last event, wanted or not
	ended  string
}

func (l *listener) wants(event string) bool {
	return (len(l.types) == 0 || slices.Contains(l.types, event)) && !(l.noQR && event == webhook.EventSessionQR)
}

// pass notes an event that the stream does not want: the client's place moves on.
func (l *listener) pass(id uuid.UUID) {
	l.mu.Lock()
	l.seen = id
	l.mu.Unlock()
}

// push adds an event to the buffer, and says whether there was room.
func (l *listener) push(id uuid.UUID, frame []byte, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != "" {
		return true
	}
	if len(l.frames) >= most || l.bytes > streamBytes {
		return false
	}
	l.frames, l.bytes, l.told, l.seen = append(l.frames, frame), l.bytes+len(frame), id, id
	l.ring()
	return true
}

func (l *listener) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// batch is what a buffer held, and where the client is when it has it.
type batch struct {
	frames [][]byte
	told   uuid.UUID // the last event in a buffer so far
	seen   uuid.UUID // that, or a later one that the stream does not want
	ended  string
}

// take empties the buffer.
func (l *listener) take() batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := batch{frames: l.frames, told: l.told, seen: l.seen, ended: l.ended}
	l.frames, l.bytes = nil, 0
	return b
}

// end has the stream end, and returns why it did: the first word counts. One that is stuck in a write to its client comes
// loose.
func (l *listener) end(why string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != "" {
		return l.ended
	}
	l.ended = why
	patience := streamFinish
	if why == endSlow {
		patience = 0
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(patience)) // a connection that is closed already needs none
	l.ring()
	return why
}

func (l *listener) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended != ""
}

// extend gives the client time to take what is written next.
func (l *listener) extend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == "" {
		_ = l.conn.SetWriteDeadline(time.Now().Add(l.write))
	}
}

// writer writes to a stream's client.
type writer struct {
	*bufio.Writer
	l    *listener
	last time.Time // when something was written
}

// send writes whole frames and says whether the client still takes them.
func (w *writer) send(frames ...[]byte) bool {
	w.l.extend()
	for _, frame := range frames {
		if _, err := w.Write(frame); err != nil {
			return false
		}
	}
	w.last = time.Now()
	return w.Flush() == nil
}

// stream answers a request with a stream that run writes, on a goroutine of its own, until it returns why it ended. The
// request's own context has ended by then. The connection is used for nothing else afterwards.
func (a *API) stream(c *fiber.Ctx, l *listener, release func(), run func(w *writer) string) {
	c.Set("Content-Type", "text/event-stream")
	c.Set("Cache-Control", "no-store")
	c.Set("X-Accel-Buffering", "no") // nginx would hold events back
	c.Context().SetConnectionClose()
	info, _ := c.UserContext().Value(requestInfoKey{}).(*requestInfo)
	began := time.Now()
	a.running.Add(1)
	a.metrics.StreamOpened()
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		why := endBroken
		defer func() {
			if p := recover(); p != nil {
				a.log.Error("event stream failed", "requestId", info.id, "error", fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
			why = l.end(why)
			release()
			a.metrics.StreamClosed(why)
			a.log.Info("event stream ended", slog.String("requestId", info.id), slog.String("user", l.of.User.String()),
				slog.String("why", why), slog.Duration("took", time.Since(began)))
			a.running.Add(-1)
		}()
		why = run(&writer{Writer: w, l: l, last: time.Now()})
	})
}

// slots counts open streams.
type slots struct {
	most limits.Streams

	mu          sync.Mutex
	credentials map[string]int
	users       map[uuid.UUID]int
	all         int
}

func newSlots(most limits.Streams) *slots {
	return &slots{most: most, credentials: map[string]int{}, users: map[uuid.UUID]int{}}
}

// take counts one stream more, if there may be one. A stream of nobody's, such as a page's, has uuid.Nil as its user.
func (s *slots) take(credential string, user uuid.UUID) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := limits.Streams{PerCredential: s.credentials[credential], PerUser: s.users[user], PerProcess: s.all}
	if user == uuid.Nil {
		open.PerUser = 0
	}
	if !limits.CanOpenStream(s.most, open).Allowed {
		return nil, false
	}
	s.count(credential, user, 1)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.count(credential, user, -1)
	}), true
}

func (s *slots) count(credential string, user uuid.UUID, n int) {
	s.credentials[credential] += n
	s.users[user] += n
	s.all += n
	if s.credentials[credential] == 0 {
		delete(s.credentials, credential)
	}
	if s.users[user] == 0 {
		delete(s.users, user)
	}
}
