package models_test

import (
	"context"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/webhook"
	"kurir/wire"
)

// held makes a message wait for its medium.
func (o *outbox) held(chat, text string, change ...func(*models.NewMessage)) uuid.UUID {
	o.Helper()
	id := o.add(chat, text, change...)
	o.exec(`UPDATE messages SET next_attempt_at = now() + interval '1 hour', waiting_for = 'media' WHERE id = $1`, id)
	return id
}

// What is deleted with somebody's data may have held up what was written to him later, which stays.
func TestForgettingSomebodyLeavesNobodyWaiting(t *testing.T) {
	o := newOutbox(t)
	old := o.held("a", "old")
	newer := o.add("a", "newer")
	h := o.take(o.runner())
	require.Empty(t, o.claim(h, 10).Messages)
	require.True(t, o.release(h))
	require.NoError(t, o.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		n, _, err := models.CancelTo(t.Context(), tx, o.session.UID, &models.Person{Chats: []string{"a"}}, newer, 10)
		require.Equal(t, 1, n)
		return err
	}))
	m := o.message(old)
	require.Nil(t, m.NextAttemptAt)
	require.Nil(t, m.WaitingFor)
	require.True(t, modelstest.Scalar[bool](t, o.db, `SELECT coalesce(next_due_at <= now(), false) FROM lanes WHERE id = $1`, o.session.UID), "nobody looks at what waited")
	require.Equal(t, []string{"newer"}, texts(o.claim(o.take(o.runner()), 10)))
}

var removed = regexp.MustCompile(`Rows Removed by (?:Index Recheck|Filter|Join Filter): (\d+)`)

// readsLittle runs what was recorded once more, and fails if it reads what it does not want.
func readsLittle(t *testing.T, db *models.DB, seen []statement) {
	t.Helper()
	looked := 0
	for _, s := range seen {
		if !strings.Contains(s.sql, "messages") || strings.HasPrefix(s.sql, "LOCK") {
			continue
		}
		looked++
		tx, err := db.Pool.Begin(t.Context())
		require.NoError(t, err)
		rows, err := tx.Query(t.Context(), "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+s.sql, s.args...)
		require.NoError(t, err, s.sql)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, s.sql)
		require.NoError(t, tx.Rollback(t.Context()))
		plan := strings.Join(lines, "\n")
		for _, m := range removed.FindAllStringSubmatch(plan, -1) {
			n, err := strconv.Atoi(m[1])
			require.NoError(t, err)
			require.Less(t, n, 1000, "%s\n%s", s.sql, plan)
		}
	}
	require.NotZero(t, looked)
}

// history adds many messages that have ended.
func (o *outbox) history(n int) {
	o.Helper()
	o.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', -n, 'c' || n % 7, 't', 'TEXT', 'SENT', 'y' || n FROM generate_series(1, $2::int) n`, o.session.UID, n)
	o.exec(`ANALYZE`)
}

// Whoever looks for what is not settled does not read what is: a session may have millions of it.
func TestWhatIsNotSettledIsFoundWithoutReadingTheHistory(t *testing.T) {
	r := newReporter(t)
	r.history(20_000)
	r.held("c1", "held")
	r.add("c2", "free")
	r.add("c3", "claimed")
	r.claim(r.take(r.runner()), 1)
	rec, pool := traced(t, r.db)
	plain := r.db
	r.db = &models.DB{DB: bun.NewDB(stdlib.OpenDBFromPool(pool), pgdialect.New(), bun.WithDiscardUnknownColumns()), Pool: pool}

	_, err := models.BacklogOf(t.Context(), pool, models.LaneMessages)
	require.NoError(t, err)
	for _, guarded := range []bool{false, true} {
		r.exec(`UPDATE lanes SET holder = NULL`)
		h := r.take(r.runner())
		r.claim(h, 0)
		h.Guarded = guarded
		_, err := models.ReleaseLane(t.Context(), pool, models.LaneMessages, *h)
		require.NoError(t, err)
	}
	person := &models.Person{Chats: []string{"c1", "c9"}}
	for _, below := range []uuid.UUID{uuid.Nil, uuid.Max} {
		_, err = models.Unsettled(t.Context(), pool, r.session.UID, person, below)
		require.NoError(t, err)
		require.NoError(t, r.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
			_, _, err := models.CancelTo(t.Context(), tx, r.session.UID, person, below, 1000)
			return err
		}))
	}
	require.Equal(t, 1, r.cancel(models.PendingFilter{}))
	r.add("c1", "for the logout")
	r.send(r.status(wire.StatusDisconnected, "logged_out", ""))
	require.NoError(t, r.db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := models.DeleteSession(ctx, tx, r.session.UID)
		return err
	}))
	require.Zero(t, modelstest.Scalar[int64](t, plain, `SELECT count(*) FROM messages WHERE status IN ('PENDING', 'SENDING')`))
	readsLittle(t, plain, rec.seen)
}

// Nor does whoever drops a month, for which everybody else has to wait.
func TestAMonthIsDroppedWithoutReadingIt(t *testing.T) {
	a := newArchive(t, 3)
	month := a.first
	a.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id)
		SELECT kurir_uuid_from($2::timestamptz + n * interval '1 second'), $1, 'OUTBOUND', -n, 'c', 't', 'TEXT', 'SENT', 'y' || n FROM generate_series(1, 20000) n`, a.session.UID, month)
	a.exec(`ANALYZE`)
	rec, pool := traced(t, a.db)
	dropped, err := models.DropMonth(t.Context(), &models.DB{DB: a.db.DB, Pool: pool}, models.MessagePartitions, month)
	require.NoError(t, err)
	require.False(t, dropped, "it is not over")
	rec.seen = nil
	a.put(month.AddDate(0, 0, 20), models.MessagePending, "late")
	dropped, err = models.DropMonth(t.Context(), &models.DB{DB: a.db.DB, Pool: pool}, models.MessagePartitions, time.Now())
	require.NoError(t, err)
	require.False(t, dropped, "something in it waits")
	a.exec(`UPDATE messages SET status = 'EXPIRED' WHERE status = 'PENDING'`)
	readsLittle(t, a.db, rec.seen)
}

// What tells of a person beside messages has no ID that tells its time, and lists may show him among others.
func TestForgottenEvents(t *testing.T) {
	o := newOutbox(t)
	phone, friend, lid := "+6281234567890", "+6289999999999", "777@lid"
	sari, other := webhook.Contact{Phone: &phone}, webhook.Contact{Phone: &friend}
	group := func(c webhook.Group) webhook.Group {
		c.ID, c.Action = "1203@g.us", "added"
		return c
	}
	chat := jid(phone)
	now := time.Now()
	own := models.Message{ID: models.NewID(), Direction: models.Outbound, Chat: "1203@g.us", Reactions: []message.Mark{{From: jid(friend)}}}
	marked := own
	marked.Reactions = []message.Mark{{From: jid(friend)}, {From: chat, Emoji: "x"}}
	took := webhook.Reacted{Message: own.Resource("shop"), Reaction: webhook.Reaction{From: &sari, Removed: true}}
	gone := []models.Event{
		{Type: webhook.EventCallReceived, Data: webhook.Call{ID: "FEDC", Chat: chat, From: sari}},
		{Type: webhook.EventCallReceived, Data: webhook.Call{ID: "0001", Chat: chat, From: sari}},
		{Type: webhook.EventPresenceUpdated, Data: webhook.Presence{Chat: chat, From: sari}},
		{Type: webhook.EventGroupUpdated, Data: group(webhook.Group{By: &sari, Members: []webhook.Contact{}})},
		{Type: webhook.EventGroupUpdated, Data: group(webhook.Group{Members: []webhook.Contact{other, sari}})},
		{Type: webhook.EventGroupUpdated, Data: group(webhook.Group{Members: []webhook.Contact{{LID: &lid}}})},
		{Type: webhook.EventMessageReaction, Data: marked.Resource("shop")},
		{Type: webhook.EventMessageReaction, Data: took},
	}
	stay := []models.Event{
		{Type: webhook.EventCallReceived, Data: webhook.Call{ID: "FEDC", Chat: jid(friend), From: other}},
		{Type: webhook.EventGroupUpdated, Data: group(webhook.Group{By: &other, Members: []webhook.Contact{other}})},
		{Type: webhook.EventGroupUpdated, Data: webhook.Group{ID: "9@g.us"}},
		{Type: webhook.EventMessageReaction, Data: own.Resource("shop")},
		{Type: webhook.EventSessionStatus, Data: webhook.SessionStatus{Status: "connected"}},
		{ID: models.InboundID(o.session.UID, "call", chat, "1", now.Add(time.Hour), now), Type: webhook.EventCallReceived, Data: webhook.Call{ID: "0002", Chat: chat, From: sari}},
	}
	for _, e := range append(gone, stay...) {
		e.Session, e.At = o.session.UID, now
		_, err := models.Emit(t.Context(), o.db.Pool, []models.Event{e})
		require.NoError(t, err)
	}
	person := &models.Person{Chats: []string{chat, lid}, Phones: []string{phone}, LIDs: []string{lid, "777"}}
	n, next, err := models.ForgetEvents(t.Context(), o.db.Pool, o.session.UID, person, models.LowestID(now.Add(time.Minute)), math.MaxInt64, 1000)
	require.NoError(t, err)
	require.Equal(t, len(gone), n)
	require.NotZero(t, next)
	require.EqualValues(t, len(stay), modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM events`))
	everybody := &models.Person{Chats: []string{"1203@g.us"}}
	n, _, err = models.ForgetEvents(t.Context(), o.db.Pool, o.session.UID, everybody, models.LowestID(now.Add(time.Minute)), math.MaxInt64, 1000)
	require.NoError(t, err)
	require.Equal(t, 2, n, "what happened in a group that is forgotten")
}

// Ingest locks the lanes of sessions and then those of webhooks. Who ends a hold does it in the same order, or they would wait
// for each other in a circle.
func TestLanesOfSessionsAreLockedBeforeThoseOfWebhooks(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context, o *outbox, m *models.Message) error{
		"cancel": func(ctx context.Context, o *outbox, m *models.Message) error {
			_, _, err := models.CancelMessage(ctx, o.db, m, "shop")
			return err
		},
		"cancel many": func(ctx context.Context, o *outbox, _ *models.Message) error {
			_, _, _, err := models.CancelMessages(ctx, o.db, o.session, models.PendingFilter{}, 0)
			return err
		},
		"fetch failed": func(ctx context.Context, o *outbox, m *models.Message) error {
			_, _, err := models.FetchFailed(ctx, o.db, m, "x", "x", func(int) time.Duration { return 0 })
			return err
		},
		"forget": func(ctx context.Context, o *outbox, m *models.Message) error {
			return o.db.InPgxTx(ctx, func(tx pgx.Tx) error {
				_, _, err := models.CancelTo(ctx, tx, o.session.UID, &models.Person{Chats: []string{m.Chat}}, uuid.Max, 10)
				return err
			})
		},
		"expire": func(ctx context.Context, o *outbox, _ *models.Message) error {
			return o.db.InPgxTx(ctx, func(tx pgx.Tx) error {
				_, _, err := models.ExpireMessages(ctx, tx, 10)
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutbox(t)
			hook := addWebhook(t, o.db, o.session, "*")
			m := o.message(o.held("a", "x", func(m *models.NewMessage) { m.ExpiresAt = time.Now().Add(-time.Second) }))
			tx, err := o.db.Pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
			_, err = tx.Exec(t.Context(), `SELECT 1 FROM lanes WHERE id = $1 FOR NO KEY UPDATE`, o.session.UID)
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() { done <- end(context.WithoutCancel(t.Context()), o, m) }()
			waits(t, o.db)
			_, err = tx.Exec(t.Context(), `SELECT 1 FROM lanes WHERE id = $1 FOR UPDATE NOWAIT`, hook)
			require.NoError(t, err, "it holds the webhook's lane already")
			require.NoError(t, tx.Commit(t.Context()))
			require.NoError(t, <-done)
			require.True(t, models.Final(o.status(m.ID)))
			require.EqualValues(t, 1, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM webhook_deliveries`))
		})
	}
}

// A pause of the network's may last for weeks. What is in doubt ends with its time.
func TestDoubtEndsDuringACoolDown(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "in doubt")
	h := o.take(o.runner())
	o.settle(h, doubt(o.claim(h, 10), 0, time.Now()))
	o.exec(`UPDATE sessions SET cooldown_until = now() + interval '1 day' WHERE uid = $1`, o.session.UID)
	expire := func() int {
		var n int
		require.NoError(t, o.db.InPgxTx(t.Context(), func(tx pgx.Tx) (err error) {
			n, _, err = models.ExpireMessages(t.Context(), tx, 10)
			return err
		}))
		return n
	}
	require.Zero(t, expire())
	o.exec(`UPDATE messages SET expires_at = now() WHERE id = $1`, id)
	require.Zero(t, expire(), "somebody has it in hand")
	require.Empty(t, o.claim(h, 10).Messages)
	require.True(t, o.release(h))
	require.Equal(t, 1, expire())
	require.Equal(t, models.MessageUnknown, o.status(id))
}

// What a network asked of one number does not concern the next one.
func TestAnotherNumberHasAPaceOfItsOwn(t *testing.T) {
	r := newReporter(t)
	until := time.Now().Add(time.Hour).Truncate(time.Second)
	pause := func() {
		r.exec(`UPDATE sessions SET cooldown_until = $2, cooldown_reason = 'temporary_ban', cooldown_replies_at = $2, cooldown_count = 3 WHERE uid = $1`, r.session.UID, until)
		r.exec(`INSERT INTO paces VALUES ($1, $2, $2, $2, $2) ON CONFLICT DO NOTHING`, r.session.UID, until)
	}
	pause()
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	r.add("a", "x")
	require.Empty(t, r.claim(r.take(r.runner()), 10).Messages, "the same number is still asked to wait")
	r.send(r.status(wire.StatusConnected, "", "+6289999999999"))
	r.add("a", "from the new number")
	r.exec(`UPDATE lanes SET holder = NULL`)
	require.Equal(t, []string{"from the new number"}, texts(r.claim(r.take(r.runner()), 10)))
	require.Zero(t, modelstest.Scalar[int](t, r.db, `SELECT cooldown_count FROM sessions WHERE uid = $1`, r.session.UID))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM paces WHERE new_chat_at IS NULL AND hour_tat IS NULL AND day_tat IS NULL`))
}

// A message that failed for want of its medium has all its tries again.
func TestRetryCountsFetchesAnew(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "x")
	o.exec(`UPDATE messages SET status = 'FAILED', media_tries = 5 WHERE id = $1`, id)
	require.NoError(t, models.RetryMessage(t.Context(), o.db, o.message(id), false, time.Now().Add(time.Hour)))
	require.Zero(t, modelstest.Scalar[int](t, o.db, `SELECT media_tries FROM messages WHERE id = $1`, id))
}

// A webhook that was switched off by failures has a first delivery that is to be tried again in a day. When it is switched on
// again, that one goes at once, and the others behind it.
func TestSwitchedOnAgainNothingWaitsForItsSchedule(t *testing.T) {
	d := newDeliveries(t, 2)
	changeWebhook(t, d.db, d.session, func(w *models.Webhook) { w.Ordered = true })
	d.settleTried(d.hold, d.tried(d.due(true, 10), 0, models.DeliveryRetrying, 24*time.Hour))
	changeWebhook(t, d.db, d.session, func(w *models.Webhook) { w.IsActive = false })
	require.Empty(t, d.due(true, 10))
	changeWebhook(t, d.db, d.session, func(w *models.Webhook) { w.IsActive = true })
	require.Equal(t, "[1]", sequences(d.due(true, 10)))
}

// A fetch that comes late touches only what is held for it: neither what a holder has in hand nor what waits for something else.
func TestLateFetchesTouchNothing(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "x")
	begin := func() bool {
		_, _, ok, err := models.BeginFetch(t.Context(), o.db.Pool, id, time.Minute)
		require.NoError(t, err)
		return ok
	}
	require.False(t, begin())
	h := o.take(o.runner())
	claim := o.claim(h, 10)
	require.False(t, begin())
	require.Nil(t, o.message(id).NextAttemptAt)
	until := time.Now().Add(time.Hour)
	parked := outcome(claim, 0, models.MessagePending)
	parked.NextAttemptAt, parked.WaitingFor = &until, models.WaitingNewChat
	o.settle(h, parked)
	require.False(t, begin())
	failed, _, err := models.FetchFailed(t.Context(), o.db, o.message(id), "x", "x", func(int) time.Duration { return 0 })
	require.NoError(t, err)
	require.False(t, failed)
	require.WithinDuration(t, until, *o.message(id).NextAttemptAt, time.Millisecond)
	o.exec(`UPDATE messages SET waiting_for = 'media' WHERE id = $1`, id)
	require.True(t, begin())
	ok, err := models.Fetched(t.Context(), o.db, o.message(id), uuid.New(), message.Media{})
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = models.Fetched(t.Context(), o.db, o.message(id), uuid.New(), message.Media{})
	require.NoError(t, err)
	require.False(t, ok, "it has its medium")
}
