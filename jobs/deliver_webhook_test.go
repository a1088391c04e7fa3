package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/webhook"
)

// hookBench is a session with a webhook whose endpoint a test plays, and a deliverer.
type hookBench struct {
	*testing.T
	*deliverer
	session *models.Session
	hook    uuid.UUID
	secret  string

	mu     sync.Mutex
	answer func(seq int64, w http.ResponseWriter, r *http.Request) int // what the endpoint answers, after it was verified
	got    []int64                                                     // sequences, as they came
	taken  []int64                                                     // those that were answered well
	bad    []string
	last   string // body
}

var noRedis = redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})

// quick tries again at once, six times in all.
var quick = webhook.Schedule{0, 0, 0, 0, 0, 0}

func newHookBench(t *testing.T) *hookBench {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	b := &hookBench{T: t, session: s, secret: webhook.NewSecret(), answer: func(int64, http.ResponseWriter, *http.Request) int { return 204 }}
	b.deliverer = newDeliverer(t, db, webhook.ClientConfig{})
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	b.hook = b.add(s, server.URL)
	return b
}

func newDeliverer(t *testing.T, db *models.DB, cfg webhook.ClientConfig) *deliverer {
	vault, err := models.NewVault(bytes.Repeat([]byte("k"), 32))
	require.NoError(t, err)
	cfg.AllowCIDRs = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	client := webhook.NewClient(cfg)
	t.Cleanup(client.Close)
	return &deliverer{db: db, lanes: alive(t, db), vault: vault, sinks: newSinks(client), schedule: quick, queue: NewQueue(noRedis, quiet),
		crowd: newCrowd(64), metrics: monitoring.New("test"), log: quiet, widths: newWidths()}
}

// add gives a session a webhook at a URL.
func (b *hookBench) add(s *models.Session, url string) uuid.UUID {
	hook := addHook(b.T, b.db, s)
	b.exec(`UPDATE webhooks SET url = $2, secret = $3 WHERE id = $1`, hook, url, b.vault.Seal(SealSecret, []byte(b.secret)))
	return hook
}

func (b *hookBench) exec(sql string, args ...any) {
	b.Helper()
	_, err := b.db.Pool.Exec(b.Context(), sql, args...)
	require.NoError(b, err)
}

func (b *hookBench) emit(s *models.Session, n int) {
	b.Helper()
	var events []models.Event
	for i := range n {
		events = append(events, models.Event{Session: s.UID, Type: webhook.EventMessageSent, Data: map[string]int{"n": i}, At: time.Now()})
	}
	_, err := models.Emit(b.Context(), b.db.Pool, events)
	require.NoError(b, err)
}

func (b *hookBench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	verifier, _ := standard.NewWebhook(b.secret)
	if err == nil {
		err = verifier.Verify(body, r.Header)
	}
	var e struct{ Sequence int64 }
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	b.mu.Lock()
	if err != nil {
		b.bad = append(b.bad, err.Error())
	}
	b.got, b.last = append(b.got, e.Sequence), string(body)
	answer := b.answer
	b.mu.Unlock()
	status := answer(e.Sequence, w, r)
	b.mu.Lock()
	if status < 300 {
		b.taken = append(b.taken, e.Sequence)
	}
	b.mu.Unlock()
	w.WriteHeader(status)
}

// drain drains a lane until it is idle, as its tasks and the sweep do.
func (b *hookBench) drain(hook uuid.UUID) {
	b.Helper()
	for range 100 {
		_, err := b.lanes.drain(b.Context(), hook, models.LaneWebhook, b.round)
		require.NoError(b, err)
		if !sweepFinds(b.T, b.db, models.LaneWebhook, hook) {
			return
		}
	}
}

func (b *hookBench) states() string {
	b.Helper()
	return modelstest.Scalar[string](b.T, b.db, `SELECT coalesce(string_agg(sequence || ' ' || status || ' ' || attempts, ', ' ORDER BY sequence), '') FROM webhook_deliveries WHERE webhook_id = $1`, b.hook)
}

// failing has the endpoint fail the first n tries of each delivery, in turn with a status and without an answer.
func (b *hookBench) failing(n int) {
	tries := map[int64]int{}
	b.answer = func(seq int64, _ http.ResponseWriter, _ *http.Request) int {
		b.mu.Lock()
		defer b.mu.Unlock()
		if tries[seq]++; tries[seq] > n {
			return 204
		}
		if tries[seq]%2 == 0 {
			panic(http.ErrAbortHandler)
		}
		return 503
	}
}

func TestOrderedWebhookUnderFailures(t *testing.T) {
	b := newHookBench(t)
	b.exec(`UPDATE webhooks SET ordered = true`)
	b.failing(3)
	b.emit(b.session, 6)
	b.drain(b.hook)
	require.Equal(t, []int64{1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6}, b.got, "one at a time")
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, b.taken)
	require.Empty(t, b.bad)
}

func TestOrderedWebhookUnderTimeouts(t *testing.T) {
	b := newHookBench(t)
	b.deliverer = newDeliverer(t, b.db, webhook.ClientConfig{Timeout: 100 * time.Millisecond})
	b.exec(`UPDATE webhooks SET ordered = true`)
	slow := true
	b.answer = func(seq int64, _ http.ResponseWriter, r *http.Request) int {
		b.mu.Lock()
		hang := slow && seq == 2
		slow = slow && seq != 2
		b.mu.Unlock()
		if hang {
			<-r.Context().Done()
			return 500
		}
		return 204
	}
	b.emit(b.session, 4)
	b.drain(b.hook)
	require.Equal(t, []int64{1, 2, 2, 3, 4}, b.got)
	require.Equal(t, "1 DELIVERED 1, 2 DELIVERED 2, 3 DELIVERED 1, 4 DELIVERED 1", b.states())
}

// A runner that dies while a delivery is under way: the next one repeats it, and goes on from there.
func TestOrderedWebhookWhenItsRunnerDies(t *testing.T) {
	b := newHookBench(t)
	b.exec(`UPDATE webhooks SET ordered = true`)
	ctx, die := context.WithCancel(t.Context())
	b.answer = func(seq int64, _ http.ResponseWriter, r *http.Request) int {
		if seq == 3 && ctx.Err() == nil {
			die()
			<-r.Context().Done()
		}
		return 204
	}
	b.emit(b.session, 5)
	h, ok, err := models.TakeLane(t.Context(), b.db.Pool, b.hook, b.lanes.runner)
	require.NoError(t, err)
	require.True(t, ok)
	for ctx.Err() == nil {
		_, err := b.round(ctx, &h)
		require.NoError(t, err)
	}
	b.exec(`DELETE FROM runners`) // its lease is over, and its last writes never came
	b.lanes = alive(t, b.db)
	b.drain(b.hook)
	require.Equal(t, []int64{1, 2, 3, 3, 4, 5}, b.got)
	require.Equal(t, "1 DELIVERED 1, 2 DELIVERED 1, 3 DELIVERED 1, 4 DELIVERED 1, 5 DELIVERED 1", b.states(), "what was broken off on our side spent no attempt")

	// The dead one wakes up: it changes nothing, and sends nothing any more.
	s, err := b.round(t.Context(), &h)
	require.NoError(t, err)
	require.True(t, s.lost)
	require.Len(t, b.got, 6)
}

func TestOrderedWebhookNeverPassesWhereItShouldWait(t *testing.T) {
	b := newHookBench(t)
	b.exec(`UPDATE webhooks SET ordered = true, on_failure = 'BLOCK'`)
	b.schedule = webhook.Schedule{0, 0, time.Hour}
	b.failing(1000)
	b.emit(b.session, 2)
	b.drain(b.hook)
	require.Equal(t, "1 RETRYING 2, 2 PENDING 0", b.states())
	for n := 3; n < 8; n++ { // beyond the schedule's end, at its last pace
		b.exec(`UPDATE webhook_deliveries SET next_retry = now() WHERE sequence = 1`)
		b.exec(`UPDATE lanes SET next_due_at = now() WHERE id = $1`, b.hook)
		b.drain(b.hook)
		require.Equal(t, fmt.Sprintf("1 RETRYING %d, 2 PENDING 0", n), b.states())
		require.True(t, modelstest.Scalar[bool](t, b.db, `SELECT next_retry > now() + interval '45 minutes' FROM webhook_deliveries WHERE sequence = 1`))
	}
	b.exec(`UPDATE webhook_deliveries SET next_retry = now() WHERE sequence = 1`)
	b.exec(`UPDATE lanes SET next_due_at = now() WHERE id = $1`, b.hook)
	b.failing(0)
	b.drain(b.hook)
	require.Equal(t, "1 DELIVERED 8, 2 DELIVERED 1", b.states())
}

func TestOrderedWebhookSkips(t *testing.T) {
	b := newHookBench(t)
	b.exec(`UPDATE webhooks SET ordered = true, on_failure = 'SKIP', skip_after = 2`)
	b.answer = func(seq int64, _ http.ResponseWriter, _ *http.Request) int {
		if seq == 2 {
			return 500
		}
		return 204
	}
	b.emit(b.session, 3)
	b.drain(b.hook)
	require.Equal(t, []int64{1, 2, 2, 3}, b.got)
	require.Equal(t, "1 DELIVERED 1, 2 FAILED 2, 3 DELIVERED 1", b.states())
}

// Without order, a delivery that keeps failing holds up nobody, and is given up at the schedule's end.
func TestFailuresHoldUpNobody(t *testing.T) {
	b := newHookBench(t)
	b.schedule = quick[:3] // no ten failures in a row, at which it would only be probed
	b.answer = func(seq int64, _ http.ResponseWriter, _ *http.Request) int {
		if seq%5 == 0 {
			return 500
		}
		return 204
	}
	b.emit(b.session, 20)
	b.drain(b.hook)
	require.EqualValues(t, 16, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM webhook_deliveries WHERE status = 'DELIVERED' AND attempts = 1`))
	require.EqualValues(t, 4, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM webhook_deliveries WHERE status = 'FAILED' AND attempts = 3`))
	require.EqualValues(t, 28, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM webhook_attempts`))
}

// A round that found little is followed by the release, not by another look, and what came meanwhile is delivered all the same.
func TestALittleTakesOneRound(t *testing.T) {
	b := newHookBench(t)
	rounds := func() (n int) {
		wake, err := b.lanes.drain(t.Context(), b.hook, models.LaneWebhook, func(ctx context.Context, h *models.Hold) (step, error) {
			n++
			return b.round(ctx, h)
		})
		require.NoError(t, err)
		require.Empty(t, wake)
		require.Zero(t, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM lanes WHERE id = $1 AND holder IS NOT NULL`, b.hook))
		return n
	}
	b.emit(b.session, 1)
	require.Equal(t, 1, rounds())

	b.answer = func(seq int64, _ http.ResponseWriter, _ *http.Request) int {
		if seq == 2 {
			b.emit(b.session, 1)
		}
		return 204
	}
	b.emit(b.session, 1)
	require.Equal(t, 2, rounds())
	require.Equal(t, "1 DELIVERED 1, 2 DELIVERED 1, 3 DELIVERED 1", b.states())

	b.schedule = webhook.Schedule{0, time.Hour}
	b.answer = func(int64, http.ResponseWriter, *http.Request) int { return 500 }
	b.emit(b.session, 1)
	require.Equal(t, 1, rounds())
	require.Equal(t, "4 RETRYING 1", b.states()[len("1 DELIVERED 1, 2 DELIVERED 1, 3 DELIVERED 1, "):])
	require.True(t, modelstest.Scalar[bool](t, b.db, `SELECT next_due_at > now() + interval '10 minutes' FROM lanes WHERE id = $1`, b.hook))
}

// A round reads but a part of what is to be tried again, so a lane with such deliveries is not kept: the rest would wait.
func TestALaneWithSomethingToTryAgainIsNotKept(t *testing.T) {
	b := newHookBench(t)
	round := func() step {
		h, ok, err := models.TakeLane(t.Context(), b.db.Pool, b.hook, b.lanes.runner)
		require.NoError(t, err)
		require.True(t, ok)
		done, err := b.round(t.Context(), &h)
		require.NoError(t, err)
		return done
	}
	b.emit(b.session, 1)
	require.True(t, round().keep)
	b.schedule = webhook.Schedule{0, 0, 0}
	b.failing(1)
	b.emit(b.session, 1)
	require.False(t, round().keep, "it has failed")
	require.False(t, round().keep, "it was tried again")
	require.Equal(t, "1 DELIVERED 1, 2 DELIVERED 2", b.states())
}

// An event that is gone still counts as read: the round was not short.
func TestAFullRoundIsNotKept(t *testing.T) {
	b := newHookBench(t)
	h, ok, err := models.TakeLane(t.Context(), b.db.Pool, b.hook, b.lanes.runner)
	require.NoError(t, err)
	require.True(t, ok)
	width, _ := b.widths.Get(b.hook)
	slots, _ := width.Slots(time.Now())
	b.emit(b.session, slots*deliverClaim+1)
	b.exec(`DELETE FROM events WHERE id = (SELECT event_id FROM webhook_deliveries WHERE sequence = 1)`)
	done, err := b.round(t.Context(), &h)
	require.NoError(t, err)
	require.Equal(t, step{}, done)
}

func TestGoneSwitchesOff(t *testing.T) {
	for _, ordered := range []bool{false, true} {
		b := newHookBench(t)
		b.exec(`UPDATE webhooks SET ordered = $1`, ordered)
		b.answer = func(int64, http.ResponseWriter, *http.Request) int { return 410 }
		b.emit(b.session, 1)
		b.drain(b.hook)
		require.Equal(t, "1 RETRYING 1", b.states(), "it waits with what comes meanwhile")
		require.Equal(t, "false gone", modelstest.Scalar[string](t, b.db, `SELECT is_active || ' ' || disabled_reason FROM webhooks`))
		b.emit(b.session, 1)
		b.drain(b.hook)
		require.Len(t, b.got, 1)
	}
}

func TestLongFailureSwitchesOff(t *testing.T) {
	b := newHookBench(t)
	b.disableAfter, b.schedule = 5*24*time.Hour, webhook.Schedule{0, time.Hour, time.Hour, time.Hour}
	b.answer = func(int64, http.ResponseWriter, *http.Request) int { return 500 }
	try := func() {
		b.exec(`UPDATE webhook_deliveries SET next_retry = now() WHERE status = 'RETRYING'`)
		b.exec(`UPDATE lanes SET next_due_at = now() WHERE id = $1`, b.hook)
		b.drain(b.hook)
	}
	b.emit(b.session, 1)
	try()
	b.exec(`UPDATE webhooks SET failing_since = now() - interval '5 days' + interval '1 minute'`)
	try()
	require.True(t, modelstest.Scalar[bool](t, b.db, `SELECT is_active FROM webhooks`), "not yet")
	b.exec(`UPDATE webhooks SET failing_since = now() - interval '5 days 1 second'`)
	try()
	require.Equal(t, "false failing", modelstest.Scalar[string](t, b.db, `SELECT is_active || ' ' || disabled_reason FROM webhooks`))
	require.Equal(t, "1 RETRYING 3", b.states())
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM jobs WHERE kind = 'mail:letter' AND params->>'letter' = 'webhook_disabled'`))
}

// What a session's owner notes of it comes with all that happens to it.
func TestMetadataOfTheSessionComeAlong(t *testing.T) {
	b := newHookBench(t)
	b.emit(b.session, 1)
	b.drain(b.hook)
	require.NotContains(t, b.last, `"metadata"`)
	b.exec(`UPDATE sessions SET metadata = '{"crm": 5}'`)
	b.emit(b.session, 1)
	b.drain(b.hook)
	require.Regexp(t, `"metadata":\{"crm":5\},"sequence":2,`, b.last)
	require.Empty(t, b.bad)
}

// The subscriber may hold either secret while both are valid, and needs the new one after that.
func TestRotationSignsWithBoth(t *testing.T) {
	b := newHookBench(t)
	former, next := b.secret, webhook.NewSecret()
	send := func(holds string) []string {
		b.mu.Lock()
		b.secret, b.bad = holds, nil
		b.mu.Unlock()
		b.emit(b.session, 1)
		b.drain(b.hook)
		return b.bad
	}
	require.Empty(t, send(former))
	b.exec(`UPDATE webhooks SET previous_secret = secret, previous_until = now() + interval '24 hours', secret = $1`, b.vault.Seal(SealSecret, []byte(next)))
	require.Empty(t, send(former))
	require.Empty(t, send(next))
	require.NotEmpty(t, send(webhook.NewSecret()))
	b.exec(`UPDATE webhooks SET previous_until = now()`)
	require.NotEmpty(t, send(former))
	require.Empty(t, send(next))
}
