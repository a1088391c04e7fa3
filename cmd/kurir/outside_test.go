package main

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

// TestPoolerAndSentinels runs Kurir on servers as others run them: PostgreSQL with TLS behind PgBouncer, and Redis under the watch
// of Sentinels. The master of Redis dies under load; no call fails, sending goes on, and nothing is lost, doubled or overtaken.
func TestPoolerAndSentinels(t *testing.T) {
	t.Parallel()
	watched, ok := embeddedtest.NewSentinels(t)
	if !ok {
		return
	}
	pg, ours := embeddedtest.NewPostgres(t), embeddedtest.NewAuthority(t)
	pg.UseTLS(ours.Issue("127.0.0.1"))
	direct, err := url.Parse(pg.URL())
	require.NoError(t, err)
	direct.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ours.File}}.Encode()
	env := []string{"DATABASE_URL=" + direct.String()}
	if pooler, ok := embeddedtest.NewPgBouncer(t, pg.URL(), 12, "server_tls_sslmode = verify-full", "server_tls_ca_file = "+ours.File); ok {
		env = []string{"DATABASE_URL=" + pooler.ClientURL(), "DATABASE_DIRECT_URL=" + direct.String()}
	}
	c := plan{workers: 2, postgres: pg, redis: watched.URL(), env: env}.start(t)
	c.subscribe("*")
	sessions := c.linkedSessions(size.sessions)
	f := c.startFlow(sessions, fleet.rate, false)
	watched.KillMaster()
	f.more(2 * fleet.rate)
	f.end()
	c.prove(backWithin)
	c.provePictures()
	c.proveEvents(backWithin)
	require.Zero(t, modelstest.Scalar[int64](t, c.db, `SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
		WHERE datname = current_database() AND NOT ssl AND application_name LIKE 'kurir %'`), "connections without TLS")
	d := examined(t, c.env...)
	d.says("redis", fine, "answers")
	d.says("database", fine, "answers")
	if len(env) == 2 {
		d.says("pooler", fine, "have Kurir's settings")
	}
}

// TestOnRedisCluster has messages go through a Redis Cluster, queues and all.
func TestOnRedisCluster(t *testing.T) {
	t.Parallel()
	several, ok := embeddedtest.NewRedisCluster(t)
	if !ok {
		return
	}
	c := plan{apis: 1, workers: 1, redis: several.URL()}.start(t)
	c.subscribe("*")
	sessions := c.linkedSessions(4)
	c.send(sessions, load{messages: 100, clients: 8}, nil)
	c.prove(backWithin)
	c.proveEvents(backWithin)
	require.NotContains(t, fmt.Sprint(several.Keys()), " 0", "all nodes have keys")
	for name, p := range c.procs {
		require.NotContains(t, p.log.notable(1000), "CROSSSLOT", name)
	}
}
