package models_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/fault"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// reporter is a worker that reports what happens to a session.
type reporter struct {
	*outbox
	worker *models.Worker
	next   int64
}

func newReporter(t *testing.T) *reporter {
	o := newOutbox(t)
	w, err := models.WorkerByID(t.Context(), o.db, "w1")
	require.NoError(t, err)
	return &reporter{outbox: o, worker: w, next: 1}
}

func (r *reporter) event(kind string, data any) wire.Event {
	r.Helper()
	body, err := json.Marshal(data)
	require.NoError(r, err)
	return wire.Event{EventID: uuid.NewString(), SessionID: r.session.UID.String(), Epoch: 1, Type: kind, Timestamp: time.Now().Truncate(time.Millisecond), Data: body}
}

func (r *reporter) receipt(id uuid.UUID, status string) wire.Event {
	return r.event(wire.EventMessageReceipt, wire.ReceiptData{WhatsappID: models.WhatsappID(id), Status: status})
}

func (r *reporter) received(whatsappID, text string) wire.Event {
	phone := "+6282222222222"
	return r.event(wire.EventMessageReceived, wire.ReceivedData{WhatsappID: whatsappID, Chat: "c", Sender: "s", From: wire.Contact{Phone: &phone}, Type: "text", Message: text})
}

func (r *reporter) status(status, reason, phone string) wire.Event {
	return r.event(wire.EventSessionStatus, wire.StatusData{Status: status, Reason: reason, PhoneNumber: phone})
}

// send numbers the events and has them ingested.
func (r *reporter) send(events ...wire.Event) *models.Ingested {
	r.Helper()
	for i := range events {
		events[i].Seq = r.next
		r.next++
	}
	in, err := r.try(events...)
	require.NoError(r, err)
	require.Equal(r, r.next, in.Next)
	return in
}

func (r *reporter) try(events ...wire.Event) (*models.Ingested, error) {
	return models.IngestEvents(r.Context(), r.db, quiet, r.worker.ID, wire.EventBatch{Term: r.worker.Term, Events: events})
}

func (r *reporter) told() []string {
	r.Helper()
	rows, err := r.db.Pool.Query(r.Context(), `SELECT concat_ws(' ', type, data->>'status', data->>'message') FROM events ORDER BY id`)
	require.NoError(r, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(r, err)
	return list
}

func (r *reporter) count(where string, args ...any) int64 {
	r.Helper()
	return modelstest.Scalar[int64](r, r.db, `SELECT count(*) FROM messages WHERE `+where, args...)
}

func TestReceiptTellsOfEveryRankPassed(t *testing.T) {
	r := newReporter(t)
	hook := addWebhook(t, r.db, r.session, "*")
	id := r.add("a", "x")
	r.claim(r.take(r.runner()), 1)
	in := r.send(r.receipt(id, "read"))
	require.Equal(t, []uuid.UUID{hook}, modelstest.Lanes(in.Webhooks))
	require.Len(t, in.Sent, 1)
	require.Equal(t, map[string]int{"message.sent": 1, "message.delivered": 1, "message.read": 1}, in.Told)
	require.Equal(t, []string{"message.sent sent x", "message.delivered delivered x", "message.read read x"}, r.told())
	require.Equal(t, "READ true true true", modelstest.Scalar[string](t, r.db, `SELECT concat_ws(' ', status, (sent_at IS NOT NULL)::text, (delivered_at IS NOT NULL)::text, (read_at IS NOT NULL)::text) FROM messages`))
	// Each event is a picture of its moment.
	require.Equal(t, "true false, true true, true true", modelstest.Scalar[string](t, r.db,
		`SELECT string_agg(concat_ws(' ', (data->>'sentAt' IS NOT NULL)::text, (data->>'deliveredAt' IS NOT NULL)::text), ', ' ORDER BY id) FROM events`))
	require.Equal(t, "false, false, true", modelstest.Scalar[string](t, r.db, `SELECT string_agg((data->>'readAt' IS NOT NULL)::text, ', ' ORDER BY id) FROM events`))

	in = r.send(r.receipt(id, "read"), r.receipt(id, "delivered"), r.receipt(id, "sent"), r.receipt(id, "nonsense"))
	require.Empty(t, in.Webhooks)
	require.Len(t, r.told(), 3, "a status only rises")
}

func TestReceiptsOfOneBatchRiseStepByStep(t *testing.T) {
	r := newReporter(t)
	a, b := r.add("a", "a"), r.add("a", "b")
	r.claim(r.take(r.runner()), 10)
	r.send(r.receipt(b, "delivered"), r.receipt(a, "sent"), r.receipt(b, "read"), r.receipt(a, "delivered"), r.receipt(a, "delivered"))
	require.Equal(t, []string{"message.sent sent b", "message.delivered delivered b", "message.sent sent a", "message.read read b", "message.delivered delivered a"}, r.told())
	require.Equal(t, models.MessageDelivered, r.outbox.status(a))
	require.Equal(t, models.MessageRead, r.outbox.status(b))
}

func TestReceiptEndsDoubtAndGivenUp(t *testing.T) {
	r := newReporter(t)
	a, b := r.add("a", "a"), r.add("b", "b")
	behind := r.add("a", "behind")
	h := r.take(r.runner())
	claim := r.claim(h, 2)
	unknown := outcome(claim, 1, models.MessageUnknown)
	unknown.Code, unknown.Error = "outcome_unknown", "?"
	r.settle(h, doubt(claim, 0, time.Now().Add(time.Hour)), unknown)
	require.Empty(t, r.claim(h, 10).Messages)
	require.True(t, r.release(h))

	in := r.send(r.receipt(a, "sent"), r.receipt(b, "delivered"))
	require.Equal(t, []uuid.UUID{r.session.UID}, modelstest.Lanes(in.Connected), "what stands behind a waits no longer")
	require.True(t, modelstest.Scalar[bool](t, r.db, `SELECT next_due_at <= now() FROM lanes WHERE id = $1`, r.session.UID))
	require.Equal(t, []string{"behind"}, texts(r.claim(r.take(r.runner()), 10)))
	require.Equal(t, models.MessageSending, r.outbox.status(behind))
	require.EqualValues(t, 1, r.count(`id = $1 AND status = 'DELIVERED' AND error_code IS NULL AND error_message IS NULL AND finished_at IS NULL`, b))
	require.Equal(t, []string{"message.unknown unknown b", "message.sent sent a", "message.sent sent b", "message.delivered delivered b"}, r.told())
}

func TestReceiptsThatAreNotOurs(t *testing.T) {
	r := newReporter(t)
	id := r.add("a", "x")
	other := *r
	other.outbox = &outbox{T: t, db: r.db, session: modelstest.Session(t, r.db, &models.User{ID: r.session.UserID}, "other"), accept: r.accept}
	foreign := other.receipt(id, "read") // another session names our message
	strange := r.event(wire.EventMessageReceipt, wire.ReceiptData{WhatsappID: "3EB0ZZ", Status: "read"})
	phone := r.event(wire.EventMessageReceipt, wire.ReceiptData{WhatsappID: "AC0123456789", Status: "read"})
	unknown := r.receipt(models.NewID(), "read")
	in := r.send(foreign, strange, phone, unknown, r.receipt(id, "waved at"))
	require.Empty(t, in.Sent)
	require.Equal(t, models.MessagePending, r.outbox.status(id))
	require.Empty(t, r.told())
}

func TestInboundIsStoredOnce(t *testing.T) {
	r := newReporter(t)
	hook := addWebhook(t, r.db, r.session, "message.received")
	e, own := r.received("A", "hello"), r.event(wire.EventMessageReceived, wire.ReceivedData{WhatsappID: "B", Chat: "c", Sender: "me", FromMe: true, Type: "hologram", Message: "from the phone"})
	in := r.send(e, e, own)
	require.Equal(t, []uuid.UUID{hook}, modelstest.Lanes(in.Webhooks))
	require.Equal(t, []string{"message.received delivered hello", "message.received sent from the phone"}, r.told())
	require.EqualValues(t, 1, r.count(`direction = 'INBOUND' AND status = 'DELIVERED' AND from_number = '+6282222222222' AND to_number = '6281111111111@s.whatsapp.net' AND created_at = $1`, e.Timestamp))
	require.EqualValues(t, 1, r.count(`direction = 'OUTBOUND' AND status = 'SENT' AND from_me AND message_type = 'UNKNOWN'`))

	// The network hands it over again, to another worker, which reports it as its own first event.
	modelstest.Worker(t, r.db, "w2", 10)
	w2, err := models.WorkerByID(t.Context(), r.db, "w2")
	require.NoError(t, err)
	e.Epoch, e.Seq, own.Seq = 2, 1, 2
	again, err := models.IngestEvents(t.Context(), r.db, quiet, "w2", wire.EventBatch{Term: w2.Term, Events: []wire.Event{e, own}})
	require.NoError(t, err)
	require.EqualValues(t, 3, again.Next)
	require.Empty(t, again.Webhooks)
	require.Len(t, r.told(), 2)
	require.EqualValues(t, 2, r.count(`true`))
}

func TestInboundAtOnceThroughTwoWorkers(t *testing.T) {
	r := newReporter(t)
	addWebhook(t, r.db, r.session, "*")
	w2 := modelstest.Worker(t, r.db, "w2", 10)
	var events []wire.Event
	for i := range 40 {
		events = append(events, r.received(fmt.Sprint(i), "hi"))
	}
	var group sync.WaitGroup
	for i, w := range []*models.Worker{r.worker, w2} {
		group.Go(func() {
			for from := 0; from < len(events); from += 10 {
				part := append([]wire.Event(nil), events[from:from+10]...)
				for j := range part {
					if i == 1 { // the other one has them in the reverse order
						part[j] = events[from+9-j]
					}
					part[j].Seq = int64(from + j + 1)
				}
				if _, err := models.IngestEvents(context.Background(), r.db, quiet, w.ID, wire.EventBatch{Term: w.Term, Events: part}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 40, r.count(`true`))
	require.EqualValues(t, 40, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events`))
	require.EqualValues(t, 40, modelstest.Scalar[int64](t, r.db, `SELECT count(DISTINCT sequence) FROM webhook_deliveries WHERE sequence <= 40`))
}

func TestBatchesFollowOneAnother(t *testing.T) {
	r := newReporter(t)
	numbered := func(seq int64, text string) wire.Event {
		e := r.received(text, text)
		e.Seq = seq
		return e
	}
	next := func(want int64, events ...wire.Event) {
		t.Helper()
		in, err := r.try(events...)
		require.NoError(t, err)
		require.Equal(t, want, in.Next)
	}
	next(1)
	next(3, numbered(1, "1"), numbered(2, "2"))
	next(3, numbered(1, "1"), numbered(2, "2"))
	next(3, numbered(4, "4"))
	require.EqualValues(t, 2, r.count(`true`), "a batch after a gap stores nothing")
	next(4, numbered(2, "2"), numbered(3, "3"))
	next(5, numbered(4, "4"), numbered(6, "6"))
	require.EqualValues(t, 4, r.count(`true`), "what stands before a gap counts")
	next(7, numbered(5, "5"), numbered(6, "6"))

	r.worker.Term--
	_, err := r.try(numbered(7, "7"))
	require.ErrorIs(t, err, models.ErrStaleTerm)
	r.worker.ID = "nobody"
	_, err = r.try(numbered(7, "7"))
	require.True(t, fault.Is(err, wire.CodeStaleTerm))
	require.EqualValues(t, 6, r.count(`true`))
}

func TestWhatCannotBeStoredIsLeftOut(t *testing.T) {
	r := newReporter(t)
	id := r.add("a", "x")
	gone := r.received("gone", "to a session that was never there")
	gone.SessionID = uuid.NewString()
	odd := r.received("odd", "to a session without a name")
	odd.SessionID = "urn:uuid:" + uuid.NewString() // PostgreSQL refuses what Go takes for a UUID
	unknown := r.event("party.started", map[string]int{})
	broken := r.received("broken", "")
	broken.Data = json.RawMessage(`{"type": 7}`)
	empty := r.received("empty", "")
	empty.Data = nil
	in := r.send(r.received("1", "before"), r.received("2", "nul \x00 byte"), gone, odd, unknown, broken, empty,
		r.received("3", strings.Repeat("long ", 100_000)), r.receipt(id, "sent"), r.received("4", "after"))
	require.EqualValues(t, 3, r.count(`direction = 'INBOUND'`))
	require.EqualValues(t, 1, r.count(`status = 'SENT'`))
	require.Len(t, in.Sent, 1)
	require.Equal(t, map[string]int{"message.received": 3, "message.sent": 1}, in.Told)
	require.Len(t, r.told(), 4)
	r.send(r.received("5", "and on"))
	require.EqualValues(t, 4, r.count(`direction = 'INBOUND'`))
}

func TestEventsOfADeletedSessionAreAcknowledged(t *testing.T) {
	r := newReporter(t)
	id := r.add("a", "x")
	require.NoError(t, r.db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := models.DeleteSession(ctx, tx, r.session.UID)
		return err
	}))
	before := len(r.told())
	r.send(r.received("1", "late"), r.receipt(id, "read"), r.status(wire.StatusConnected, "", "+6281111111111"))
	require.Equal(t, models.MessageCancelled, r.outbox.status(id))
	require.Len(t, r.told(), before)
	require.Equal(t, "DISCONNECTED false", modelstest.Scalar[string](t, r.db, `SELECT s.status || ' ' || l.open FROM sessions s JOIN lanes l ON l.id = s.uid`))
}

func TestSessionEventsAreFenced(t *testing.T) {
	r := newReporter(t)
	modelstest.Worker(t, r.db, "w2", 10)
	w2, err := models.WorkerByID(t.Context(), r.db, "w2")
	require.NoError(t, err)
	down := r.status(wire.StatusError, "boom", "")
	state := func() string {
		return modelstest.Scalar[string](t, r.db, `SELECT concat_ws(' ', status, reason) FROM sessions`)
	}
	for _, epoch := range []int64{0, 2} {
		e := down
		e.Epoch = epoch
		r.send(e)
	}
	foreign := down
	foreign.Seq = 1
	_, err = models.IngestEvents(t.Context(), r.db, quiet, "w2", wire.EventBatch{Term: w2.Term, Events: []wire.Event{foreign}})
	require.NoError(t, err)
	r.send(r.status("dancing", "", ""))
	require.Equal(t, "CONNECTED", state())
	require.Empty(t, r.told())

	// A message that arrived is a fact from any epoch.
	old := r.received("1", "hello")
	old.Epoch = 0
	r.send(old)
	require.EqualValues(t, 1, r.count(`direction = 'INBOUND'`))

	r.send(down, down)
	require.Equal(t, "ERROR boom", state())
	require.Len(t, r.told(), 2, "the same state twice is one event")
	in := r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	require.Equal(t, []uuid.UUID{r.session.UID}, modelstest.Lanes(in.Connected))
	r.exec(`UPDATE sessions SET desired = 'STOPPED'`)
	r.send(down)
	require.Equal(t, "CONNECTED", state())
}

// Accepts and outcomes hold the lanes of sessions that connect again in masses; whoever waited for them could be waited for.
func TestReturnOfASessionWaitsForNoLane(t *testing.T) {
	r := newReporter(t)
	r.send(r.status(wire.StatusReconnecting, "network", ""))
	tx, err := r.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `SELECT 1 FROM lanes FOR UPDATE`)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	e := r.status(wire.StatusConnected, "", "+6281111111111")
	e.Seq = r.next
	in, err := models.IngestEvents(ctx, r.db, quiet, r.worker.ID, wire.EventBatch{Term: r.worker.Term, Events: []wire.Event{e}})
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{r.session.UID}, modelstest.Lanes(in.Connected))
}

func TestQRIsShownWhileItIsWanted(t *testing.T) {
	r := newReporter(t)
	r.send(r.status(wire.StatusQRRequired, "", ""), r.event(wire.EventSessionQR, wire.QRData{QR: "2@abc", ExpiresAt: time.Now().Add(time.Minute)}))
	require.Equal(t, "QR_REQUIRED 2@abc", modelstest.Scalar[string](t, r.db, `SELECT status || ' ' || qr_code FROM sessions`))
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	require.True(t, modelstest.Scalar[bool](t, r.db, `SELECT qr_code IS NULL AND qr_expires_at IS NULL FROM sessions`))
	require.Equal(t, []string{"session.status qr_required", "session.qr", "session.status connected"}, r.told())
}

func TestAnotherNumberEndsWhatWaited(t *testing.T) {
	r := newReporter(t)
	waiting, tried, shown := r.add("a", "waiting"), r.add("b", "in doubt"), r.add("c", "shown")
	done := r.add("d", "done")
	r.exec(`UPDATE messages SET seq = 100 WHERE id = $1`, waiting) // behind the others
	h := r.take(r.runner())
	claim := r.claim(h, 3)
	require.Equal(t, []string{"in doubt", "shown", "done"}, texts(claim))
	soon := time.Now()
	r.settle(h, doubt(claim, 0, soon), doubt(claim, 1, soon), outcome(claim, 2, models.MessageSent))
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	require.Equal(t, models.MessagePending, r.outbox.status(waiting), "the same number changes nothing")

	r.send(r.receipt(shown, "delivered"), r.status(wire.StatusConnected, "", "+6289999999999"), r.receipt(tried, "sent"))
	require.Equal(t, models.MessageCancelled, r.outbox.status(waiting))
	require.Equal(t, models.MessageSent, r.outbox.status(done))
	require.Equal(t, models.MessageDelivered, r.outbox.status(shown))
	require.Equal(t, models.MessageSent, r.outbox.status(tried), "the network knows better")
	require.EqualValues(t, 1, r.count(`error_code = 'number_changed'`))
	require.ElementsMatch(t, []string{"message.sent sent done", "message.sent sent shown", "message.delivered delivered shown",
		"message.cancelled cancelled waiting", "message.unknown unknown in doubt", "message.sent sent in doubt"}, r.told())
	require.Empty(t, r.claim(h, 10).Messages, "nothing of the former number goes out from the new one")
	r.settle(h, outcome(claim, 0, models.MessagePending))
	require.Equal(t, models.MessageSent, r.outbox.status(tried))
	r.add("a", "from the new number")
	require.Equal(t, []string{"from the new number"}, texts(r.claim(h, 10)))
}

// A ban whose end the network tells is shown until then, or until the session connects, whichever is sooner.
func TestABanIsShownUntilItsEnd(t *testing.T) {
	r := newReporter(t)
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	banned := func(lasts time.Duration) {
		t.Helper()
		until := time.Now().Add(lasts)
		r.send(r.event(wire.EventSessionStatus, wire.StatusData{Status: wire.StatusError, Reason: "banned", PhoneNumber: "+6281111111111", Until: &until}))
	}
	shown := func() string {
		return modelstest.Scalar[string](t, r.db, `SELECT concat_ws(' ', status, reason, cooldown_reason, round(extract(epoch FROM cooldown_until - now()) / 3600),
			CASE WHEN cooldown_until = cooldown_replies_at THEN 'for all' END) FROM sessions`)
	}
	banned(2 * time.Hour)
	require.Equal(t, "ERROR banned banned 2 for all", shown())
	banned(5 * time.Hour)
	require.Equal(t, "ERROR banned banned 5 for all", shown(), "it goes on")
	banned(10_000 * time.Hour)
	require.Equal(t, "ERROR banned banned 720 for all", shown(), "a broken worker silences nobody for good")
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	require.Equal(t, "CONNECTED", shown())

	r.exec(`UPDATE sessions SET cooldown_reason = 'rate_limited', cooldown_until = now() + interval '3 hours', cooldown_count = 2`)
	banned(time.Hour)
	require.Equal(t, "ERROR banned rate_limited 3", shown(), "a longer pause stays")
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	require.Equal(t, "CONNECTED rate_limited 3", shown(), "and does not end with the ban")

	r.exec(`UPDATE sessions SET cooldown_reason = NULL, cooldown_until = NULL, cooldown_count = 0`)
	banned(time.Hour)
	told := len(r.told())
	for range 2 {
		r.send(r.status(wire.StatusError, "banned", "+6281111111111"))
		require.Equal(t, "ERROR banned", shown(), "it is for good after all")
		require.Len(t, r.told(), told+1, "who was told until when is told, once")
	}
}

// A session that does not come back shows what is wrong now, and counts as troubled if that is the network; but each attempt may
// find another reason, and subscribers are told of one.
func TestAReasonThatFlapsIsToldOnce(t *testing.T) {
	r := newReporter(t)
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	told := len(r.told())
	for range 3 {
		for _, reason := range []string{"storage_unavailable", "connection_lost"} {
			r.send(r.status(wire.StatusReconnecting, reason, "+6281111111111"))
			require.Equal(t, fmt.Sprint(reason, " ", reason == "connection_lost"),
				modelstest.Scalar[string](t, r.db, `SELECT reason || ' ' || CASE WHEN trouble_at IS NULL THEN 'false' ELSE 'true' END FROM sessions`))
		}
	}
	require.Len(t, r.told(), told+1)
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	require.Len(t, r.told(), told+2)
	r.send(r.status(wire.StatusError, "banned", "+6281111111111"), r.status(wire.StatusError, "account_locked", "+6281111111111"))
	require.Len(t, r.told(), told+4, "what does not pass by itself is told each")
}

func TestLogoutCancelsAndCloses(t *testing.T) {
	r := newReporter(t)
	id := r.add("a", "x")
	r.send(r.status(wire.StatusDisconnected, "logged_out", ""))
	require.Equal(t, models.MessageCancelled, r.outbox.status(id))
	require.Equal(t, []string{"message.cancelled cancelled x", "session.status disconnected"}, r.told())
	require.True(t, fault.Is(r.accept.Accept(t.Context(), newMessage(r.session.UID, "a", "y")), "session_not_linked"))
	letters := func() int64 {
		return modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM jobs WHERE params->>'letter' = 'session_logged_out' AND params->>'user' = $1 AND params->'about'->>'session' = $2`,
			r.session.UserID.String(), r.session.UID.String())
	}
	require.EqualValues(t, 1, letters(), "its owner is told")
	r.send(r.status(wire.StatusDisconnected, "logged_out", ""), r.status(wire.StatusDisconnected, "logged_out", ""))
	require.EqualValues(t, 1, letters(), "once")
	r.send(r.status(wire.StatusConnected, "", "+6281111111111"))
	r.add("a", "linked again")
	r.send(r.status(wire.StatusDisconnected, "logged_out", ""))
	require.EqualValues(t, 2, letters())
}

// Receipts, settles and a change of number meet on the same rows.
func TestIngestAndSettleAtOnce(t *testing.T) {
	r := newReporter(t)
	addWebhook(t, r.db, r.session, "*")
	h := r.take(r.runner())
	for round := range 15 {
		var ids []uuid.UUID
		for i := range 12 {
			ids = append(ids, r.add(fmt.Sprint(i), "x"))
		}
		claim := r.claim(h, 12)
		require.Len(t, claim.Messages, 12)
		var events []wire.Event
		for i := range ids {
			e := r.receipt(ids[len(ids)-1-i], []string{"sent", "read"}[i%2])
			e.Seq = r.next
			r.next++
			events = append(events, e)
		}
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := r.try(events...); err != nil {
				t.Error(err)
			}
		})
		group.Go(func() {
			var outcomes []models.Outcome
			for i := range claim.Messages {
				outcomes = append(outcomes, outcome(claim, i, models.MessageSent))
			}
			if _, err := models.Settle(context.Background(), r.db, models.Settlement{Hold: *h, SessionID: r.session.ID, Outcomes: outcomes}); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		require.EqualValues(t, 6*(round+1), r.count(`status = 'SENT'`))
		require.EqualValues(t, 6*(round+1), r.count(`status = 'READ'`))
	}
	require.Zero(t, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM (SELECT 1 FROM events GROUP BY data->>'id', type HAVING count(*) > 1) x`), "events told twice")
	require.EqualValues(t, 15*(6+6*3), modelstest.Scalar[int64](t, r.db, `SELECT max(sequence) FROM webhook_deliveries`))
}

// What fails through our own fault is not acknowledged: the worker keeps it until that is mended.
func TestMissingPartitionOrColumnLosesNothing(t *testing.T) {
	month := time.Now().UTC()
	for what, c := range map[string]struct{ damage, mend string }{
		"partition": {`DROP TABLE messages_` + month.Format("200601"), `SELECT kurir_add_month('messages', '` + month.Format(time.DateOnly) + `')`},
		"column":    {`ALTER TABLE messages RENAME from_name TO from_name2`, `ALTER TABLE messages RENAME from_name2 TO from_name`},
	} {
		t.Run(what, func(t *testing.T) {
			r := newReporter(t)
			r.exec(c.damage)
			e := r.received("1", "hi")
			e.Seq = 1
			_, err := r.try(e)
			require.Error(t, err)
			require.EqualValues(t, 1, modelstest.Scalar[int64](t, r.db, `SELECT next_seq FROM worker_streams`))
			err = r.accept.Accept(t.Context(), newMessage(r.session.UID, "a", "x"))
			require.Equal(t, what == "column", err == nil, "%v", err) // an accept names fewer columns
			r.exec(c.mend)
			r.send(e)
			require.EqualValues(t, 1, r.count(`direction = 'INBOUND'`))
			r.add("a", "x")
		})
	}
}

// A worker is not to blame for what a tenant's proxy does: no trouble of such a session counts, so none moves or lets the worker rest.
func TestTroubleBehindAProxyIsNoWorkersTrouble(t *testing.T) {
	r := newReporter(t)
	troubled := func() bool {
		return modelstest.Scalar[bool](t, r.db, `SELECT trouble_at IS NOT NULL FROM sessions WHERE uid = $1`, r.session.UID)
	}
	for _, reason := range []string{"unreachable", "connection_lost", "proxy_unreachable"} {
		for _, proxy := range []string{"", "sealed"} {
			r.send(r.status("connected", "", "+6281111111111"))
			require.False(t, troubled())
			_, err := r.db.Pool.Exec(t.Context(), `UPDATE sessions SET proxy = nullif($1::bytea, '')`, []byte(proxy))
			require.NoError(t, err)
			r.send(r.status("reconnecting", reason, ""))
			require.Equal(t, proxy == "" && reason != "proxy_unreachable", troubled(), "%s %s", reason, proxy)
		}
	}
}
