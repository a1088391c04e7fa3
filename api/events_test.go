package api_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

const (
	shopEvents    = "/api/v1/sessions/shop/events"
	accountEvents = "/api/v1/events"
)

// streamWorld is a tenant with two sessions and another tenant with one.
func streamWorld(t *testing.T, settings ...setting) (*world, *tenant) {
	t.Helper()
	w := start(t, settings...)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.connected("branch")
	w.register("v").connected("foreign")
	return w, u
}

// inOrder are all events of a tenant's session, "" for all of his, in the order of streams.
func (w *world) inOrder(user, session string) []string {
	w.Helper()
	return strings.Fields(modelstest.Scalar[string](w, w.db, `SELECT coalesce(string_agg(e.id::text, ' ' ORDER BY e.xid, e.id), '')
		FROM events e JOIN sessions s ON s.uid = e.session_uid WHERE s.user_id = $1::uuid AND ($2 = '' OR s.id = $2)`, user, session))
}

// What happens to a session comes over its stream and over the account's, from the first QR code on.
func TestEventsOfASessionsLife(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.phones(simnet.Config{ScanDelay: 0})
	w.runner()
	u := w.register("u")
	account := w.follow(accountEvents, u.auth()).ready()
	require.Equal(t, "0", account.last(), "nothing has happened yet")
	for header, value := range map[string]string{"Cache-Control": "no-store", "X-Accel-Buffering": "no"} {
		require.Equal(t, value, account.header.Get(header))
	}
	key := u.session("shop")
	w.eventually("the connection", func() bool {
		return slices.ContainsFunc(account.events(), func(e sse) bool {
			data, _ := e.data["data"].(map[string]any)
			return e.event == "session.status" && data["status"] == "connected"
		})
	})
	session := w.follow(shopEvents, append(bearer(key), "Last-Event-ID", "0"))
	u.do("PATCH", "/api/v1/sessions/shop", u.auth(), map[string]any{"metadata": map[string]any{"crm": 5}}).ok(200)
	u.do("POST", "/api/v1/sessions/shop/send", bearer(key), text("6281234567890", "hello")).ok(202)
	w.eventually("the message to be read", func() bool {
		return slices.ContainsFunc(account.events(), func(e sse) bool { return e.event == "message.read" })
	})
	account.has("the account's stream", w.inOrder(u.id, "")...)
	session.has("the session's, from the beginning", account.ids()...)
	types := map[string]bool{}
	for _, e := range account.events() {
		types[e.event] = true
		require.Equal(t, e.id, e.data["id"])
		require.Equal(t, e.event, e.data["type"])
		require.Equal(t, "shop", e.data["sessionId"])
		require.NotContains(t, e.data, "sequence")
		require.NotEmpty(t, e.data["timestamp"])
		if e.event == "message.sent" {
			require.Equal(t, map[string]any{"crm": 5.0}, e.data["metadata"], "the session's")
		}
		if e.event == "session.qr" {
			require.Contains(t, e.data["data"].(map[string]any)["qr"], "SIMULATED@")
		}
	}
	for _, event := range []string{"session.qr", "session.status", "message.sent", "message.read"} {
		require.True(t, types[event], event)
	}
}

// Two transactions whose events have IDs in one order and that commit in the other: a reader who only looked for higher IDs
// would never see the first.
func TestEventsThatBecomeVisibleInAnotherOrder(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	live := w.follow(shopEvents, u.auth()).ready()
	uid := w.uid("shop")
	early, late := w.transaction(), w.transaction()
	first := emitIn(t, early, uid, "message.sent", 1)
	second := emitIn(t, late, uid, "message.sent", 2)
	require.Less(t, first, second)
	w.commit(late)
	// A webhook may bring the second one already, and its ID be asked for: what is behind it in the stream may be before it.
	byWebhook := w.follow(shopEvents, append(u.auth(), "Last-Event-ID", second))
	resumed := w.follow(shopEvents, append(u.auth(), "Last-Event-ID", "0"))
	horizon, err := models.EventHorizon(context.Background(), w.db.Pool)
	require.NoError(t, err)
	held, err := models.EventsOfUsers(context.Background(), w.db.Pool, []uuid.UUID{uuid.MustParse(u.id)}, models.EventPlace{}, horizon, time.Now(), 10)
	require.NoError(t, err)
	require.Empty(t, held, "the order is not final while the early transaction runs")
	w.commit(early)
	for what, f := range map[string]*follower{"live": live, "resumed": resumed} {
		f.has(what, first, second)
	}
	byWebhook.has("by the ID from a webhook", first, second)
	w.follow(shopEvents, append(u.auth(), "Last-Event-ID", first)).has("after the first", second)
	third := w.emit("shop", "message.read")
	w.follow(shopEvents, append(u.auth(), "Last-Event-ID", second)).has("after the second", third...)
}

// Many write in overlapping transactions, some of which fail, while clients come and go: each sees everything once, in
// the one order.
func TestNothingIsLostOrToldTwice(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	other := startOn(t, w.db)
	const writers, each = 6, 60
	sessions := []uuid.UUID{w.uid("shop"), w.uid("branch"), w.uid("foreign")}
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 7))
			for range each {
				err := pgx.BeginFunc(context.Background(), w.db.Pool, func(tx pgx.Tx) error {
					for range 1 + random.IntN(3) {
						event := models.Event{Session: sessions[random.IntN(3)], Type: "message.sent", Data: "x", At: time.Now()}
						if _, err := models.Emit(context.Background(), tx, []models.Event{event}); err != nil {
							return err
						}
						if _, err := tx.Exec(context.Background(), `SELECT pg_sleep($1)`, random.Float64()/100); err != nil {
							return err
						}
					}
					if random.IntN(5) == 0 {
						return io.ErrUnexpectedEOF
					}
					return nil
				})
				if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("write: %v", err)
				}
			}
		})
	}
	var reading sync.WaitGroup
	written := make(chan struct{})
	seen := make([][]string, 4)
	for i := range seen {
		reading.Go(func() {
			last := "0"
			for done := false; !done; {
				select {
				case <-written:
					done = true // and once more
				default:
				}
				at := []*world{w, other}[(i+len(seen[i]))%2]
				f := at.follow([]string{accountEvents, shopEvents}[i%2], append(u.auth(), "Last-Event-ID", last))
				want := 20
				if done {
					want = len(w.inOrder(u.id, []string{"", "shop"}[i%2])) - len(seen[i])
				}
				if !assertSoon(func() bool { return len(f.ids()) >= want || !done && isClosed(written) }) {
					t.Errorf("reader %d waits for %d events and has %d", i, want, len(f.ids()))
				}
				f.cut()
				ids := f.ids()
				if seen[i] = append(seen[i], ids...); len(ids) > 0 {
					last = ids[len(ids)-1]
				}
			}
		})
	}
	writing.Wait()
	close(written)
	reading.Wait()
	for i, ids := range seen {
		require.Equal(t, w.inOrder(u.id, []string{"", "shop"}[i%2]), ids, "reader %d", i)
	}
}

func assertSoon(ok func() bool) bool {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	many := make([]string, 450) // more than two pages
	for i := range many {
		many[i] = "message.sent"
	}
	ids := w.emit("shop", many...)
	elsewhere := w.emit("branch", "message.read")
	foreign := w.emit("foreign", "message.read")
	from := func(path, id string) *follower { return w.follow(path, append(u.auth(), "Last-Event-ID", id)) }

	from(shopEvents, "0").has("all", ids...)
	from(shopEvents, ids[9]).has("the rest", ids[10:]...)
	from(accountEvents, ids[449]).has("of the account", elsewhere...)
	w.follow(shopEvents+"?lastEventId="+ids[447], u.auth()).has("by the address", ids[448:]...)
	w.follow(shopEvents+"?lastEventId="+ids[0], append(u.auth(), "Last-Event-ID", ids[448])).has("the header knows better", ids[449])
	require.Equal(t, ids[449], w.follow(shopEvents, u.auth()).ready().last(), "a new stream begins behind what was")

	w.exec(`DELETE FROM events WHERE id = $1`, ids[3]) // as retention does
	for _, unknown := range []string{ids[3], uuid.NewString(), foreign[0], elsewhere[0], "nonsense", "-1", "00", strings.ReplaceAll(ids[0], "-", ""), "{" + ids[0] + "}"} {
		f := from(shopEvents, unknown)
		f.eventually("a reset", func() bool { return len(f.events()) == 1 })
		first := f.events()[0]
		require.Equal(t, []string{"reset", ids[449]}, []string{first.event, first.id}, unknown)
		require.Equal(t, map[string]any{"reason": "unknown_event"}, first.data)
	}
	f := from(shopEvents, "nonsense").ready()
	next := w.emit("shop", "message.read")
	f.has("goes on after a reset", ids[449], next[0])
	from(shopEvents, f.last()).has("nothing is missing after a reset")
	u.do("GET", shopEvents, append(u.auth(), "Last-Event-ID", strings.Repeat("1", 101)), nil).refused(422, "invalid_request")

	// A dump that was restored elsewhere holds transactions that have not been there: nobody can say what came after them.
	w.exec(`UPDATE events SET xid = (pg_current_xact_id()::text::bigint + 1000000)::text::xid8 WHERE id = $1`, ids[7])
	f = from(shopEvents, ids[7]).ready()
	require.Equal(t, "reset", f.events()[0].event)
	w.emit("shop", "message.read")
	f.eventually("later ones", func() bool { return len(f.events()) == 2 })
}

func TestTypesOfAStream(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t, func(_ *world, c *api.Config) { c.Streams.Heartbeat = 20 * time.Millisecond })
	f := w.follow(shopEvents+"?types=message.read,session.qr", u.auth()).ready()
	before := w.emit("shop", "message.sent", "message.read", "session.status", "session.qr", "message.delivered")
	f.has("the types asked for", before[1], before[3])
	f.eventually("the client's place to move past the others", func() bool { return f.last() == before[4] })
	w.follow(shopEvents+"?types=message.read&lastEventId="+before[0], u.auth()).has("of the past too", before[1])
	all := w.follow(shopEvents+"?types=*&lastEventId=0", u.auth())
	all.has("all", before...)
	for _, types := range []string{"nonsense", "message.read,nonsense", "message.*", "MESSAGE.READ", strings.Repeat("message.read,", 60) + "message.read"} {
		a := u.do("GET", shopEvents+"?types="+types, u.auth(), nil).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"types"`)
	}
	all.eventually("heartbeats", func() bool { return all.heartbeats() > 3 })
	all.has("which are no events", before...)
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t, func(_ *world, c *api.Config) {
		c.Streams.Limits = limits.Streams{PerCredential: 2, PerUser: 3, PerProcess: 4}
		c.Streams.Heartbeat = 10 * time.Millisecond // which is how a client that has gone is noticed
	})
	refused := func(with headers) {
		t.Helper()
		require.Equal(t, "10", w.do("GET", accountEvents, with, nil).refused(429, "too_many_streams").header.Get("Retry-After"))
	}
	one := w.follow(accountEvents, u.auth()).ready()
	w.follow(shopEvents, u.auth()).ready()
	refused(u.auth())
	w.follow(accountEvents, headers{"X-Api-Key", u.key}).ready()
	refused(headers{"X-Api-Key", u.key}) // of the user
	v := w.register("another")
	last := w.follow(accountEvents, v.auth()).ready()
	refused(bearer(v.key)) // of all
	one.cut()
	w.eventually("room", func() bool { return w.do("GET", accountEvents, bearer(v.key), nil).status == 200 })
	last.cut()
	metrics := func() string { return w.do("GET", "/metrics", nil, nil).text }
	w.eventually("the count", func() bool { return strings.Contains(metrics(), "\nkurir_event_streams 2\n") })
	require.Contains(t, metrics(), `kurir_event_streams_closed_total{why="client_gone"}`)
	require.Contains(t, metrics(), `route="/api/v1/sessions/:id/events"`)
}

// A client that takes nothing is cut off; others see all, in time.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t, func(_ *world, c *api.Config) { c.Streams.Buffer, c.Streams.Write = 50, time.Hour }) // else what comes first is a matter of pace
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4096))
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", shopEvents, u.token)
	require.NoError(t, err)
	quick := w.follow(shopEvents, u.auth()).ready()
	w.eventually("both", func() bool {
		return strings.Contains(w.do("GET", "/metrics", nil, nil).text, "\nkurir_event_streams 2\n")
	})
	uid, data := w.uid("shop"), strings.Repeat("x", 100<<10)
	var sent []string
	for len(sent) < 2000 && !strings.Contains(w.log.String(), `"why":"slow_client"`) {
		tx := w.transaction()
		for range 20 {
			sent = append(sent, emitIn(t, tx, uid, "message.received", data))
		}
		w.commit(tx)
		quick.has("the quick one", sent...)
	}
	w.eventually("the slow one to be cut off", func() bool { return strings.Contains(w.log.String(), `"why":"slow_client"`) })
	require.False(t, quick.hasEnded())
}

// Whatever ends a credential, or the session, ends the streams within moments, and new ones are refused.
func TestRevocationEndsStreams(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	b := startOn(t, w.db) // where it is done
	key := u.session("third")
	v := w.register("another")
	for what, do := range map[string]struct {
		path string
		with headers
		f    func()
	}{
		"another key":        {"/api/v1/sessions/third/events", bearer(key), func() { b.do("POST", "/api/v1/sessions/third/api-key/rotate", u.auth(), nil).ok(200) }},
		"a deleted session":  {"/api/v1/sessions/branch/events", headers{"X-Api-Key", u.key}, func() { b.do("DELETE", "/api/v1/sessions/branch", u.auth(), nil).ok(202) }},
		"a logout":           {accountEvents, v.auth(), func() { b.do("POST", "/api/v1/auth/logout", v.auth(), nil).ok(200) }},
		"a deactivated user": {accountEvents, bearer(w.administrator().key), func() { w.exec(`UPDATE users SET is_active = false WHERE role = 'ADMINISTRATOR'`) }},
		"an expired key":     {accountEvents, bearer(v.key), func() { w.exec(`UPDATE api_keys SET expires_at = now() WHERE user_id = $1::uuid`, v.id) }},
	} {
		f, stays := w.follow(do.path, do.with).ready(), w.follow(shopEvents, u.auth()).ready()
		do.f()
		f.ends(what)
		w.eventually("a refusal", func() bool { return w.do("GET", do.path, do.with, nil).status >= 401 })
		require.False(t, stays.hasEnded(), what)
		stays.cut()
	}
	w.eventually("the log", func() bool { return strings.Count(w.log.String(), `"why":"revoked"`) == 5 })
}

// A token that ends ends its streams.
func TestStreamsEndWithTheirToken(t *testing.T) {
	t.Parallel()
	w, _ := streamWorld(t)
	short := startOn(t, w.db, func(_ *world, c *api.Config) { c.JWTLifetime = 2 * time.Second })
	token := str(short.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": "u@example.com", "password": password}).ok(200), "token")
	w.follow(accountEvents, bearer(token)).ready().ends("the token's end")
}

func TestShutdownEndsStreams(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	live := w.follow(accountEvents, u.auth()).ready()
	ids := w.emit("shop", "message.sent")
	live.has("before", ids...)
	require.NoError(t, w.stop(context.Background()))
	live.ends("shutdown")
	require.Contains(t, w.log.String(), `"why":"shutdown"`)
	ids = append(ids, w.emit("shop", "message.read")...)
	startOn(t, w.db).follow(accountEvents, append(u.auth(), "Last-Event-ID", live.last())).has("elsewhere it goes on", ids[1])
}

// Without PostgreSQL streams stay, and go on when it is back, without loss.
func TestStreamsWithoutPostgres(t *testing.T) {
	t.Parallel()
	raw := modelstest.URL(t)
	url, way := relayed(t, raw)
	w := startOn(t, modelstest.Open(t, url), func(_ *world, c *api.Config) { c.Streams.Heartbeat = 20 * time.Millisecond })
	direct := *w
	direct.db = modelstest.Open(t, raw)
	direct.worker()
	u := w.register("u")
	u.connected("shop")
	f := w.follow(shopEvents, u.auth()).ready()
	ids := direct.emit("shop", "message.sent")
	f.has("before", ids...)
	way.cut()
	w.eventually("the outage to be noticed", func() bool { return strings.Contains(w.log.String(), "event streams wait for the database") })
	ids = append(ids, direct.emit("shop", "message.delivered", "message.read")...)
	beats := f.heartbeats()
	f.eventually("heartbeats", func() bool { return f.heartbeats() > beats+3 })
	require.Equal(t, ids[:1], f.ids())
	way.mend()
	f.has("after", ids...)
	require.False(t, f.hasEnded())
}
