// Package simulator is a worker's engine on the simulated network: it holds one WebSocket per session to a `kurir
// simnet` (package simnet) and keeps the contract of worker.Engine as an engine for WhatsApp must. It is for trying out,
// tests and load; it never reaches a real phone, and it keeps no credentials, since the network knows its devices.
package simulator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"kurir/worker"
)

// Config of an engine.
type Config struct {
	SimnetURL string // http://host:port of the simulated network
	WorkerID  string // told to the network, for its report
	Logger    *slog.Logger

	QRTimeout  time.Duration // an unscanned session gives up; 0 means 3 min
	BackoffMin time.Duration // first wait between connects, doubling to BackoffMax; 0 means 200 ms
	BackoffMax time.Duration // 0 means 5 s

	DialTimeout time.Duration // for the WebSocket to open; 0 means 5 s
	Silence     time.Duration // ends a link on which nothing came, not even a ping of the network's; 0 means 10 s
}

// Engine implements worker.Engine.
type Engine struct {
	cfg    Config
	base   string // of the network
	url    string
	log    *slog.Logger
	ctx    context.Context // ends at Close
	cancel context.CancelFunc

	mu   sync.Mutex
	open map[string]*conn // by session
}

var _ worker.Engine = (*Engine)(nil)

// New makes an engine. It connects to nothing yet.
func New(cfg Config) *Engine {
	base := strings.TrimSuffix(cfg.SimnetURL, "/")
	e := &Engine{cfg: cfg, base: base, url: base + "/connect", log: cfg.Logger, open: map[string]*conn{}}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.cfg.QRTimeout <= 0 {
		e.cfg.QRTimeout = 3 * time.Minute
	}
	if e.cfg.BackoffMin <= 0 {
		e.cfg.BackoffMin = 200 * time.Millisecond
	}
	if e.cfg.BackoffMax <= 0 {
		e.cfg.BackoffMax = 5 * time.Second
	}
	if e.cfg.DialTimeout <= 0 {
		e.cfg.DialTimeout = 5 * time.Second
	}
	if e.cfg.Silence <= 0 {
		e.cfg.Silence = 10 * time.Second
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// Name implements worker.Engine.
func (e *Engine) Name() string { return "simulator" }

var errClosed = errors.New("the engine is closed")

// Open implements worker.Engine. The connection outlives ctx.
func (e *Engine) Open(_ context.Context, s worker.Session, sink worker.Sink) (worker.Conn, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		return nil, errClosed
	}
	if e.open[s.ID] != nil {
		return nil, fmt.Errorf("session %s is already open at this engine", s.ID)
	}
	c := newConn(e, s, sink)
	e.open[s.ID] = c
	go c.run()
	return c, nil
}

// Close implements worker.Engine: it breaks what is still open. Credentials stay.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.cancel()
	left := make([]*conn, 0, len(e.open))
	for _, c := range e.open {
		left = append(left, c)
	}
	e.mu.Unlock()
	for _, c := range left {
		c.startClosing()
		c.finish(reasonClosed)
	}
	return nil
}

// closed lets the session be opened again.
func (e *Engine) closed(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open[c.session.ID] == c {
		delete(e.open, c.session.ID)
	}
}
