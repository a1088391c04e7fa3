package worker

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"kurir/tracing"
	"kurir/wire"
)

// Config is what a node needs to know.
type Config struct {
	GatewayURL  string // without /api/v1
	Token       string // WORKER_AUTH_TOKEN
	ID          string // unique among the workers of a gateway
	Listen      string // host:port; "127.0.0.1:0" if empty
	Endpoint    string // where the gateway reaches this node; made from Listen if empty
	MaxSessions int    // 50 if 0
	Version     string
	Description string
	HandOver    time.Duration // that a node which leaves gives the gateway to move its sessions; 0: it leaves at once

	SendTimeout  time.Duration // for the network to take one message; 30 s if 0
	PassTimeout  time.Duration // for the network to answer a call that is passed on to it; 8 s if 0
	FlushTimeout time.Duration // for the outbox when the node leaves; 5 s if 0
	MaxEvents    int           // that may wait in the outbox before engines have to; 50,000 if 0

	Logger     *slog.Logger                // slog.Default() if nil
	LogLevel   *slog.LevelVar              // what Logger heeds, for the command log_level; nil: the node has no such command
	Now        func() time.Time            // time.Now if nil; leases need its monotonic reading
	HTTPClient *http.Client                // to the gateway; wire.NewHTTPClient() if nil
	Listener   net.Listener                // instead of Listen
	Usage      func(context.Context) Usage // what the system tells, if nil
	Traces     *tracing.Tracer             // nil: there are none
}

// Node is a worker node: it registers, keeps its lease, holds sessions on an engine and passes their events on. It
// implements wire.Handler. The engine stays its maker's: Run closes every connection, not the engine.
type Node struct {
	cfg     Config
	engine  Engine
	gateway *wire.Gateway
	log     *slog.Logger
	started time.Time

	outbox     *outbox
	room       *Room // for messages that wait for media that came in
	sampler    *sampler
	locks      locks
	stats      counters
	eventCount atomic.Int64
	background sync.WaitGroup // sessions being let go of
	hurry      chan struct{}  // holds one element when a heartbeat shall go at once
	answers    chan bool      // the gateway's latest wish in the hand-over
	quiet      chan struct{}  // closed when heartbeats shall end, while leaving

	mu       sync.Mutex // never held over a network call
	term     *term      // the last one granted; its lease says whether it still counts
	sessions map[string]*session
	opening  int // rooms reserved for sessions that are being opened
	past     *simplelru.LRU[string, past]
	draining bool // handing its sessions over; takes no new ones
	leaving  bool
	addr     string
}

// New makes a node. Nothing happens before Run.
func New(cfg Config, engine Engine) *Node {
	cfg = cfg.withDefaults()
	forgotten, _ := simplelru.NewLRU[string, past](pastSessions, nil) // fails only for a size below 1
	return &Node{
		cfg: cfg, engine: engine, log: cfg.Logger.With("worker", cfg.ID), started: cfg.Now(),
		gateway: wire.NewGateway(cfg.HTTPClient, cfg.GatewayURL, cfg.Token),
		room:    NewRoom(nodePlaces),
		outbox:  newOutbox(cfg.MaxEvents), sampler: &sampler{sample: cfg.Usage},
		sessions: map[string]*session{}, past: forgotten,
		hurry: make(chan struct{}, 1), answers: make(chan bool, 1), quiet: make(chan struct{}),
	}
}

func (c Config) withDefaults() Config {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 50
	}
	if c.SendTimeout == 0 {
		c.SendTimeout = 30 * time.Second
	}
	if c.PassTimeout == 0 {
		c.PassTimeout = passTimeout
	}
	if c.FlushTimeout == 0 {
		c.FlushTimeout = 5 * time.Second
	}
	if c.MaxEvents == 0 {
		c.MaxEvents = 50_000
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.HTTPClient == nil {
		c.HTTPClient = wire.NewHTTPClient()
	}
	if c.Usage == nil {
		c.Usage = usageHere()
	}
	return c
}

// Run serves until ctx ends, hands its sessions over, leaves in good order and returns nil. It returns an error only if it cannot
// listen. It runs once.
func (n *Node) Run(ctx context.Context) error {
	l, err := n.listen(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: n.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelWarn),
	}
	// What runs in the background outlives ctx: leaving still needs heartbeats and the outbox.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer end()

	served := make(chan error, 1)
	running.Go(func() { served <- server.Serve(l) })
	running.Go(func() { n.sampler.run(life) })
	running.Go(func() { n.pump(life) })
	supervised := make(chan struct{})
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	running.Go(func() { defer close(supervised); n.supervise(life, asking) })

	select {
	case <-ctx.Done():
		n.handOver()
	case err = <-served: // nobody but an operating system out of order ends it
		err = fmt.Errorf("serve on %s: %w", n.Addr(), err)
		stopAsking()
	}
	n.leave(life, server, supervised)
	return err
}

// leave ends the sends in hand, hands over what the outbox holds, disconnects everything and says so. Each step is
// bounded, and heartbeats keep the lease until the last one. The goodbye comes after the disconnecting, since the
// gateway gives the sessions to others as soon as it hears it.
func (n *Node) leave(life context.Context, server *http.Server, supervised <-chan struct{}) {
	n.mu.Lock()
	n.leaving = true
	n.mu.Unlock()
	n.log.Info("leaving", "sessions", len(n.held()), "events", n.outbox.len())

	calls, cancel := context.WithTimeout(life, drainTimeout)
	if err := server.Shutdown(calls); err != nil {
		_ = server.Close() // what is still in hand gets no answer: its caller will ask again
	}
	cancel()
	// Before disconnecting, since the engine acknowledges to the network over the connection.
	flush, cancel := context.WithTimeout(life, n.cfg.FlushTimeout)
	defer cancel()
	n.outbox.flush(flush)
	clear := n.disconnectAll(life, true)
	n.outbox.flush(flush)

	close(n.quiet)
	<-supervised
	if t := n.current(); t != nil {
		if !clear {
			n.log.Warn("not every session is known to be disconnected, so the lease has to lapse by itself")
		} else if err := n.farewell(life, t); err != nil {
			n.log.Warn("the gateway did not hear the goodbye; it will notice when the lease lapses", "error", err)
		}
		t.lease.revoke(context.Canceled)
	}
	close(n.outbox.done)
	n.background.Wait()
	n.log.Info("left", "eventsLost", n.outbox.len(), "clear", clear)
}

func (n *Node) listen(ctx context.Context) (net.Listener, error) {
	l := n.cfg.Listener
	if l == nil {
		var err error
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", n.cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", n.cfg.Listen, err)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addr = l.Addr().String()
	if n.cfg.Endpoint == "" {
		n.cfg.Endpoint = endpoint(l.Addr(), n.cfg.GatewayURL)
	}
	return l, nil
}

// endpoint guesses where the gateway reaches a listener: at its own address if it has one; if it listens on every
// interface, at loopback when the gateway is on this machine, else at the host's name.
func endpoint(a net.Addr, gatewayURL string) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return "http://" + a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if name, err := os.Hostname(); err == nil && !local(gatewayURL) {
			host = name
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}

func local(gatewayURL string) bool {
	u, err := url.Parse(gatewayURL)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// Addr is the address that the node listens on, host:port, and "" before Run does.
func (n *Node) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr
}

// Handler serves the gateway's calls; Run serves it by itself.
func (n *Node) Handler() http.Handler {
	return wire.Server(n, wire.ServerOptions{Logger: n.log, Traces: n.cfg.Traces})
}

// Credentials are those of the last term. After a lapse they stay good for being told lease_lost.
func (n *Node) Credentials() (int64, string) {
	t := n.current()
	if t == nil {
		return 0, ""
	}
	return t.id, t.secret
}

// Health tells how the node is.
func (n *Node) Health(context.Context) wire.Health {
	h := wire.Health{
		Status: "ok", MaxSessions: n.cfg.MaxSessions, Uptime: n.uptime(), MessageCount: n.stats.sent.Load(),
		Version: n.cfg.Version, Engine: n.engine.Name(), SessionCount: len(n.held()),
	}
	if n.isDraining() {
		h.Status = "draining"
	}
	if t := n.current(); t != nil {
		h.Term = t.id
	}
	u := n.sampler.get()
	h.CPUUsage, h.MemoryUsage = u.CPU, u.Memory
	return h
}

// Leased reports whether the node holds a lease now: the gateway has taken it, and may give it sessions.
func (n *Node) Leased() bool {
	t := n.current()
	return t != nil && t.lease.held()
}

func (n *Node) current() *term {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.term
}

func (n *Node) isLeaving() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leaving
}

// isDraining reports whether the node takes no new sessions.
func (n *Node) isDraining() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.draining || n.leaving
}

// uptime is in seconds.
func (n *Node) uptime() int64 { return int64(n.cfg.Now().Sub(n.started) / time.Second) }

var _ wire.Handler = (*Node)(nil)
