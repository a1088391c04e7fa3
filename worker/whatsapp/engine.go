// Package whatsapp is a worker's engine on WhatsApp itself, by way of go.mau.fi/whatsmeow. Credentials are in a schema of a
// PostgreSQL that all workers share, so that any of them can take over a session; who holds it is for the worker's leases to
// say, and the database refuses whoever does no more (schema.sql). It links GPL-3.0 code: only cmd/kurir-whatsapp may import it.
package whatsapp

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"golang.org/x/sync/semaphore"

	"kurir/egress"
	"kurir/worker"
)

// Config of an engine.
type Config struct {
	DatabaseURL string // where credentials are, past any pooler that pools by transaction
	Schema      string // in it; "kurir_whatsapp" if empty
	Conns       int    // to it, shared by all sessions; 16 if 0
	Logger      *slog.Logger

	DeviceName string        // as phones list the linked device; "Kurir" if empty
	QRTimeout  time.Duration // an unscanned session gives up; 0 means 3 min
	BackoffMin time.Duration // first wait between connects, doubling to BackoffMax; 0 means 1 s
	BackoffMax time.Duration // 0 means 2 min

	SendTimeout time.Duration   // for WhatsApp to acknowledge one message; 0 means 20 s
	MediaMax    int64           // bytes of a medium that comes in; 0 means 100 MB
	TempFolder  string          // for media on their way, encrypted; the system's if empty
	Transport   *http.Transport // the way to WhatsApp, which a session's proxy and lease are put around; nil: the internet
	ProxyAllow  []netip.Prefix  // private networks where sessions' proxies may be all the same
	// Through is put around that way, for tests that tell engines apart; nil: nothing is.
	Through func(http.RoundTripper) http.RoundTripper
}

// Engine implements worker.Engine.
type Engine struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	pool   *pgxpool.Pool

	proxies *egress.Guard // says which proxies are reached

	lids       *sqlstore.CachedLIDMap // of all sessions
	lidPool    *pgxpool.Pool
	shared     *sql.DB // over lidPool
	lidsMu     sync.Mutex
	lidsAsked  atomic.Int64
	lidsFilled int64 // who had asked by then has a cache that is new enough
	lidsRead   time.Time

	room *semaphore.Weighted // bytes of media on the disk, see tempFile

	outdated   atomic.Bool // WhatsApp takes this version no more
	panics     atomic.Int64
	reconnects atomic.Int64
	fenced     atomic.Int64 // sends that the database refused
	retries    atomic.Int64 // messages that phones have asked for again
	unreadable atomic.Int64 // messages that came in and could not be read

	prepare func(*store.Device) // what a phone tells its devices, where there is none; nil but in tests

	mu   sync.Mutex
	open map[string]*conn // by session

	working sync.WaitGroup // upkeep
}

var _ worker.Engine = (*Engine)(nil)

// New makes an engine and brings its schema up to date.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, proxies: egress.NewGuard(cfg.ProxyAllow), open: map[string]*conn{}, room: semaphore.NewWeighted(tempRoom)}
	if e.pool, err = openPool(ctx, cfg.DatabaseURL, cfg.Schema, cfg.Conns); err != nil {
		return nil, err
	}
	if err := upgrade(ctx, e.pool, cfg.Schema, logger{e.log}); err != nil {
		e.pool.Close()
		return nil, err
	}
	if e.lidPool, e.shared, e.lids, err = openLIDs(ctx, cfg, logger{e.log}); err != nil {
		e.pool.Close()
		return nil, err
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	setProps(cfg.DeviceName)
	e.working.Go(e.upkeep)
	return e, nil
}

func (c Config) withDefaults() (Config, error) {
	if c.Schema == "" {
		c.Schema = "kurir_whatsapp"
	}
	if c.Conns == 0 {
		c.Conns = 16
	}
	if c.Conns < 2 || c.Conns > 1000 {
		return c, fmt.Errorf("%d connections to the database: expected 2 to 1000", c.Conns)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.DeviceName == "" {
		c.DeviceName = "Kurir"
	}
	c.MediaMax = cmp.Or(c.MediaMax, 100<<20)
	if c.Transport == nil {
		c.Transport = defaultTransport()
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&c.QRTimeout, 3 * time.Minute}, {&c.BackoffMin, time.Second}, {&c.BackoffMax, 2 * time.Minute}, {&c.SendTimeout, 20 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	return c, nil
}

// Name implements worker.Engine.
func (e *Engine) Name() string { return "whatsapp" }

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

// closeTimeout is for one session's writers to end when the engine closes.
const closeTimeout = 5 * time.Second

// Close implements worker.Engine: it breaks what is still open. Credentials stay.
func (e *Engine) Close() error {
	e.mu.Lock()
	e.cancel()
	left := make([]*conn, 0, len(e.open))
	for _, c := range e.open {
		left = append(left, c)
	}
	e.mu.Unlock()
	var failed []error
	for _, c := range left {
		c.startClosing()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		failed = append(failed, c.finish(ctx, reasonClosed))
		cancel()
	}
	e.working.Wait()
	failed = append(failed, e.shared.Close())
	e.lidPool.Close()
	e.pool.Close()
	return errors.Join(failed...)
}

// closed lets the session be opened again.
func (e *Engine) closed(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open[c.session.ID] == c {
		delete(e.open, c.session.ID)
	}
}
