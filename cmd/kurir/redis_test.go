package main

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/jobs"
	"kurir/limits"
	"kurir/monitoring"
	"kurir/throttle"
)

func openedRedis(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := openRedis(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestRedisURLs(t *testing.T) {
	one, ok := openedRedis(t, "redis://user:p%40ss@host:1/3?max_retries=7").(*redis.Client)
	require.True(t, ok)
	require.Equal(t, []any{"host:1", "user", "p@ss", 3, 7, redisConns}, []any{one.Options().Addr, one.Options().Username, one.Options().Password, one.Options().DB, one.Options().MaxRetries, one.Options().PoolSize})
	require.Nil(t, one.Options().TLSConfig)
	one = openedRedis(t, "rediss://host:1?skip_verify=true").(*redis.Client)
	require.Equal(t, "host", one.Options().TLSConfig.ServerName)
	require.True(t, one.Options().TLSConfig.InsecureSkipVerify)

	watched, ok := openedRedis(t, "redis-sentinel://:secret@a,b:2/4?master=main&sentinel_password=other").(*redis.Client)
	require.True(t, ok)
	require.Equal(t, []any{"secret", 4}, []any{watched.Options().Password, watched.Options().DB})
	several, ok := openedRedis(t, "rediss-cluster://u:secret@a,b:2").(*redis.ClusterClient)
	require.True(t, ok)
	require.Equal(t, []string{"a:6379", "b:2"}, several.Options().Addrs)
	require.Equal(t, []any{"u", "secret"}, []any{several.Options().Username, several.Options().Password})
	require.NotNil(t, several.Options().TLSConfig)

	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for bad, says := range map[string]string{
		"redis://:secret@host:port": "cannot be read", "postgres://:secret@host": "cannot be read", "redis://:secret@host/0?nonsense=1": "cannot be read",
		"other-cluster://:secret@host": "cannot be read", "redis-sentinel://:secret@a,,b?master=x": "cannot be read", "redis-sentinel://:secret@a/b?master=x": "cannot be read",
		"redis-sentinel://:secret@a:1,b:2": "?master=", "redis-sentinel://:secret@a?master=x&cluster=y": `no parameter "cluster"`,
		"redis-cluster://:secret@a/1": "no database but 0", "redis-cluster://:secret@a?master=x": `no parameter "master"`,
		"redis://:secret@host?cacert=/x": "rediss://", "rediss://:secret@host?cacert=/nowhere": "/nowhere", "rediss://:secret@host?cacert=" + empty: "no certificate",
		"rediss-cluster://:secret@host?cert=/nowhere": "cert and key",
	} {
		_, err := openRedis(bad)
		require.ErrorContains(t, err, "REDIS_URL", bad)
		require.ErrorContains(t, err, says, bad)
		require.NotContains(t, err.Error(), "secret", bad)
	}
}

// A REDIS_URL of the wrong kind ends a start at once; a Redis that is down does not.
func TestRedisOfAnotherKind(t *testing.T) {
	t.Parallel()
	watched, ok := embeddedtest.NewSentinels(t)
	if !ok {
		return
	}
	cluster, _ := embeddedtest.NewRedisCluster(t)
	sentinel := "redis://:password-of-sentinels@" + watched.Addrs()[0]
	_, master := watched.Master()
	masterAt, err := url.Parse(master)
	require.NoError(t, err)
	for url, says := range map[string]string{
		sentinel:          "leads to a Sentinel",
		cluster.NodeURL(): "leads to a node of a cluster",
		watched.Replica(): "leads to a replica",
		"redis-sentinel" + master[len("redis"):] + "?master=kurir&sentinel_password=password-of-redis":         "is no Sentinel",
		"redis-cluster" + master[len("redis"):]:                                                                "is no cluster",
		"redis-sentinel://:x@" + watched.Addrs()[0] + "?master=nobody&sentinel_password=password-of-sentinels": "no master of that name",
		master: "", watched.URL(): "", cluster.URL(): "", "redis://127.0.0.1:1": "", "redis-cluster://127.0.0.1:1,127.0.0.1:2": "",
		"redis-sentinel://127.0.0.1:1?master=kurir": "", "redis://:wrong@" + masterAt.Host: "",
	} {
		err := misdirected(t.Context(), openedRedis(t, url))
		if says == "" {
			require.NoError(t, err, url)
		} else {
			require.ErrorContains(t, err, says, url)
		}
	}
	err = run(t.Context(), []string{"scheduler"}, []string{"KURIR_HOME=" + t.TempDir(), "LOG_FILE_PATH=", "DATABASE_URL=postgres://127.0.0.1:1/x", "REDIS_URL=" + cluster.NodeURL()}, os.Stderr, os.Stderr)
	require.ErrorContains(t, err, "redis-cluster://")
}

// Redis is spoken to under TLS, by those alone whom the certificates name.
func TestRedisWithTLS(t *testing.T) {
	ours := embeddedtest.NewAuthority(t)
	addr, password, ok := embeddedtest.RedisTLS(t, ours, true, "127.0.0.1")
	if !ok {
		return
	}
	cert, key := ours.Issue("client")
	as := func(parameters url.Values) error {
		client := openedRedis(t, "rediss://:"+password+"@"+addr+"?"+parameters.Encode())
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return errors.Join(client.Set(ctx, "key", 1, time.Minute).Err(), misdirected(ctx, client))
	}
	require.NoError(t, as(url.Values{"cacert": {ours.File}, "cert": {cert}, "key": {key}}))
	require.Error(t, as(url.Values{"cacert": {ours.File}}), "it demands a certificate")
	require.ErrorContains(t, as(url.Values{"cacert": {embeddedtest.NewAuthority(t).File}, "cert": {cert}, "key": {key}}), "cacert in REDIS_URL")
	require.ErrorContains(t, as(nil), "cacert in REDIS_URL")
}

// All that Kurir does with Redis works where its keys lie on several nodes.
func TestRedisCluster(t *testing.T) {
	cluster, ok := embeddedtest.NewRedisCluster(t)
	if !ok {
		return
	}
	client := openedRedis(t, cluster.URL())
	store := throttle.NewRedis(client, 5*time.Second)
	policy := limits.Policy{Name: "test", Limit: 3, Window: time.Minute, Slots: 6}
	var asks []throttle.Ask
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} { // on all nodes
		asks = append(asks, throttle.Ask{Key: "kurir:test:" + key, Policy: policy, N: 1})
	}
	for range 3 {
		taken, err := store.Take(t.Context(), asks...)
		require.NoError(t, err)
		for _, one := range taken {
			require.True(t, one.Allowed, one.Ask.Key)
		}
	}
	for _, n := range cluster.Keys() {
		require.Positive(t, n, "keys are on all nodes: %v", cluster.Keys())
	}
	taken, err := store.Take(t.Context(), asks...)
	require.NoError(t, err)
	for _, one := range taken {
		require.False(t, one.Allowed, one.Ask.Key)
	}
	require.NoError(t, store.Clear(t.Context(), asks[0].Key, asks[1].Key, asks[2].Key))
	taken, err = store.Take(t.Context(), asks...)
	require.NoError(t, err)
	require.True(t, taken[0].Allowed && taken[1].Allowed && taken[2].Allowed)
	require.False(t, taken[3].Allowed)

	metrics := monitoring.New("test")
	jobs.WatchQueues(metrics, client)
	require.NoError(t, jobs.NewQueue(client, slog.New(slog.DiscardHandler)).Tick(t.Context(), jobs.KindSweep, time.Now()))
	info, err := asynq.NewInspectorFromRedisClient(client).GetQueueInfo(jobs.QueueTicks)
	require.NoError(t, err)
	require.Equal(t, 1, info.Pending)

	d := examined(t, "KURIR_HOME="+t.TempDir(), "REDIS_URL="+cluster.URL())
	d.says("redis", fine, "answers")
	require.Len(t, d.checks["redis"], 9, "three lines of each node: %s", d.text)
}
