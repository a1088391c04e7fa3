package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisShutdown makes Redis end as the command SHUTDOWN does.
const redisShutdown = syscall.SIGTERM

func (s *Servers) startRedis(ctx context.Context, cfg Config, h *home) error {
	password, err := h.secret("redis.password")
	if err != nil {
		return err
	}
	if err := reclaimRedis(ctx, h.file("redis.pid")); err != nil {
		return err
	}
	acct, err := chooseAccount(h.file("postgres"))
	if err != nil {
		return err
	}
	in, err := cfg.places.findRedis(ctx, acct)
	switch {
	case cfg.RedisKind != "" && cfg.RedisKind != RedisServer && cfg.RedisKind != Miniredis:
		return fmt.Errorf("unknown kind of Redis %q", cfg.RedisKind)
	case cfg.RedisKind == Miniredis, cfg.RedisKind == "" && errors.Is(err, errNoRedis):
		return s.startMiniredis(ctx, cfg, password)
	case err != nil:
		return fmt.Errorf("%w: install one with `apt-get install redis-server` or `brew install redis`", err)
	}
	for {
		err := s.tryRedis(ctx, cfg, h, in, acct, password)
		if err == nil || !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *Servers) tryRedis(ctx context.Context, cfg Config, h *home, in redisInstall, acct account, password string) error {
	port, err := redisPort(ctx, cfg)
	if err != nil {
		return err
	}
	death := redisShutdown
	if h.orphan {
		death = 0
	}
	// The configuration comes by stdin: arguments could be read by everybody, and a file by its user only.
	c := command{path: in.path, args: []string{"-"}, stdin: redisConfig(port, password), acct: acct,
		log: h.file("redis.log"), deathSignal: death}
	ch, err := startChild(c)
	if err != nil {
		return err
	}
	s.redisPID = h.file("redis.pid")
	note := fmt.Appendf(nil, "%d %d\n", ch.cmd.Process.Pid, port)
	if err := os.WriteFile(s.redisPID, note, 0o600); err != nil {
		return errors.Join(err, ch.stop(ctx, redisShutdown))
	}
	address := redisURL(port, password)
	if err := awaitRedis(ctx, ch, address); err != nil {
		return errors.Join(err, ch.stop(ctx, redisShutdown))
	}
	s.redis, s.RedisURL, s.RedisKind = ch, address, in.kind
	s.watch(ch)
	return nil
}

// redisConfig keeps nothing on disk, see the package comment, and never evicts, since what it would take is a queue.
func redisConfig(port int, password string) string {
	return strings.Join([]string{
		"bind 127.0.0.1", "port " + strconv.Itoa(port), "requirepass " + password,
		`save ""`, "appendonly no", "dir /", "maxmemory-policy noeviction",
		"daemonize no", `logfile ""`, "",
	}, "\n")
}

func redisURL(port int, password string) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: "127.0.0.1:" + strconv.Itoa(port), Path: "/0"}
	return u.String()
}

func redisPort(ctx context.Context, cfg Config) (int, error) {
	if cfg.RedisPort != 0 {
		return cfg.RedisPort, nil
	}
	return freePort(ctx)
}

// awaitRedis waits until the server answers. It is not asked before it says that it listens: until then somebody else may
// have the port, and would be told the password.
func awaitRedis(ctx context.Context, ch *child, address string) error {
	opt, err := redis.ParseURL(address)
	if err != nil {
		return err
	}
	client := redis.NewClient(opt)
	defer client.Close()
	for {
		err := errors.New("it does not listen yet")
		if strings.Contains(ch.tail(), "Ready to accept connections") {
			err = client.Ping(ctx).Err()
		}
		if err == nil {
			return nil
		}
		select {
		case <-ch.exited:
			return ch.failure()
		case <-ctx.Done():
			return fmt.Errorf("no answer in time: %w; the end of %s:\n%s", err, ch.log, ch.tail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
