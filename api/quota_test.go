package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
)

// fleetOf runs API processes on one database and one Redis.
func fleetOf(t *testing.T, n int, settings ...setting) []*world {
	t.Helper()
	settings = append(settings, withRedis(embeddedtest.Redis(t)))
	worlds := []*world{start(t, settings...)}
	for range n - 1 {
		worlds = append(worlds, startOn(t, worlds[0].db, settings...))
	}
	return worlds
}

// as is the tenant at another process.
func (t *tenant) at(w *world) *tenant {
	c := *t
	c.world = w
	return &c
}

// mostInAnHour is the largest number of messages that any 60 minutes of the database hold.
func (w *world) mostInAnHour(sessions string) int64 {
	w.Helper()
	return modelstest.Scalar[int64](w, w.db, `SELECT coalesce(max(n), 0) FROM (SELECT count(*) OVER (ORDER BY m.created_at RANGE BETWEEN CURRENT ROW AND interval '1 hour' FOLLOWING) AS n
		FROM messages m JOIN sessions s ON s.uid = m.session_uid WHERE s.id LIKE $1 AND m.seq > 0) windows`, sessions)
}

const sendPath = "/api/v1/sessions/%s/send"

// Four processes and 200 clients, who send one by one, in batches, under keys that they repeat, and into a session that takes
// nothing, while Redis is emptied again and again: not one message more than the tier's number is accepted, nor one less.
func TestExactlyTheTiersMessages(t *testing.T) {
	t.Parallel()
	const limit, clients = 500, 200
	worlds := fleetOf(t, 4, func(_ *world, c *api.Config) {
		c.Tiers = limits.Default()
		c.Tiers[limits.Max] = limits.Limits{Sessions: 5, MessagesPerHour: limit}
	})
	w := worlds[0]
	w.worker()
	u := w.register("u")
	for _, id := range []string{"one", "two"} {
		u.connected(id)
	}
	u.session("closed")
	var accepted, refused, flushed atomic.Int64
	send := func(i int, c *tenant) (stop bool) {
		session, n := []string{"one", "two"}[i%2], 1
		var a *answer
		switch i % 5 {
		case 0:
			n = 3
			m := text("6281234567890", "x")
			a = c.do("POST", fmt.Sprintf("/api/v1/sessions/%s/messages/batch", session), c.auth(), map[string]any{"messages": []any{m, m, m}})
		case 1:
			with := append(c.auth(), "Idempotency-Key", uuid.NewString())
			a = c.do("POST", fmt.Sprintf(sendPath, session), with, text("6281234567890", "x"))
			if again := c.do("POST", fmt.Sprintf(sendPath, session), with, text("6281234567890", "x")); a.status == 202 && again.header.Get("Idempotency-Replayed") == "" {
				t.Errorf("a repeat was not one: %s", again.text)
			} else if a.status != 202 && again.status == 202 {
				a = again // there was room for it meanwhile
			}
		case 2:
			if failed := c.do("POST", fmt.Sprintf(sendPath, "closed"), c.auth(), text("6281234567890", "x")); failed.status != 409 && failed.status != 429 {
				t.Errorf("%d: %s", failed.status, failed.text)
			}
			a = c.do("POST", fmt.Sprintf(sendPath, session), c.auth(), text("6281234567890", "x"))
		default:
			a = c.do("POST", fmt.Sprintf(sendPath, session), c.auth(), text("6281234567890", "x"))
		}
		switch {
		case a.status == 429 && a.body["code"] == "message_limit":
			refused.Add(1)
			return true
		case a.status != 202 && a.status != 200:
			t.Errorf("%d: %s", a.status, a.text)
			return true
		}
		now := accepted.Add(int64(n))
		for _, at := range []int64{20, 120, 250, 400} {
			if now >= at && now-int64(n) < at {
				require.NoError(t, w.redis.FlushAll(context.Background()).Err())
				flushed.Add(1)
			}
		}
		return false
	}
	parallel(clients, func(i int) bool {
		c := u.at(worlds[i%len(worlds)].in(t))
		for !send(i, c) {
		}
		return true
	})
	t.Logf("accepted %d, refused %d, emptied %d times", accepted.Load(), refused.Load(), flushed.Load())
	for !send(3, u) { // what batches left, and what was given back while others were refused
	}
	require.EqualValues(t, 4, flushed.Load())
	require.EqualValues(t, limit, accepted.Load())
	require.EqualValues(t, limit, w.count("messages"))

	// An hour is no hour of the clock: what is half an hour old counts, at every process, and after another loss too.
	w.exec(`UPDATE messages SET created_at = created_at - interval '30 minutes'`)
	require.NoError(t, w.redis.FlushAll(t.Context()).Err())
	for i, world := range worlds {
		a := u.at(world.in(t)).do("POST", fmt.Sprintf(sendPath, "one"), u.auth(), text("6281234567890", "x")).refused(429, "message_limit")
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		require.NoError(t, err)
		require.InDelta(t, 32*60, wait, 60, i)
	}
	w.exec(`UPDATE messages SET created_at = created_at - interval '32 minutes'`)
	require.NoError(t, w.redis.FlushAll(t.Context()).Err())
	u.do("POST", fmt.Sprintf(sendPath, "one"), u.auth(), text("6281234567890", "x")).ok(202)
	require.EqualValues(t, limit, w.mostInAnHour("%"))
}

// What a client sees: headers, a sentence that names tier and limit, a batch that does not fit and leaves room for what does,
// a limit of the user's own that is heard of at once.
func TestMessageLimit(t *testing.T) {
	t.Parallel()
	told := make(chan string, 10)
	worlds := fleetOf(t, 2, func(_ *world, c *api.Config) {
		c.LimitReached = func(_ context.Context, u *models.User, limit string) { told <- u.Email + " " + limit }
	})
	w := worlds[0]
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	w.exec(`UPDATE users SET tier = 'PRO'`)
	w.eventually("the tier", func() bool {
		a := u.do("POST", fmt.Sprintf(sendPath, "shop"), u.auth(), text("6281234567890", "x"))
		return a.header.Get("RateLimit-Limit") == "1000"
	})
	before := w.count("messages")
	a := u.do("POST", fmt.Sprintf(sendPath, "shop"), append(bearer(key), "Origin", "https://app.example.com"), text("6281234567890", "x"))
	a.ok(202)
	left := 1000 - int(before) - 1
	require.Equal(t, strconv.Itoa(left), a.header.Get("RateLimit-Remaining"))
	require.Equal(t, `"messages";q=1000;w=3600`, a.header.Get("RateLimit-Policy"))
	require.Regexp(t, fmt.Sprintf(`^"messages";r=%d;t=3[67]\d\d$`, left), a.header.Get("RateLimit"))
	require.Contains(t, a.header.Get("Access-Control-Expose-Headers"), "RateLimit")

	batch := func(n int) *answer {
		return u.do("POST", "/api/v1/sessions/shop/messages/batch", u.auth(), map[string]any{"messages": slices.Repeat([]any{text("6281234567890", "x")}, n)})
	}
	a = batch(left+1).refused(429, "message_limit")
	require.Equal(t, fmt.Sprintf("Message limit exceeded. PRO tier allows 1000 messages per hour; of these %d, %d would fit now", left+1, left), a.body["error"])
	require.Equal(t, strconv.Itoa(left), a.header.Get("RateLimit-Remaining"))
	batch(left).ok(202)
	require.EqualValues(t, 1000, w.count("messages"))
	a = u.at(worlds[1]).do("POST", "/api/v1/messages", bearer(key), text("6281234567890", "x")).refused(429, "message_limit")
	require.Equal(t, "Message limit exceeded. PRO tier allows 1000 messages per hour", a.body["error"])
	require.Equal(t, "0", a.header.Get("RateLimit-Remaining"))
	wait, err := strconv.Atoi(a.header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 3650, wait, 70)

	// What is about a message counts as one, and what changes one that waits does not. Cancelling gives nothing back.
	id := modelstest.Scalar[string](t, w.db, `SELECT id::text FROM messages ORDER BY id LIMIT 1`)
	u.do("POST", "/api/v1/messages/"+id+"/edit", u.auth(), map[string]any{"message": "y"}).ok(200)
	u.do("DELETE", "/api/v1/messages/"+id, u.auth(), nil).ok(200)
	u.do("POST", "/api/v1/messages/"+id+"/retry", u.auth(), nil).ok(202)
	w.exec(`UPDATE messages SET status = 'SENT', sent_at = now() WHERE id = $1`, id)
	for path, body := range map[string]map[string]any{"edit": {"message": "z"}, "reaction": {"emoji": "👍"}, "revoke": nil, "forward": {"to": "6281234567890"}} {
		u.do("POST", "/api/v1/messages/"+id+"/"+path, u.auth(), any(body)).refused(429, "message_limit")
	}
	with := append(u.auth(), "Idempotency-Key", "one too many")
	u.do("POST", fmt.Sprintf(sendPath, "shop"), with, text("6281234567890", "x")).refused(429, "message_limit")
	require.Zero(t, w.count("idempotency_keys"), "the key of a message that was one too many is free")
	large := fmt.Sprintf(`{"to":"6281234567890","type":"document","filename":"x.txt","mediaBase64":"%s"}`, strings.Repeat("AAAA", 1<<18))
	u.do("POST", fmt.Sprintf(sendPath, "shop"), u.auth(), large).refused(429, "message_limit")
	require.Zero(t, w.count("media"), "nothing is taken in for a message that is one too many")

	w.exec(`UPDATE users SET max_messages_per_hour = 1002`)
	for range 2 {
		w.eventually("the user's own limit", func() bool {
			return u.do("POST", fmt.Sprintf(sendPath, "shop"), with, text("6281234567890", "x")).status == 202
		})
		with[len(with)-1] += "!"
	}
	a = u.do("POST", fmt.Sprintf(sendPath, "shop"), u.auth(), text("6281234567890", "x")).refused(429, "message_limit")
	require.Equal(t, "Message limit exceeded. Your account allows 1002 messages per hour", a.body["error"])
	w.exec(`UPDATE users SET max_messages_per_hour = 0`)
	w.eventually("no messages at all", func() bool {
		a := u.do("POST", fmt.Sprintf(sendPath, "shop"), u.auth(), text("6281234567890", "x"))
		return a.status == 429 && a.body["error"] == "Message limit exceeded. Your account allows 0 messages per hour" && a.header.Get("Retry-After") != "0"
	})
	require.Equal(t, u.email+" messages", <-told)
	select {
	case more := <-told:
		t.Fatalf("told twice within an hour: %s", more)
	default:
	}
	require.Contains(t, w.do("GET", "/metrics", nil, nil).text, `kurir_rate_limited_total{limit="messages"}`)
}

// Without Redis messages are accepted, and counted when it is back.
func TestMessagesWithoutRedis(t *testing.T) {
	t.Parallel()
	handle := embeddedtest.NewRedis(t, "")
	w := start(t, withRedis(handle.URL()), func(_ *world, c *api.Config) { c.LimitTimeout = 2 * time.Second })
	w.worker()
	u := w.register("u")
	u.connected("shop")
	w.exec(`UPDATE users SET max_messages_per_hour = 3`)
	send := func() *answer {
		return u.do("POST", fmt.Sprintf(sendPath, "shop"), u.auth(), text("6281234567890", "x"))
	}
	w.eventually("the limit", func() bool { return send().header.Get("RateLimit-Limit") == "3" })
	handle.Stop()
	for range 5 {
		require.Equal(t, 202, send().status)
	}
	unchecked := w.do("GET", "/metrics", nil, nil).text
	require.Regexp(t, `kurir_limit_unchecked_total\{limit="messages"\} [5-9]`, unchecked)
	require.Contains(t, w.log.String(), "limits are not looked at")
	handle.Start()
	w.eventually("the count", func() bool { return send().status == 429 })
	handle.Stop()
	require.Equal(t, 202, send().status)
}

// A failing send gives back what it took, and one whose outcome nobody knows has the messages counted anew.
func TestFailedSendsGiveBack(t *testing.T) {
	t.Parallel()
	url, way := relayed(t, modelstest.URL(t))
	db, direct := modelstest.Open(t, url), modelstest.Open(t, url)
	w := startOn(t, db, withRedis(embeddedtest.Redis(t)))
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.session("closed")
	w.exec(`UPDATE users SET max_messages_per_hour = 2`)
	send := func(session string) *answer {
		return u.do("POST", fmt.Sprintf(sendPath, session), u.auth(), text("6281234567890", "x"))
	}
	w.eventually("the limit", func() bool {
		return u.do("POST", "/api/v1/sessions/closed/messages/batch", u.auth(), map[string]any{"messages": slices.Repeat([]any{text("6281234567890", "x")}, 3)}).status == 429
	})
	for range 10 {
		send("closed").refused(409, "session_not_linked")
	}
	send("shop").ok(202)
	way.cut()
	for range 4 {
		require.Equal(t, http.StatusServiceUnavailable, send("shop").status)
	}
	way.mend()
	w.eventually("PostgreSQL", func() bool { return send("shop").status == 202 })
	send("shop").refused(429, "message_limit")
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, direct, `SELECT count(*) FROM messages`))
}

// Deleting sessions and making new ones is no way to a second quota, and neither is making many.
func TestSessionsShareTheirUsersQuota(t *testing.T) {
	t.Parallel()
	worlds := fleetOf(t, 2)
	w := worlds[0]
	w.worker()
	u := w.register("u")
	other := w.register("other")
	other.connected("theirs")
	w.exec(`UPDATE users SET max_messages_per_hour = 4`)
	sent := map[int]int{}
	for i := range 6 {
		id := fmt.Sprintf("s%d", i)
		u.connected(id)
		w.eventually("the limit", func() bool {
			return u.do("POST", "/api/v1/sessions/"+id+"/messages/batch", u.auth(), map[string]any{"messages": slices.Repeat([]any{text("6281234567890", "x")}, 5)}).status == 429
		})
		sent[u.at(worlds[i%2]).do("POST", fmt.Sprintf(sendPath, id), u.auth(), text("6281234567890", "x")).status]++
		require.NoError(t, w.redis.FlushAll(t.Context()).Err())
		u.do("DELETE", "/api/v1/sessions/"+id, u.auth(), nil).ok(202)
		w.exec(`UPDATE sessions SET released_at = now(), worker_id = NULL WHERE id = $1`, id)
	}
	require.Equal(t, map[int]int{202: 4, 429: 2}, sent)
	other.do("POST", fmt.Sprintf(sendPath, "theirs"), other.auth(), text("6281234567890", "x")).ok(202)
	keys := w.redis.(*redis.Client).Keys(t.Context(), "kurir:*").Val()
	require.NotEmpty(t, keys)
	for _, key := range keys {
		require.Greater(t, w.redis.PTTL(t.Context(), key).Val(), time.Duration(0), "%s stays for ever", key)
	}
}

// An administrator's word about a user's sessions stands before the tier's, under concurrency too.
func TestSessionsOfAUser(t *testing.T) {
	t.Parallel()
	told := make(chan string, 10)
	worlds := fleetOf(t, 2, func(_ *world, c *api.Config) {
		c.LimitReached = func(_ context.Context, _ *models.User, limit string) { told <- limit }
	})
	w := worlds[0]
	w.worker()
	u := w.register("u")
	create := func(n int) map[string]int {
		return parallel(n, func(i int) string {
			a := u.at(worlds[i%2]).do("POST", "/api/v1/sessions", u.auth(), map[string]any{"name": "x"})
			if a.status == 202 {
				return "made"
			}
			return a.refused(403, "session_limit").body["error"].(string)
		})
	}
	w.exec(`UPDATE users SET max_sessions = 3`)
	require.Equal(t, map[string]int{"made": 3, "Session limit exceeded. Your account allows 3 sessions, and there are 3.": 9}, create(12))
	w.exec(`UPDATE users SET max_sessions = 0`)
	require.Equal(t, map[string]int{"Session limit exceeded. Your account allows 0 sessions, and there are 3.": 2}, create(2))
	w.exec(`UPDATE users SET max_sessions = NULL, tier = 'BASIC'`)
	require.Equal(t, map[string]int{"Session limit exceeded. BASIC tier allows 1 session, and there are 3.": 2}, create(2))
	w.exec(`UPDATE users SET max_sessions = 25`)
	require.Equal(t, map[string]int{"made": 22, "Session limit exceeded. Your account allows 25 sessions, and there are 25.": 2}, create(24))
	require.Equal(t, limits.OfSessions, <-told)
	require.Empty(t, told)
}
