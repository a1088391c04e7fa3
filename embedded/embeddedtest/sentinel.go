package embeddedtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// redisNode starts a Redis, or a Sentinel, with lines of configuration. It keeps nothing on disk.
func redisNode(t testing.TB, path string, more []string, lines ...string) *Process {
	t.Helper()
	folder := place(t, "redis-node")
	file := filepath.Join(folder, "redis.conf") // Sentinels write into it
	lines = append([]string{"bind 127.0.0.1", "dir " + folder, "daemonize no", `logfile ""`}, lines...)
	put(t, file, []byte(strings.Join(append(lines, ""), "\n")))
	return startProcess(t, folder, path, append([]string{file}, more...)...)
}

// storeless are lines of a Redis that keeps nothing and drops nothing.
var storeless = []string{`save ""`, "appendonly no", "maxmemory-policy noeviction", "repl-diskless-sync yes", "repl-diskless-sync-delay 0"}

const (
	nodePassword     = "password-of-redis"
	sentinelPassword = "password-of-sentinels"
	masterName       = "kurir"
	sentinels        = 3
)

// Sentinels are three that watch over a Redis and its replica.
type Sentinels struct {
	t     testing.TB
	addrs []string
	nodes map[string]*Process // by address
}

// NewSentinels starts them. ok is false where no Redis is installed. All are stopped at the end of the test.
func NewSentinels(t testing.TB) (s *Sentinels, ok bool) {
	t.Helper()
	path, ok := installed(t, "redis-server", "redis-server", "valkey-server")
	if !ok {
		return nil, false
	}
	s = &Sentinels{t: t, nodes: map[string]*Process{}}
	first, second := Port(t), Port(t)
	for _, port := range []int{first, second} {
		lines := append([]string{fmt.Sprintf("port %d", port), "requirepass " + nodePassword, "masterauth " + nodePassword}, storeless...)
		if port != first {
			lines = append(lines, fmt.Sprintf("replicaof 127.0.0.1 %d", first))
		}
		s.nodes[loopback(port)] = redisNode(t, path, nil, lines...)
	}
	// Sentinels look for replicas when they start, and then each ten seconds.
	await(t, "the replica follows", []*Process{s.nodes[loopback(first)], s.nodes[loopback(second)]}, func(ctx context.Context) error {
		return follows(ctx, loopback(second))
	})
	var watching []*Process
	for range sentinels {
		port := Port(t)
		s.addrs = append(s.addrs, loopback(port))
		watching = append(watching, redisNode(t, path, []string{"--sentinel"}, fmt.Sprintf("port %d", port), "requirepass "+sentinelPassword,
			fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2", masterName, first), "sentinel auth-pass "+masterName+" "+nodePassword,
			"sentinel sentinel-pass "+sentinelPassword,
			"sentinel down-after-milliseconds "+masterName+" 1000", "sentinel failover-timeout "+masterName+" 5000"))
	}
	for _, addr := range s.addrs {
		await(t, "the Sentinel knows all others and the replica", watching, func(ctx context.Context) error { return s.complete(ctx, addr) })
	}
	return s, true
}

func follows(ctx context.Context, replica string) error {
	client := redis.NewClient(&redis.Options{Addr: replica, Password: nodePassword})
	defer client.Close()
	info, err := client.Info(ctx, "replication").Result()
	if err == nil && !strings.Contains(info, "master_link_status:up") {
		err = errors.New(info)
	}
	return err
}

func (s *Sentinels) complete(ctx context.Context, addr string) error {
	client := s.sentinel(addr)
	defer client.Close()
	m, err := client.Master(ctx, masterName).Result()
	if err != nil {
		return err
	}
	if m["num-slaves"] != "1" || m["num-other-sentinels"] != fmt.Sprint(sentinels-1) || m["flags"] != "master" {
		return fmt.Errorf("%s: %v", addr, m)
	}
	replicas, err := client.Replicas(ctx, masterName).Result()
	if err != nil {
		return err
	}
	if len(replicas) != 1 || replicas[0]["master-link-status"] != "ok" {
		return fmt.Errorf("%s: %v", addr, replicas)
	}
	return nil
}

func (s *Sentinels) sentinel(addr string) *redis.SentinelClient {
	return redis.NewSentinelClient(&redis.Options{Addr: addr, Password: sentinelPassword})
}

// URL names them all.
func (s *Sentinels) URL() string {
	u := url.URL{Scheme: "redis-sentinel", User: url.UserPassword("", nodePassword), Host: strings.Join(s.addrs, ","), Path: "/0",
		RawQuery: url.Values{"master": {masterName}, "sentinel_password": {sentinelPassword}}.Encode()}
	return u.String()
}

// Addrs are where the Sentinels are.
func (s *Sentinels) Addrs() []string { return s.addrs }

// Master is where the Sentinels say that the master is, and the URL that leads there alone.
func (s *Sentinels) Master() (addr, direct string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addr, err := s.master(ctx, s.addrs[0])
	if err != nil {
		s.t.Fatalf("ask a Sentinel: %v", err)
	}
	return addr, "redis://:" + nodePassword + "@" + addr
}

func (s *Sentinels) master(ctx context.Context, sentinel string) (string, error) {
	client := s.sentinel(sentinel)
	defer client.Close()
	at, err := client.GetMasterAddrByName(ctx, masterName).Result()
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(at[0], at[1]), nil
}

// Replica is the URL of the one that is not the master.
func (s *Sentinels) Replica() string {
	s.t.Helper()
	master, _ := s.Master()
	for addr := range s.nodes {
		if addr != master {
			return "redis://:" + nodePassword + "@" + addr
		}
	}
	s.t.Fatal("there is no replica")
	return ""
}

// KillMaster ends the master as a power cut would, and waits until all Sentinels name another one.
func (s *Sentinels) KillMaster() {
	s.t.Helper()
	was, _ := s.Master()
	s.nodes[was].Kill()
	delete(s.nodes, was)
	for _, addr := range s.addrs {
		await(s.t, "the Sentinels name another master", nil, func(ctx context.Context) error {
			now, err := s.master(ctx, addr)
			if err == nil && now == was {
				err = errors.New("it is still the former")
			}
			return err
		})
	}
}
