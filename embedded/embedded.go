// Package embedded runs a private PostgreSQL and a private Redis as children of this process: for `kurir up`, a
// newcomer's first look, and for tests. It is not meant for production, which brings its own servers: there are no
// backups, no replicas and no upgrades between major versions of PostgreSQL here.
//
// Both listen on a free port of 127.0.0.1, chosen at each start, and ask for a password that is kept in the home
// folder, so that other users of the machine are kept out. Unix sockets would need no password but are not used: their paths are
// limited to about 100 bytes, which a deep home exceeds, and redis:// URLs are the only ones that all our clients read.
//
// PostgreSQL's data survive a restart and a crash. Redis keeps nothing on disk, by design: it is a disposable index of
// what PostgreSQL holds.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Kinds of Redis for Config.RedisKind. RedisServer also stands for valkey-server.
const (
	RedisServer = "redis-server"
	Miniredis   = "miniredis"
)

// startLimit bounds a Start whose context has no deadline. A download of PostgreSQL over a slow line is what takes longest.
const startLimit = 3 * time.Minute

// Config says what to run and where.
type Config struct {
	// Home holds the data, passwords and logs; it is made, for this user only, if missing.
	Home   string
	Logger *slog.Logger

	Postgres, Redis bool

	// RedisKind forces RedisServer or Miniredis. Empty takes the first if it is installed.
	RedisKind string
	// RedisPort is the port to listen on; 0 chooses a free one. Tests bring a stopped server back where its clients expect it.
	RedisPort int

	// NoFsync gives up durability for speed. Only for tests: a power cut may ruin the data.
	NoFsync bool
	// Settings are further ones of PostgreSQL's, as name=value. Only for tests.
	Settings []string

	places *places // nil: the standard ones. Tests set it.
	orphan bool    // Tests: let the children outlive us, as they do where the kernel offers nothing against it.
}

// Servers are the running servers. A field of a server that was not asked for is empty.
type Servers struct {
	DatabaseURL     string
	PostgresVersion string // "15.16"

	RedisURL  string
	RedisKind string // "redis-server 7.0.15", "valkey-server 8.0.1", "miniredis"

	log      *slog.Logger
	locks    []*os.File
	postgres *child
	redis    *child
	mini     *miniRedis
	redisPID string // file that tells the next start of redis, should we be killed

	done     chan error
	mu       sync.Mutex // guards stopping
	stopping bool       // nothing is sent on done from here on
	stop     sync.Once
	stopErr  error
}

// Start runs the servers that cfg asks for and returns when each has answered a query. ctx limits the start only. A home
// that another process uses gives ErrInUse; what a killed process left running on it is stopped first.
func Start(ctx context.Context, cfg Config) (*Servers, error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startLimit)
		defer cancel()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.places == nil {
		cfg.places = standardPlaces()
	}
	s := &Servers{log: cfg.Logger, done: make(chan error, 2)}
	if err := s.start(ctx, cfg); err != nil {
		// The caller's time may be used up; Stop is bounded by itself.
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *Servers) start(ctx context.Context, cfg Config) error {
	h, err := openHome(cfg.Home)
	if err != nil {
		return err
	}
	s.locks = append(s.locks, h.lock)
	h.orphan = cfg.orphan
	if cfg.Redis {
		if err := s.startRedis(ctx, cfg, h); err != nil {
			return fmt.Errorf("start redis: %w", err)
		}
	}
	if cfg.Postgres {
		if err := s.startPostgres(ctx, cfg, h); err != nil {
			return fmt.Errorf("start PostgreSQL: %w", err)
		}
	}
	return nil
}

// Done gives an error for each server that ended although nobody stopped it, and is closed by Stop.
func (s *Servers) Done() <-chan error { return s.done }

// watch reports on Done when c ends before Stop.
func (s *Servers) watch(c *child) {
	go func() {
		<-c.exited
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stopping {
			s.done <- c.failure() // never blocks: there is room for each server
		}
	}()
}

// Stop shuts the servers down in order and waits for them, at most until ctx ends; then it insists, and at last kills,
// which takes a few seconds more. It is safe to call twice: the second call returns what the first did. Close all
// clients first.
func (s *Servers) Stop(ctx context.Context) error {
	s.stop.Do(func() {
		s.mu.Lock()
		s.stopping = true
		s.mu.Unlock()
		var wg sync.WaitGroup
		var pgErr, redisErr error
		wg.Go(func() { pgErr = s.postgres.stop(ctx, fastShutdown, immediateShutdown) })
		wg.Go(func() { redisErr = s.redis.stop(ctx, redisShutdown) })
		wg.Wait()
		if s.mini != nil {
			s.mini.close()
		}
		if s.redisPID != "" {
			_ = os.Remove(s.redisPID)
		}
		for _, l := range s.locks {
			_ = l.Close()
		}
		s.stopErr = errors.Join(pgErr, redisErr)
		close(s.done)
	})
	return s.stopErr
}

// Installed says which servers this machine has, as "15.16" and "redis-server 7.0.15"; empty where there is none and
// Start would fetch PostgreSQL or fall back to miniredis.
func Installed(ctx context.Context) (postgres, redis string) {
	p := standardPlaces()
	acct, err := chooseAccount("")
	if err != nil {
		return "", ""
	}
	if in, err := p.findPostgres(ctx, acct, ""); err == nil {
		postgres = in.version
	}
	if r, err := p.findRedis(ctx, acct); err == nil {
		redis = r.kind
	}
	return postgres, redis
}
