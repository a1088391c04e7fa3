package models_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

// opened is a database that is closed with the test.
func opened(t *testing.T, at models.Place, name string, conns int) *models.DB {
	t.Helper()
	db, err := models.OpenAt(at, name, conns)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// What a message goes through works on connections that change hands after each transaction; the settings are the role's.
func TestThroughPgBouncer(t *testing.T) {
	r := newReporter(t)
	plain := r.db
	direct := plain.Pool.Config().ConnString()
	pooler, ok := embeddedtest.NewPgBouncer(t, direct, 3)
	if !ok {
		return
	}
	t.Logf("PgBouncer %s, prepared statements: %t", pooler.Version, pooler.Prepared)
	db := opened(t, models.Place{URL: pooler.ClientURL(), Direct: direct}, "kurir api key abc", 8)
	_, err := plain.Pool.Exec(t.Context(), `ALTER ROLE CURRENT_USER IN DATABASE `+plain.Pool.Config().ConnConfig.Database+` SET work_mem = '5MB'`)
	require.NoError(t, err)

	set, stale, err := db.SetForPooler(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"enable_hashjoin", "enable_mergejoin", "enable_seqscan", "idle_in_transaction_session_timeout", "jit", "plan_cache_mode", "statement_timeout"}, set)
	require.False(t, stale)
	set, stale, err = db.SetForPooler(t.Context())
	require.NoError(t, err)
	require.Empty(t, set, "nothing is left to do")
	require.False(t, stale)
	require.Equal(t, "5MB", modelstest.Scalar[string](t, db, `SHOW work_mem`), "what the role had stays")

	_, err = plain.Pool.Exec(t.Context(), `ALTER ROLE CURRENT_USER IN DATABASE `+plain.Pool.Config().ConnConfig.Database+` SET enable_seqscan = on`)
	require.NoError(t, err)
	pooler.Renew()
	missing := func() []string {
		missing, err := db.MissingSettings(t.Context())
		require.NoError(t, err)
		return missing
	}
	require.Eventually(t, func() bool { return slices.Equal(missing(), []string{"enable_seqscan"}) }, 20*time.Second, 10*time.Millisecond)
	set, stale, err = db.SetForPooler(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"enable_seqscan"}, set)
	require.True(t, stale)
	pooler.Renew()
	require.Eventually(t, func() bool { return len(missing()) == 0 }, 20*time.Second, 10*time.Millisecond)

	t.Run("messages", func(t *testing.T) {
		r.db, r.accept = db, accepter(t, db)
		r.passesThrough(t)
	})
	t.Run("plans", func(t *testing.T) {
		if pooler.Prepared { // else there are none to look at
			require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT coalesce(sum(custom_plans), 0)::bigint FROM pg_prepared_statements`))
			require.Positive(t, modelstest.Scalar[int64](t, db, `SELECT coalesce(sum(generic_plans), 0)::bigint FROM pg_prepared_statements`))
		}
	})
	t.Run("news of credentials", func(t *testing.T) {
		heard := make(chan uuid.UUID, 10)
		ctx, cancel := context.WithCancel(t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { models.WatchCredentials(ctx, db, quiet, func(user uuid.UUID) { heard <- user }) })
		defer watching.Wait()
		defer cancel()
		require.Equal(t, uuid.Nil, <-heard, "it listens")
		user := modelstest.Scalar[uuid.UUID](t, db, `UPDATE users SET is_active = false RETURNING id`)
		require.Equal(t, user, <-heard)
		names := modelstest.Scalar[[]string](t, plain, `SELECT array_agg(DISTINCT application_name ORDER BY application_name) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name LIKE 'kurir %'`)
		require.Equal(t, []string{"kurir api key abc", "kurir pooled"}, names, "only what lives tells its key")
	})
}

// passesThrough takes messages from many at once to their receipts.
func (r *reporter) passesThrough(t *testing.T) {
	var group sync.WaitGroup
	const each, chats = 15, 8
	for chat := range chats {
		group.Go(func() {
			for i := range each {
				if err := r.accept.Accept(t.Context(), newMessage(r.session.UID, fmt.Sprint(chat), fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	runner, sent := r.runner(), 0
	h := r.take(runner)
	for deadline := time.Now().Add(20 * time.Second); sent < each*chats && time.Now().Before(deadline); {
		claim := r.claim(h, 32)
		var outcomes []models.Outcome
		for i := range claim.Messages {
			outcomes = append(outcomes, outcome(claim, i, models.MessageSent))
		}
		r.settle(h, outcomes...)
		sent += len(outcomes)
	}
	require.Equal(t, each*chats, sent)
	require.True(t, r.release(h))
	ids := modelstest.Scalar[[]uuid.UUID](t, r.db, `SELECT array_agg(id) FROM messages`)
	for half := range slices.Chunk(ids, 50) {
		for _, id := range half {
			r.send(r.receipt(id, "delivered"), r.receipt(id, "read"))
		}
	}
	r.send(r.received("A", "hi"))
	require.EqualValues(t, each*chats, r.count(`status = 'READ'`))
	_, err := models.AddPartitions(t.Context(), r.db, time.Now().AddDate(0, 1, 0))
	require.NoError(t, err)
}

// A pooler that nobody told us of, and one that cannot carry us, are errors that say what to do.
func TestPoolersThatDoNotFit(t *testing.T) {
	direct := modelstest.URL(t)
	pooler, ok := embeddedtest.NewPgBouncer(t, direct, 1)
	if !ok {
		return
	}
	unknown := opened(t, models.Place{URL: pooler.URL()}, "kurir", 2)
	err := unknown.Pool.Ping(t.Context())
	require.Error(t, err)
	require.Contains(t, models.Advice(err), "DATABASE_DIRECT_URL")
	heard := make(chan struct{}, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	twice := opened(t, models.Place{URL: pooler.URL(), Direct: pooler.URL()}, "kurir", 2)
	models.WatchCredentials(ctx, twice, quiet, func(uuid.UUID) { heard <- struct{}{}; cancel() })
	require.Len(t, heard, 1, "it is not deaf without saying so")

	if !pooler.Prepared {
		_, err := opened(t, models.Place{URL: pooler.URL(), Direct: direct}, "kurir", 4).MissingSettings(t.Context())
		var plain *models.PlainPooledError
		require.ErrorAs(t, err, &plain)
		require.Contains(t, models.Advice(err), "cache_describe")
	}
}

// PostgreSQL is spoken to under TLS, by those alone whom the certificates name.
func TestPostgresWithTLS(t *testing.T) {
	pg, ours := embeddedtest.NewPostgres(t), embeddedtest.NewAuthority(t)
	pg.UseTLS(ours.Issue("127.0.0.1"))
	with := func(host string, parameters url.Values) string {
		u, err := url.Parse(pg.URL())
		require.NoError(t, err)
		u.Host, u.RawQuery = strings.Replace(u.Host, "127.0.0.1", host, 1), parameters.Encode()
		return u.String()
	}
	connect := func(url string) (encrypted bool, err error) {
		err = opened(t, models.Place{URL: url}, "kurir", 2).Pool.QueryRow(t.Context(), `SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`).Scan(&encrypted)
		return encrypted, err
	}
	for _, mode := range []string{"verify-full", "verify-ca"} {
		encrypted, err := connect(with("127.0.0.1", url.Values{"sslmode": {mode}, "sslrootcert": {ours.File}}))
		require.NoError(t, err, mode)
		require.True(t, encrypted, mode)

		_, err = connect(with("127.0.0.1", url.Values{"sslmode": {mode}, "sslrootcert": {embeddedtest.NewAuthority(t).File}}))
		require.ErrorContains(t, err, "unknown authority", mode)
		require.Contains(t, models.Advice(err), "sslrootcert", mode)
	}
	_, err := connect(with("localhost", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {ours.File}}))
	require.ErrorContains(t, err, "localhost")
	require.Contains(t, models.Advice(err), "the host in the URL")
	encrypted, err := connect(with("127.0.0.1", url.Values{"sslmode": {"disable"}}))
	require.NoError(t, err, "until pg_hba.conf says hostssl")
	require.False(t, encrypted)

	_, err = models.Open(with("127.0.0.1", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {"/nowhere/ca.pem"}}), 2)
	require.ErrorContains(t, err, "DATABASE_URL names a file that cannot be read: open /nowhere/ca.pem")
	_, key := ours.Issue("x")
	_, err = models.Open(with("127.0.0.1", url.Values{"sslmode": {"verify-full"}, "sslrootcert": {key}}), 2)
	require.EqualError(t, err, "DATABASE_URL: there is no certificate in the file that sslrootcert names")

	untold := opened(t, models.Place{URL: modelstest.URL(t) + "&sslrootcert=" + url.QueryEscape(ours.File)}, "kurir", 2)
	require.NoError(t, untold.Pool.Ping(t.Context()), "sslmode=disable stands")
	u, err := url.Parse(modelstest.URL(t))
	require.NoError(t, err)
	u.RawQuery = "sslmode=require"
	_, err = connect(u.String())
	require.Error(t, err)
	require.Contains(t, models.Advice(err), "ssl = on")
}
