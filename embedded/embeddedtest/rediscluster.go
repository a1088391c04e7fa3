package embeddedtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisCluster is a cluster of three masters without replicas.
type RedisCluster struct {
	t     testing.TB
	addrs []string
}

const (
	clusterNodes = 3
	hashSlots    = 16384
)

// NewRedisCluster starts one. ok is false where no Redis is installed. It is stopped at the end of the test.
func NewRedisCluster(t testing.TB) (c *RedisCluster, ok bool) {
	t.Helper()
	path, ok := installed(t, "redis-server", "redis-server", "valkey-server")
	if !ok {
		return nil, false
	}
	c = &RedisCluster{t: t}
	var nodes []*Process
	for range clusterNodes {
		port := Port(t)
		c.addrs = append(c.addrs, loopback(port))
		nodes = append(nodes, redisNode(t, path, nil, append([]string{fmt.Sprintf("port %d", port), fmt.Sprintf("cluster-port %d", Port(t)),
			"requirepass " + nodePassword, "masterauth " + nodePassword, "cluster-enabled yes", "cluster-node-timeout 5000"}, storeless...)...))
	}
	for i, addr := range c.addrs {
		await(t, "a node has its slots and knows the first", nodes, func(ctx context.Context) error { return c.join(ctx, i, addr) })
	}
	for _, addr := range c.addrs {
		await(t, "the cluster is complete", nodes, func(ctx context.Context) error { return c.complete(ctx, addr) })
	}
	return c, true
}

func (c *RedisCluster) node(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr, Password: nodePassword})
}

// join gives a node its share of the slots and has the first one meet it. It may be called again when it failed.
func (c *RedisCluster) join(ctx context.Context, i int, addr string) error {
	node := c.node(addr)
	defer node.Close()
	_ = node.Do(ctx, "cluster", "set-config-epoch", i+1).Err() // it may have one
	err := node.ClusterAddSlotsRange(ctx, hashSlots*i/clusterNodes, hashSlots*(i+1)/clusterNodes-1).Err()
	if err != nil && !strings.Contains(err.Error(), "already busy") {
		return err
	}
	if i == 0 {
		return nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	info, err := node.ConfigGet(ctx, "cluster-port").Result()
	if err != nil {
		return err
	}
	first := c.node(c.addrs[0])
	defer first.Close()
	return first.Do(ctx, "cluster", "meet", host, port, info["cluster-port"]).Err()
}

func (c *RedisCluster) complete(ctx context.Context, addr string) error {
	node := c.node(addr)
	defer node.Close()
	info, err := node.ClusterInfo(ctx).Result()
	if err != nil {
		return err
	}
	if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_size:%d\r", clusterNodes)) {
		return fmt.Errorf("%s says %s", addr, info)
	}
	return nil
}

// URL names all nodes.
func (c *RedisCluster) URL() string {
	u := url.URL{Scheme: "redis-cluster", User: url.UserPassword("", nodePassword), Host: strings.Join(c.addrs, ",")}
	return u.String()
}

// NodeURL leads to one node alone.
func (c *RedisCluster) NodeURL() string { return "redis://:" + nodePassword + "@" + c.addrs[0] }

// Keys counts the keys of each node.
func (c *RedisCluster) Keys() (counts []int64) {
	c.t.Helper()
	for _, addr := range c.addrs {
		node := c.node(addr)
		n, err := node.DBSize(context.Background()).Result()
		_ = node.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		counts = append(counts, n)
	}
	return counts
}

// RedisTLS starts a Redis that speaks TLS only, on 127.0.0.1, with a certificate for hosts; demanding has it ask clients for one of
// the same authority. ok is false where no Redis is installed.
func RedisTLS(t testing.TB, a *Authority, demanding bool, hosts ...string) (addr, password string, ok bool) {
	t.Helper()
	path, ok := installed(t, "redis-server", "redis-server", "valkey-server")
	if !ok {
		return "", "", false
	}
	port := Port(t)
	cert, key := a.Issue(hosts...)
	node := redisNode(t, path, nil, append([]string{"port 0", fmt.Sprintf("tls-port %d", port), "tls-cert-file " + cert, "tls-key-file " + key,
		"tls-ca-cert-file " + a.File, "tls-auth-clients " + map[bool]string{true: "yes", false: "no"}[demanding], "requirepass " + nodePassword}, storeless...)...)
	await(t, "Redis listens", []*Process{node}, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", loopback(port))
		if err != nil {
			return err
		}
		return conn.Close()
	})
	return loopback(port), nodePassword, true
}
