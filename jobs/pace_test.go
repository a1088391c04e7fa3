package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/media"
	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/wire"
)

// paceBench is one session with its worker and phones.
type paceBench struct {
	t       *testing.T
	db      *models.DB
	session *models.Session
	worker  *models.Worker
	net     *network
	sender  *sender
	accept  *models.Accepter
	lanes   *Lanes
	events  int64
}

func newPaceBench(t *testing.T) *paceBench {
	db := modelstest.DB(t)
	w := modelstest.Worker(t, db, "w1", 10)
	s := modelstest.Session(t, db, modelstest.User(t, db), "shop")
	modelstest.Connect(t, db, s)
	addHook(t, db, s)
	b := &paceBench{t: t, db: db, session: s, worker: w, net: newNetwork(t), sender: modelSender(t, db, monitoring.New("test")), lanes: alive(t, db), events: 1}
	b.accept = models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
	t.Cleanup(b.accept.Close)
	return b
}

func (b *paceBench) settings(patch string) {
	b.t.Helper()
	require.NoError(b.t, models.UpdateSession(b.t.Context(), b.db, b.session.UID, models.SessionChange{Settings: json.RawMessage(patch)}))
}

func (b *paceBench) send(chat, text string) uuid.UUID {
	b.t.Helper()
	m := &models.NewMessage{ID: models.NewID(), Session: b.session.UID, Chat: chat, To: chat, Type: "TEXT", Content: text, ExpiresAt: time.Now().Add(time.Hour)}
	require.NoError(b.t, b.accept.Accept(b.t.Context(), m))
	return m.ID
}

func (b *paceBench) exec(sql string, args ...any) {
	b.t.Helper()
	_, err := b.db.Pool.Exec(b.t.Context(), sql, args...)
	require.NoError(b.t, err)
}

func (b *paceBench) hears(chat string) {
	b.t.Helper()
	e := event(wire.EventMessageReceived, wire.ReceivedData{WhatsappID: uuid.NewString(), Chat: chat, Sender: chat, Type: "text", Message: "hi"})
	e.SessionID, e.Epoch, e.Seq, e.Timestamp = b.session.UID.String(), 1, b.events, time.Now()
	b.events++
	_, err := models.IngestEvents(b.t.Context(), b.db, quiet, b.worker.ID, wire.EventBatch{Term: b.worker.Term, Events: []wire.Event{e}})
	require.NoError(b.t, err)
}

// drain does what sender.run does, until nothing can be claimed, and says how many rounds had something.
func (b *paceBench) drain() int {
	b.t.Helper()
	rounds, more := b.slice()
	if more { // its slice was over
		return rounds + b.drain()
	}
	return rounds
}

func (b *paceBench) slice() (rounds int, more bool) {
	b.t.Helper()
	client := b.net.client()
	wake, err := b.lanes.drain(b.t.Context(), b.session.UID, models.LaneMessages, func(ctx context.Context, h *models.Hold) (step, error) {
		claim, err := models.ClaimMessages(ctx, b.db.Pool, h, sendClaim)
		if err != nil || len(claim.Messages) == 0 {
			return step{idle: true}, err
		}
		rounds++
		r := b.sender.newRound(*h, claim)
		r.end = time.Now().Add(time.Hour)
		for i := range claim.Messages {
			r.one(ctx, client, &claim.Messages[i])
		}
		err = r.write(ctx)
		return step{left: r.left}, err
	})
	require.NoError(b.t, err)
	return rounds, len(wake) > 0
}

// A cancel that lost to the claim still holds the message's row when its holder settles. What that could not write must not
// let a later message of the chat pass.
func TestNothingPassesAMessageWhoseOutcomeWasNotWritten(t *testing.T) {
	b := newPaceBench(t)
	first := b.send("a", "one")
	b.send("a", "two")
	cancel, err := b.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = cancel.Rollback(context.WithoutCancel(t.Context())) }()
	b.net.luck = func() verdict {
		_, err := cancel.Exec(t.Context(), `SELECT 1 FROM messages WHERE id = $1 FOR NO KEY UPDATE`, first)
		require.NoError(t, err)
		return brokenUnseen
	}
	rounds, more := b.slice()
	require.Equal(t, 1, rounds)
	require.True(t, more, "the lane is woken for its next holder")
	require.Empty(t, b.shown())
	require.Equal(t, "SENDING - 0", b.state(first))
	b.net.luck = nil
	require.NoError(t, cancel.Rollback(t.Context()))
	b.drain()
	require.Equal(t, []string{"one", "two"}, b.shown())
}

func (b *paceBench) shown() []string {
	var list []string
	for _, s := range b.net.shows {
		list = append(list, s.Message)
	}
	b.net.shows = nil
	return list
}

func (b *paceBench) state(id uuid.UUID) string {
	return modelstest.Scalar[string](b.t, b.db, `SELECT status || ' ' || coalesce(waiting_for, '-') || ' ' || attempts FROM messages WHERE id = $1`, id)
}

func (b *paceBench) dueIn() time.Duration {
	return time.Until(modelstest.Scalar[time.Time](b.t, b.db, `SELECT next_due_at FROM lanes WHERE id = $1`, b.session.UID))
}

// What the network refuses for now is put back as it was; the others to strangers wait without a write to any of them; answers go on.
func TestARateLimitCoolsTheSessionDown(t *testing.T) {
	b := newPaceBench(t)
	first, second := b.send("1", "one"), b.send("2", "two")
	b.net.verdicts = []verdict{limited}
	b.drain()
	require.Empty(t, b.shown())
	require.Equal(t, "PENDING - 0", b.state(first))
	require.Equal(t, "PENDING - 0", b.state(second))
	require.InDelta(t, 8, b.dueIn().Seconds(), 2, "the lane comes again when the pause is over")
	s, err := models.SessionByUID(t.Context(), b.db, b.session.UID)
	require.NoError(t, err)
	require.True(t, s.CoolingDown(time.Now()))
	require.Equal(t, wire.CodeRateLimited, *s.CooldownReason)
	require.Equal(t, "cooldown", (&models.Message{Status: models.MessagePending}).Waits(s, time.Now()))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM webhook_deliveries WHERE event = 'session.throttled'`))

	generation := modelstest.Scalar[int64](t, b.db, `SELECT sum(generation)::bigint FROM messages`)
	b.send("3", "three")
	require.Zero(t, b.drain(), "cold messages are not even claimed")
	require.Equal(t, generation, modelstest.Scalar[int64](t, b.db, `SELECT sum(generation)::bigint FROM messages`))

	b.send("friend", "an answer")
	b.drain()
	require.Empty(t, b.shown())
	b.hears("friend")
	require.LessOrEqual(t, b.dueIn(), time.Duration(0), "who writes makes the lane due")
	b.drain()
	require.Equal(t, []string{"an answer"}, b.shown())

	b.send("friend", "another")
	b.net.verdicts = []verdict{limited}
	b.drain()
	require.Zero(t, b.drain(), "answers rest too when one is refused")
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, b.db, `SELECT cooldown_count FROM sessions WHERE uid = $1`, s.UID))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM events WHERE type = 'session.throttled'`), "told once")

	b.exec(`UPDATE sessions SET cooldown_until = now(), cooldown_replies_at = now() WHERE uid = $1`, s.UID)
	b.drain()
	require.Equal(t, []string{"one", "two", "three", "another"}, b.shown(), "in the order of accept")
}

func TestABanHoldsUpAnswersToo(t *testing.T) {
	b := newPaceBench(t)
	b.hears("friend")
	b.send("friend", "an answer")
	b.net.verdicts = []verdict{banned}
	b.drain()
	require.Zero(t, b.drain())
	require.InDelta(t, 8, b.dueIn().Seconds(), 2)
	require.Equal(t, "temporary_ban", modelstest.Scalar[string](t, b.db, `SELECT cooldown_reason FROM sessions`))
}

func TestThePaceHoldsAcrossRunners(t *testing.T) {
	b := newPaceBench(t)
	b.settings(`{"pacing":{"messagesPerMinute":6}}`)
	for _, text := range []string{"one", "two", "three"} {
		b.send(text, text)
	}
	require.Equal(t, 1, b.drain())
	require.Equal(t, []string{"one"}, b.shown())
	require.InDelta(t, 10, b.dueIn().Seconds(), 2)
	b.lanes = alive(t, b.db) // another runner
	require.Zero(t, b.drain())
	b.exec(`UPDATE paces SET next_send_at = now()`)
	require.Equal(t, 1, b.drain())
	require.Equal(t, []string{"two"}, b.shown())
	b.settings(`{"pacing":null}`)
	b.drain()
	require.Equal(t, []string{"three"}, b.shown(), "without a pace it goes at once")
}

// A thousand messages to strangers are parked once and then left alone, and each chat is begun when the cap allows.
func TestTheCapOnNewChats(t *testing.T) {
	b := newPaceBench(t)
	b.settings(`{"pacing":{"newChatsPerHour":8}}`)
	b.send("a", "a1")
	b.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, content, status, whatsapp_id, expires_at)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', 1 + n, 'c' || n, 't', 'TEXT', 'c' || n, 'PENDING', 'x' || n, now() + interval '1 day' FROM generate_series(1, 1000) n`, b.session.UID)
	b.exec(`UPDATE lanes SET next_seq = 1002 WHERE id = $1`, b.session.UID)
	last := b.send("a", "a2")
	b.drain()
	require.Equal(t, []string{"a1", "c1", "a2"}, b.shown(), "a quarter of the cap at once, and whom we know")
	require.Equal(t, "SENT - 0", b.state(last))
	require.EqualValues(t, 999, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM messages WHERE waiting_for = 'new_chat_limit' AND status = 'PENDING'`))
	require.InDelta(t, time.Hour.Seconds()/7, b.dueIn().Seconds(), 30)
	require.Zero(t, b.drain(), "nothing is claimed and put back again")

	b.hears("c500")
	b.exec(`UPDATE messages SET priority = 1 WHERE chat = 'c700'`)
	b.drain()
	require.Equal(t, []string{"c500"}, b.shown(), "who writes is no stranger")
	b.exec(`UPDATE paces SET new_chat_at = now(), hour_tat = NULL`)
	b.drain()
	require.Equal(t, []string{"c700", "c2"}, b.shown(), "priority goes first among strangers")
}

func TestPriorityChoosesBetweenChats(t *testing.T) {
	b := newPaceBench(t)
	b.settings(`{"pacing":{"messagesPerMinute":6000}}`)
	for _, m := range []string{"a1", "b1", "c1", "b2", "b3"} {
		id := b.send(m[:1], m)
		if m == "b2" {
			b.exec(`UPDATE messages SET priority = 1 WHERE id = $1`, id)
		}
	}
	for range 5 {
		b.exec(`UPDATE paces SET next_send_at = NULL`)
		b.drain()
	}
	require.Equal(t, []string{"b1", "b2", "a1", "c1", "b3"}, b.shown())
}

func TestAPausedSessionSendsNothing(t *testing.T) {
	b := newPaceBench(t)
	b.settings(`{"paused":true}`)
	b.send("a", "one")
	require.Zero(t, b.drain())
	due(t, b.db, b.session.UID)
	require.False(t, sweepFinds(t, b.db, models.LaneMessages, b.session.UID), "the sweep leaves it alone")
	b.settings(`{"paused":null}`)
	require.True(t, sweepFinds(t, b.db, models.LaneMessages, b.session.UID))
	b.drain()
	require.Equal(t, []string{"one"}, b.shown())
}

// --- media

type store struct {
	fail  error
	calls int
	then  func()
}

func (s *store) Fetch(context.Context, uuid.UUID, string, string) (message.Media, error) {
	s.calls++
	if s.then != nil {
		s.then()
	}
	return message.Media{ID: uuid.NewString(), MIMEType: "image/png", Size: 3}, s.fail
}

func (b *paceBench) image(chat string) uuid.UUID {
	id := b.send(chat, "image")
	b.exec(`UPDATE messages SET media_url = 'https://example.com/a.png', message_type = 'IMAGE' WHERE id = $1`, id)
	return id
}

func TestAMediumIsFetchedBeforeItsMessageIsSent(t *testing.T) {
	b := newPaceBench(t)
	s := &store{}
	b.sender.media = s
	f := &fetcher{b.sender}
	id := b.image("a")
	b.send("a", "behind it")
	b.send("b", "elsewhere")
	b.drain()
	require.Equal(t, []string{"elsewhere"}, b.shown(), "no other chat waits")
	require.Equal(t, "PENDING media 0", b.state(id))

	s.fail = errors.New("the host is down")
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	require.Equal(t, "PENDING media 0", b.state(id), "it is tried again")
	require.Zero(t, b.drain())
	b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, id) // the wait is over
	lanes, err := models.EndHolds(t.Context(), b.db.Pool, 100)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{b.session.UID}, lanes)
	b.drain()
	require.Equal(t, "PENDING media 0", b.state(id), "the lane met it anew")
	s.fail = nil
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}), "a second task finds it done")
	require.Equal(t, 2, s.calls)
	b.drain()
	require.Equal(t, []string{"image", "behind it"}, b.shown())
}

func TestAMediumThatCannotBeFetchedFailsItsMessage(t *testing.T) {
	b := newPaceBench(t)
	s := &store{fail: fault.New(fault.Invalid, "media_type", "This is no image.")}
	b.sender.media = s
	f := &fetcher{b.sender}
	bad, slow := b.image("a"), b.image("b")
	b.send("a", "behind it")
	b.drain()
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: bad}))
	require.Equal(t, "media_type", modelstest.Scalar[string](t, b.db, `SELECT error_code FROM messages WHERE id = $1 AND status = 'FAILED'`, bad))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM events WHERE type = 'message.failed'`))
	s.fail = fault.New(fault.Unavailable, media.CodeUnreachable, "It is down.")
	for range fetchTries {
		require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: slow}))
	}
	require.Equal(t, "media_unreachable", modelstest.Scalar[string](t, b.db, `SELECT error_code FROM messages WHERE id = $1 AND status = 'FAILED'`, slow))
	b.drain()
	require.Equal(t, []string{"behind it"}, b.shown())
}

func TestACancelDuringAFetchWins(t *testing.T) {
	b := newPaceBench(t)
	s := &store{}
	b.sender.media = s
	id := b.image("a")
	b.send("a", "behind it")
	b.drain()
	s.then = func() {
		m := &models.Message{ID: id, SessionUID: b.session.UID}
		ok, _, err := models.CancelMessage(t.Context(), b.db, m, "shop")
		require.NoError(t, err)
		require.True(t, ok)
	}
	require.NoError(t, (&fetcher{b.sender}).run(t.Context(), FetchMedia{MessageID: id}))
	require.Equal(t, "CANCELLED - 0", b.state(id))
	require.True(t, sweepFinds(t, b.db, models.LaneMessages, b.session.UID), "what it blocked is due")
	b.drain()
	require.Equal(t, []string{"behind it"}, b.shown())
}

func TestMediaOfScheduledMessagesAreFetchedShortlyBefore(t *testing.T) {
	b := newPaceBench(t)
	soon, late := b.image("a"), b.image("b")
	b.exec(`UPDATE messages SET send_at = now() + interval '30 seconds' WHERE id = $1`, soon)
	b.exec(`UPDATE messages SET send_at = now() + interval '1 hour' WHERE id = $1`, late)
	found, err := models.HoldUnfetched(t.Context(), b.db.Pool, fetchAhead, fetchHold, 100)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{soon}, found)
	b.send("a", "before it is due")
	b.drain()
	require.Equal(t, []string{"before it is due"}, b.shown(), "it blocks nothing before its time")
}

func TestMediaWithoutAStore(t *testing.T) {
	b := newPaceBench(t)
	b.sender.media = nil
	id := b.image("a")
	b.drain()
	require.Equal(t, "media_unsupported", modelstest.Scalar[string](t, b.db, `SELECT error_code FROM messages WHERE id = $1`, id))
}

// What was scheduled, paced or parked is not late for having waited: nobody is to be told of it.
func TestWhatWasMeantToWaitIsNotLate(t *testing.T) {
	b := newPaceBench(t)
	b.settings(`{"pacing":{"messagesPerMinute":6,"newChatsPerHour":4}}`)
	hourOld := func() { b.exec(`UPDATE messages SET created_at = now() - interval '1 hour' WHERE status = 'PENDING'`) }
	late := func() float64 { return sumOf(t, b.sender.metrics, "kurir_message_accept_to_sent_seconds") }
	b.send("a", "scheduled")
	hourOld()
	b.exec(`UPDATE messages SET send_at = now() - interval '10 seconds'`)
	require.Equal(t, 1, b.drain())
	require.InDelta(t, 10, late(), 3)

	b.send("a", "paced")
	hourOld()
	b.exec(`UPDATE paces SET next_send_at = now() - interval '20 seconds'`)
	require.Equal(t, 1, b.drain())
	require.InDelta(t, 30, late(), 3)

	b.send("b", "parked")
	b.exec(`UPDATE paces SET next_send_at = now(), new_chat_at = now() + interval '1 hour', hour_tat = now() + interval '1 day'`)
	b.drain()
	require.Equal(t, []string{"scheduled", "paced"}, b.shown())
	hourOld()
	b.exec(`UPDATE paces SET next_send_at = now() - interval '40 seconds', new_chat_at = now() - interval '30 seconds', hour_tat = now()`)
	require.Equal(t, 1, b.drain())
	require.Equal(t, []string{"parked"}, b.shown())
	require.InDelta(t, 60, late(), 3)

	b.settings(`{"pacing":null}`)
	b.exec(`DELETE FROM paces`)
	b.send("a", "nothing held it back")
	hourOld()
	require.Equal(t, 1, b.drain())
	require.InDelta(t, 3660, late(), 3)
}

// sumOf is the sum of a histogram without labels.
func sumOf(t *testing.T, m *monitoring.Metrics, name string) (sum float64) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	_, after, found := strings.Cut(w.Body.String(), "\n"+name+"_sum ")
	require.True(t, found, w.Body.String())
	_, err := fmt.Sscan(after, &sum)
	require.NoError(t, err)
	return sum
}
