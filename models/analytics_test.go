package models_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// analytics counts all that waits for it. Somebody who was cut off may hold the lock until PostgreSQL hears of it.
func (o *outbox) analytics() {
	o.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := models.CountAnalytics(o.Context(), o.db)
		require.NoError(o, err)
		if modelstest.Scalar[int64](o, o.db, `SELECT count(*) FROM analytics_changes`) == 0 {
			return
		}
		require.True(o, time.Now().Before(deadline), "nobody counts")
	}
}

// windows are those of the four ranges.
func windows(now time.Time) []models.Window {
	return []models.Window{models.WindowUpTo(now, time.Hour, time.Minute), models.WindowUpTo(now, 24*time.Hour, 15*time.Minute),
		models.WindowUpTo(now, 7*24*time.Hour, time.Hour), models.WindowUpTo(now, 30*24*time.Hour, 6*time.Hour)}
}

// sameAs compares what was counted with what is found by looking through the messages of a table.
func (o *outbox) sameAs(table, why string) {
	o.Helper()
	now, err := models.Now(o.Context(), o.db.Pool)
	require.NoError(o, err)
	for _, w := range windows(now) {
		got := map[string]int64{}
		counts, err := models.MessageCounts(o.Context(), o.db.Pool, w)
		require.NoError(o, err)
		for _, c := range counts {
			got[fmt.Sprint(c.At.UTC(), c.Inbound, c.Type, c.Status)] += c.N
		}
		want := map[string]int64{}
		rows, err := o.db.Pool.Query(o.Context(), `SELECT date_bin($1, created_at, 'epoch'), direction = 'INBOUND', message_type,
				CASE WHEN direction = 'INBOUND' THEN '' WHEN status = 'SENDING' THEN 'PENDING' ELSE status END, count(*)
			FROM `+table+` WHERE created_at >= $2 AND created_at < $3 GROUP BY 1, 2, 3, 4`, w.Step, w.From, w.Until)
		require.NoError(o, err)
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[models.MessageCount])
		require.NoError(o, err)
		for _, c := range list {
			want[fmt.Sprint(c.At.UTC(), c.Inbound, c.Type, c.Status)] += c.N
		}
		require.Equal(o, want, got, "%s, in steps of %s", why, w.Step)
	}
	all, err := models.OverviewOf(o.Context(), o.db.Pool)
	require.NoError(o, err)
	require.Equal(o, modelstest.Scalar[int64](o, o.db, `SELECT count(*) FROM `+table), all.Messages, why)
}

// historian changes messages of its own at random, as whatever part of the program might.
type historian struct {
	*outbox
	luck *rand.Rand
	ids  []uuid.UUID
}

var states = []string{"PENDING", "SENDING", "SENT", "DELIVERED", "READ", "FAILED", "UNKNOWN", "CANCELLED", "EXPIRED"}

func (h *historian) act(tx pgx.Tx) error {
	pick := func() (some []uuid.UUID) {
		for range min(len(h.ids), 1+h.luck.IntN(20)) {
			some = append(some, h.ids[h.luck.IntN(len(h.ids))])
		}
		return some
	}
	var err error
	switch h.luck.IntN(5) {
	case 0: // some come, of now, today and long ago
		n := 1 + h.luck.IntN(30)
		ids, ages, kinds, ways, status := make([]uuid.UUID, n), make([]float64, n), make([]string, n), make([]string, n), make([]string, n)
		for i := range n {
			ids[i], ages[i] = models.NewID(), h.luck.Float64()*float64([]int{3600, 86400, 40 * 86400}[h.luck.IntN(3)])
			kinds[i], ways[i], status[i] = []string{"TEXT", "IMAGE", "POLL"}[h.luck.IntN(3)], []string{"OUTBOUND", "OUTBOUND", "INBOUND"}[h.luck.IntN(3)], states[h.luck.IntN(len(states))]
		}
		_, err = tx.Exec(h.Context(), `INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, status, whatsapp_id, created_at)
			SELECT id, $1, way, 'c', 't', kind, status, id::text, now() - make_interval(secs => age)
			FROM unnest($2::uuid[], $3::float8[], $4::text[], $5::text[], $6::text[]) AS t (id, age, kind, way, status) ON CONFLICT DO NOTHING`, h.session.UID, ids, ages, kinds, ways, status)
		h.ids = append(h.ids, ids...)
	case 1, 2: // some change their status, up and down, each to another
		some := pick()
		to := make([]string, len(some))
		for i := range to {
			to[i] = states[h.luck.IntN(len(states))]
		}
		_, err = tx.Exec(h.Context(), `UPDATE messages m SET status = t.status FROM unnest($1::uuid[], $2::text[]) AS t (id, status) WHERE m.id = t.id AND m.session_uid = $3`, some, to, h.session.UID)
	case 3: // what is no matter of ours
		_, err = tx.Exec(h.Context(), `UPDATE messages SET content = content || 'x', updated_at = now() WHERE id = ANY($1)`, pick())
	case 4: // retention
		_, err = tx.Exec(h.Context(), `WITH gone AS (DELETE FROM messages WHERE id = ANY($1) RETURNING *) INSERT INTO dropped SELECT * FROM gone`, pick())
	}
	return err
}

// Whatever becomes of messages, in whatever order, is counted once: while several count at once and are cut off anywhere, while
// transactions are taken back, and though retention drops what is counted.
func TestAnalyticsAreExact(t *testing.T) {
	o := newOutbox(t)
	o.exec(`CREATE TABLE dropped AS SELECT * FROM messages LIMIT 0`)
	var writers, counters sync.WaitGroup
	var done atomic.Bool
	for n := range 3 {
		writers.Go(func() {
			h := &historian{outbox: o, luck: rand.New(rand.NewPCG(7, uint64(n)))}
			for range 40 {
				err := pgx.BeginFunc(t.Context(), o.db.Pool, func(tx pgx.Tx) error {
					for range 1 + h.luck.IntN(3) {
						if err := h.act(tx); err != nil {
							return err
						}
					}
					if h.luck.IntN(5) == 0 {
						return context.Canceled
					}
					return nil
				})
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
		counters.Go(func() {
			luck := rand.New(rand.NewPCG(8, uint64(n)))
			for !done.Load() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(luck.IntN(20_000))*time.Microsecond)
				_, _ = models.CountAnalytics(ctx, o.db)
				cancel()
				var negative int64
				if err := o.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM analytics_counts WHERE n < 0`).Scan(&negative); err != nil || negative > 0 {
					t.Error("less than nothing at some moment:", negative, err)
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	counters.Wait()
	o.analytics()
	o.exec(`CREATE VIEW every_message AS SELECT * FROM messages UNION ALL SELECT * FROM dropped`)
	require.Greater(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM messages`), int64(150))
	require.Greater(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM dropped`), int64(10))
	o.sameAs("every_message", "after all that")

	// A version without analytics ran for a while: what is there is looked through once.
	o.exec(`DROP VIEW every_message; DROP TABLE dropped`)
	for _, way := range []string{"down", "up"} {
		file, err := os.ReadFile("../migrations/0023_analytics." + way + ".sql")
		require.NoError(t, err)
		o.exec(string(file))
	}
	o.analytics()
	o.sameAs("messages", "looked through")
	o.exec(`UPDATE messages SET status = 'READ'`)
	o.analytics()
	o.sameAs("messages", "changed since")
}

// A message moves from one status to the next in the step in which it was written, however late, by all that changes messages.
func TestAnalyticsFollowAMessage(t *testing.T) {
	r := newReporter(t)
	late, failed, cancelled := r.add("a", "late"), r.add("b", "failed"), r.add("c", "cancelled")
	r.exec(`UPDATE messages SET created_at = now() - interval '5 hours' WHERE id = $1`, late)
	m, _, err := models.MessageOf(t.Context(), r.db, r.session.UserID, nil, cancelled)
	require.NoError(t, err)
	ok, _, err := models.CancelMessage(t.Context(), r.db, m, r.session.ID)
	require.NoError(t, err)
	require.True(t, ok)
	now := func() (all []string) {
		t.Helper()
		r.analytics()
		r.sameAs("messages", "as they are")
		counts, err := models.MessageCounts(t.Context(), r.db.Pool, windows(time.Now())[1])
		require.NoError(t, err)
		sums := map[string]int64{}
		for _, c := range counts {
			age := "new"
			if time.Since(c.At) > 4*time.Hour {
				age = "old"
			}
			sums[strings.TrimSpace(fmt.Sprint(age, " ", c.Type, " ", c.Status))] += c.N
		}
		for what, n := range sums {
			all = append(all, fmt.Sprint(what, " ", n))
		}
		return all
	}
	require.ElementsMatch(t, []string{"old TEXT PENDING 1", "new TEXT PENDING 1", "new TEXT CANCELLED 1"}, now())
	h := r.take(r.runner())
	claim := r.claim(h, 10)
	require.Len(t, claim.Messages, 2)
	require.Zero(t, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM analytics_changes`), "a claim is no change")
	at := map[uuid.UUID]int{claim.Messages[0].ID: 0, claim.Messages[1].ID: 1}
	r.settle(h, outcome(claim, at[late], models.MessageSent), outcome(claim, at[failed], models.MessageFailed))
	require.ElementsMatch(t, []string{"old TEXT SENT 1", "new TEXT FAILED 1", "new TEXT CANCELLED 1"}, now())
	hello := r.received("inbound", "hello")
	r.send(r.receipt(late, "read"), hello, r.event(wire.EventMessageReceived,
		wire.ReceivedData{WhatsappID: "typed", Chat: "c", Sender: "s", Type: "sticker", FromMe: true}))
	r.send(r.receipt(late, "delivered"), hello) // late, and once more
	m, _, err = models.MessageOf(t.Context(), r.db, r.session.UserID, nil, failed)
	require.NoError(t, err)
	require.NoError(t, models.RetryMessage(t.Context(), r.db, m, false, time.Now().Add(time.Hour)))
	require.ElementsMatch(t, []string{"old TEXT READ 1", "new TEXT PENDING 1", "new TEXT CANCELLED 1", "new TEXT 1", "new STICKER SENT 1"}, now())
	r.exec(`DELETE FROM users`)
	all, err := models.OverviewOf(t.Context(), r.db.Pool)
	require.NoError(t, err)
	require.Equal(t, []int64{5, 0}, []int64{all.Messages, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM messages`)}, "it says how many there ever were")
}

// Steps that no range shows are dropped; what comes to be known of their messages later changes the total alone.
func TestAnalyticsAreForgotten(t *testing.T) {
	a := newArchive(t, 3)
	old := a.put(a.first.Add(time.Hour), "SENT", "old")
	a.exec(`UPDATE messages SET created_at = now() - interval '31 days' WHERE id = $1`, old)
	a.analytics()
	kept := func() string {
		return modelstest.Scalar[string](t, a.db, `SELECT string_agg(concat_ws(' ', step, state, n), ', ' ORDER BY step, state) FROM analytics_counts WHERE subject = 'MESSAGE' AND n > 0`)
	}
	require.Equal(t, "0 SENT 1, 21600 SENT 1", kept())
	dropped, err := models.ForgetAnalytics(t.Context(), a.db.Pool)
	require.NoError(t, err)
	require.Zero(t, dropped, "what was counted this moment is kept")
	a.exec(`UPDATE analytics_counts SET at = at - interval '3 days' WHERE subject = 'MESSAGE' AND step > 0`)
	a.exec(`UPDATE messages SET created_at = now() - interval '34 days' WHERE id = $1`, old)
	a.exec(`TRUNCATE analytics_changes`)
	_, err = models.ForgetAnalytics(t.Context(), a.db.Pool)
	require.NoError(t, err)
	require.Equal(t, "0 SENT 1", kept())
	a.exec(`UPDATE messages SET status = 'READ' WHERE id = $1`, old)
	a.analytics()
	require.Equal(t, "0 READ 1", kept())

	// As much as there can be: every step kept has every type in every status, here three of each.
	a.exec(`INSERT INTO analytics_changes (subject, kind, state, at, n) SELECT 'MESSAGE', 'T' || k, 'S' || s, now() - make_interval(mins => m), 1
		FROM generate_series(1, 3) k, generate_series(1, 3) s, generate_series(0, 40 * 24 * 60, 10) m`)
	a.analytics()
	_, err = models.ForgetAnalytics(t.Context(), a.db.Pool)
	require.NoError(t, err)
	n := modelstest.Scalar[int64](t, a.db, `SELECT count(*) FROM analytics_counts`)
	require.Less(t, n, int64((20+120+210+150)*9), "the table is bounded by the steps that are kept")
	require.Greater(t, n, int64(400*9))
}

// Users: how many there are of a tier, who came when, who was here last when, and who was here in each step, once.
func TestAnalyticsOfUsers(t *testing.T) {
	o := newOutbox(t)
	o.exec(`DELETE FROM users; TRUNCATE analytics_changes`)
	luck := rand.New(rand.NewPCG(9, 9))
	now, err := models.Now(t.Context(), o.db.Pool)
	require.NoError(t, err)
	type person struct {
		tier   string
		came   time.Time
		logins []time.Time
		closed bool
	}
	people := map[uuid.UUID]*person{}
	for range 60 {
		p := &person{tier: []string{"BASIC", "PRO", "MAX"}[luck.IntN(3)], came: now.Add(-time.Duration(luck.Int64N(int64([]time.Duration{time.Hour, 24 * time.Hour, 29 * 24 * time.Hour}[luck.IntN(3)]))))}
		id := models.NewID()
		people[id] = p
		o.exec(`INSERT INTO users (id, name, email, password_hash, tier, created_at) VALUES ($1, 'x', $4, 'x', $2, $3)`, id, p.tier, p.came, id.String()+"@x")
		for at := p.came; luck.IntN(6) > 0; p.logins = append(p.logins, at) {
			at = at.Add(time.Duration(luck.Int64N(int64(1 + now.Sub(at)/time.Duration(1+luck.IntN(200))))))
			o.exec(`UPDATE users SET last_login_at = $2, updated_at = now() WHERE id = $1`, id, at)
			at = at.Truncate(time.Microsecond)
		}
		switch luck.IntN(6) {
		case 0:
			p.tier = "PRO"
			o.exec(`UPDATE users SET tier = 'PRO', name = 'y' WHERE id = $1`, id)
		case 1:
			p.closed = true
			o.exec(`UPDATE users SET is_active = false, closed_at = now(), last_login_at = NULL WHERE id = $1`, id)
			if luck.IntN(2) == 0 {
				o.exec(`DELETE FROM users WHERE id = $1`, id)
			}
		case 2:
			p.closed = true
			o.exec(`DELETE FROM users WHERE id = $1`, id)
		}
	}
	check := func(why string) {
		t.Helper()
		for _, w := range windows(now) {
			want := models.UserSteps{New: make([]int64, w.Steps()), Active: make([]int64, w.Steps())}
			for _, p := range people {
				if !p.came.Before(w.From) {
					want.New[w.Index(p.came)]++
				}
				seen := map[int]bool{}
				for _, at := range p.logins {
					if !at.Before(w.From) && !seen[w.Index(at)] {
						seen[w.Index(at)] = true
						want.Active[w.Index(at)]++
					}
				}
			}
			got, err := models.UserStepsOf(t.Context(), o.db.Pool, w)
			require.NoError(t, err)
			require.Equal(t, want, got, "%s, in steps of %s", why, w.Step)
		}
		week, today := windows(now)[2].From, now.UTC().Truncate(24*time.Hour)
		want := models.UserTotals{ByTier: map[string]int64{}}
		for _, p := range people {
			if !p.came.Before(today) {
				want.New++
			}
			if p.closed {
				continue
			}
			want.ByTier[p.tier]++
			if n := len(p.logins); n > 0 && !p.logins[n-1].Before(week) {
				want.Active++
			}
		}
		got, err := models.UserTotalsOf(t.Context(), o.db.Pool, week, today)
		require.NoError(t, err)
		require.Equal(t, want, got, why)
	}
	o.analytics()
	check("as it went on")
	all, err := models.OverviewOf(t.Context(), o.db.Pool)
	require.NoError(t, err)
	require.Equal(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM users WHERE closed_at IS NULL`), all.Users)
}

// Counting and reading find their rows through indexes, look through no messages and no users, and hold up nobody.
func TestAnalyticsPlans(t *testing.T) {
	r := newReporter(t)
	b := &bulk{TB: t, db: r.db}
	r.exec(`INSERT INTO analytics_changes (subject, kind, state, at, n) SELECT 'MESSAGE', 'T' || n % 5, 'S' || n % 3, now() - make_interval(mins => n), 1 FROM generate_series(1, 20000) n`)
	r.analytics()
	r.exec(`INSERT INTO analytics_changes (subject, kind, state, at, n) SELECT 'MESSAGE', 'T', 'S', now(), 1 FROM generate_series(1, 6000) n`)
	r.exec(`INSERT INTO sessions (uid, id, user_id, name, status) SELECT kurir_uuid_v7(), 'bulk' || n, $1, 'bulk', 'CONNECTED' FROM generate_series(1, 3000) n`, r.session.UserID)
	r.exec(`INSERT INTO worker_metrics (worker_id, cpu_usage, memory_usage, session_count, message_count, timestamp)
		SELECT 'w1', 1, 1, 1, n, now() - make_interval(mins => n) FROM generate_series(1, 20000) n`)
	r.exec(`VACUUM ANALYZE`)
	rec, pool := traced(t, r.db)
	db := &models.DB{DB: r.db.DB, Pool: pool}

	// Whoever holds what there is keeps nobody from reading.
	tx, err := r.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	for _, table := range []string{"analytics_counts", "users", "sessions", "workers", "messages"} {
		_, err := tx.Exec(t.Context(), `LOCK TABLE `+table+` IN EXCLUSIVE MODE`)
		require.NoError(t, err)
	}
	for _, w := range windows(time.Now()) {
		_, err := models.MessageCounts(t.Context(), pool, w)
		require.NoError(t, err)
		_, err = models.UserStepsOf(t.Context(), pool, w)
		require.NoError(t, err)
		_, _, err = models.WorkerReadings(t.Context(), pool, w)
		require.NoError(t, err)
	}
	_, err = models.UserTotalsOf(t.Context(), pool, time.Now(), time.Now())
	require.NoError(t, err)
	_, err = models.OverviewOf(t.Context(), pool)
	require.NoError(t, err)
	_, err = models.EndpointsOf(t.Context(), pool, []string{"w1"})
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))
	taken, err := models.CountAnalytics(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, models.AnalyticsBatch, taken)
	_, err = models.ForgetAnalytics(t.Context(), pool)
	require.NoError(t, err)
	looked := 0
	for _, s := range rec.seen {
		if !strings.Contains(s.sql, "FROM") {
			continue // begin, commit, the lock
		}
		looked++
		plan := b.explain(s, "COSTS OFF")
		for _, table := range []string{"analytics_counts", "analytics_changes", "sessions", "worker_metrics"} {
			require.NotContains(t, plan, "Seq Scan on "+table, s.sql)
		}
		for _, table := range []string{" on messages", " on users"} {
			require.NotContains(t, plan, table, s.sql)
		}
		if strings.Contains(s.sql, "of_sessions") {
			require.Contains(t, plan, "Index Only Scan using sessions_status", plan)
		}
	}
	require.GreaterOrEqual(t, looked, 20)
}
