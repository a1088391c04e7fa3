package models_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

func thisMonth() time.Time {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// counted counts what waits, and says how many messages are billed of it.
func (o *outbox) counted() (billed int64) {
	o.Helper()
	for {
		taken, n, err := models.CountMessages(o.Context(), o.db)
		require.NoError(o, err)
		billed += n
		if taken == 0 {
			return billed
		}
	}
}

func (o *outbox) usage(month time.Time) *models.Usage {
	o.Helper()
	u, err := models.UsageOf(o.Context(), o.db, o.session.UserID, month)
	require.NoError(o, err)
	return u
}

// adds tells whether the parts of a usage come to its whole, and to what the other tables say.
func (o *outbox) adds(month time.Time) *models.Usage {
	o.Helper()
	u := o.usage(month)
	var days, hits, keys int64
	for _, d := range u.Days {
		days, hits = days+d.Messages, hits+d.APIHits
	}
	for _, k := range u.Keys {
		keys += k.APIHits
	}
	require.Equal(o, []int64{u.Messages, u.APIHits, u.APIHits}, []int64{days, hits, keys})
	return u
}

// What bills is a message of ours that the network took, once, whatever way we come to know that, and however often.
func TestWhichMessagesAreBilled(t *testing.T) {
	r := newReporter(t)
	about := uuid.New()
	sent, overtaken, failed, cancelled, unknown, retried := r.add("a", "sent"), r.add("b", "overtaken"), r.add("c", "failed"), r.add("d", "cancelled"), r.add("e", "unknown"), r.add("f", "retried")
	reaction := r.add("g", "", func(m *models.NewMessage) { m.Type, m.TargetID = "REACTION", &about })
	r.exec(`UPDATE messages SET status = 'CANCELLED' WHERE id = $1`, cancelled)
	h := r.take(r.runner())
	claim := r.claim(h, 10)
	at := map[uuid.UUID]int{}
	for i := range claim.Messages {
		at[claim.Messages[i].ID] = i
	}
	require.Len(t, at, 6)
	r.send(r.receipt(overtaken, "delivered"))
	r.settle(h, outcome(claim, at[sent], models.MessageSent), outcome(claim, at[overtaken], models.MessageSent), outcome(claim, at[failed], models.MessageFailed),
		outcome(claim, at[unknown], models.MessageUnknown), outcome(claim, at[retried], models.MessageFailed), outcome(claim, at[reaction], models.MessageSent))
	r.settle(h, outcome(claim, at[sent], models.MessageSent)) // the same answer once more
	require.EqualValues(t, 2, r.counted())
	require.Zero(t, r.counted())

	m, _, err := models.MessageOf(t.Context(), r.db, r.session.UserID, nil, retried)
	require.NoError(t, err)
	require.NoError(t, models.RetryMessage(t.Context(), r.db, m, false, time.Now().Add(time.Hour)))
	again := r.claim(h, 10)
	require.Equal(t, []string{"retried"}, texts(again))
	r.settle(h, outcome(again, 0, models.MessageSent))
	require.EqualValues(t, 1, r.counted(), "that it failed before was for nothing")
	r.send(r.receipt(unknown, "read"))
	require.EqualValues(t, 1, r.counted(), "it had been sent after all")

	r.send(r.receipt(sent, "delivered"), r.receipt(sent, "read"), r.receipt(overtaken, "read"), r.receipt(unknown, "read"), r.received("inbound", "hello"))
	typed := r.event(wire.EventMessageReceived, wire.ReceivedData{WhatsappID: "typed", Chat: "c", Sender: "s", Type: "text", Message: "typed on the phone", FromMe: true})
	r.send(typed, r.receipt(sent, "read"))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM messages WHERE whatsapp_id = 'typed' AND direction = 'OUTBOUND' AND status = 'SENT'`))
	require.Zero(t, r.counted(), "told, received or typed elsewhere")

	u := r.adds(thisMonth())
	require.EqualValues(t, 4, u.Messages)
	require.False(t, u.Closed)
	require.Equal(t, []models.SessionUsage{{UID: r.session.UID, ID: "shop", Name: "shop", Messages: 4}}, u.Sessions)
}

// Nobody has to wait for the counting: a message may be dropped, and its session and its owner with it, as soon as it is sent.
func TestDroppedMessagesAreCounted(t *testing.T) {
	a := newArchive(t, 3)
	a.exec(`UPDATE usage_state SET open_from = $1`, a.first)
	put := func(at time.Time) {
		id := a.put(at, "PENDING", fmt.Sprint(at))
		a.exec(`UPDATE messages SET seq = 1, created_at = $2 WHERE id = $1`, id, at)
		a.exec(`UPDATE messages SET status = 'SENT', sent_at = $2 WHERE id = $1`, id, at)
	}
	put(a.first.Add(time.Hour))
	require.True(t, a.drop(time.Now().AddDate(0, 0, -1)))
	second := a.first.AddDate(0, 1, 0)
	put(second)
	n, err := models.DropMessages(t.Context(), a.db.Pool, a.session.UID, time.Now(), 100)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	put(second.AddDate(0, 1, 0).Add(-time.Millisecond))
	swept, err := models.ForgetChat(t.Context(), a.db.Pool, a.session.UID, "c", uuid.Max, 100)
	require.NoError(t, err)
	require.Equal(t, 1, swept.Changed)
	put(second.Add(time.Hour))
	a.exec(`DELETE FROM users WHERE id = $1`, a.session.UserID)
	require.Zero(t, modelstest.Scalar[int64](t, a.db, `SELECT count(*) FROM messages`))
	require.EqualValues(t, 4, a.counted())
	require.EqualValues(t, 1, a.adds(a.first).Messages)
	u := a.adds(second)
	require.EqualValues(t, 3, u.Messages)
	require.Equal(t, []models.SessionUsage{{UID: a.session.UID, Deleted: true, Messages: 3}}, u.Sessions, "nothing but the figures is left")
	list, err := models.UsageByUser(t.Context(), a.db.Pool, second, uuid.Nil, 10)
	require.NoError(t, err)
	require.Equal(t, []models.UserUsage{{User: a.session.UserID, Messages: 3}}, list)
}

// A batch counts once: repeated, repeated at the same time, or cut off anywhere, even between the commit and its answer.
func TestBatchesCountOnce(t *testing.T) {
	o := newOutbox(t)
	today := time.Now().UTC()
	key := uuid.New()
	hits := []models.Hits{{User: o.session.UserID, Day: today, Count: 2}, {User: o.session.UserID, Key: key, Day: today, Count: 3},
		{User: o.session.UserID, Key: key, Session: o.session.UID, Day: today, Count: 5}, {User: o.session.UserID, Session: o.session.UID, Day: today.AddDate(0, 0, 40), Count: 7}}
	process := uuid.New()
	for range 3 {
		require.NoError(t, models.CountHits(t.Context(), o.db, process, 1, hits))
	}
	u := o.adds(thisMonth())
	require.EqualValues(t, 17, u.APIHits, "a clock that is ahead counts for today")
	require.Equal(t, []models.SessionUsage{{UID: o.session.UID, ID: "shop", Name: "shop", APIHits: 12}}, u.Sessions)
	require.Equal(t, []models.KeyUsage{{ID: nil, APIHits: 9}, {ID: &key, APIHits: 8}}, u.Keys)
	require.Len(t, u.Days, 1)

	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if err := models.CountHits(t.Context(), o.db, process, 2, hits); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 34, o.adds(thisMonth()).APIHits)

	// Processes side by side, each cut off at any moment, as by kill -9 of its connection: it repeats until it knows.
	const batches = 20
	for p := range 4 {
		group.Go(func() {
			process, luck := uuid.New(), rand.New(rand.NewPCG(1, uint64(p)))
			for batch := int64(1); batch <= batches; batch++ {
				for try := 0; ; try++ {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(luck.IntN(8<<min(try, 12)))*time.Millisecond)
					err := models.CountHits(ctx, o.db, process, batch, hits)
					cancel()
					if err == nil {
						break
					}
				}
				if err := models.CountHits(t.Context(), o.db, process, batch, hits); err != nil { // the answer was lost
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 34+4*batches*17, o.adds(thisMonth()).APIHits)
	n, err := models.ForgetUsageWriters(t.Context(), o.db.Pool)
	require.NoError(t, err)
	require.Zero(t, n)
	o.exec(`UPDATE usage_writers SET seen_at = now() - interval '91 days' WHERE process = $1`, process)
	n, err = models.ForgetUsageWriters(t.Context(), o.db.Pool)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func noAnnouncement(pgx.Tx, models.Period) error { return nil }

// While months are closed by many at once, and messages and requests are counted by others, nothing is lost or counted
// twice, and what is closed stays as it was.
func TestClosingPeriods(t *testing.T) {
	o := newOutbox(t)
	month := thisMonth()
	first := month.AddDate(0, -3, 0)
	o.exec(`UPDATE usage_state SET open_from = $1`, first)
	const tallies, writers, batches = 400, 3, 30
	o.exec(`INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at)
		SELECT $1, $2, 'OUTBOUND', 'TEXT', 'SENT', $3::timestamptz + make_interval(hours => n) FROM generate_series(1, $4) n`, o.session.UserID, o.session.UID, first, tallies)
	_, err := models.ClosePeriod(t.Context(), o.db, 24*time.Hour, func(pgx.Tx, models.Period) error { return errors.New("killed before the commit") })
	require.Error(t, err)
	require.Zero(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM billing_periods`))
	require.EqualValues(t, tallies, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM message_tallies`))

	var group sync.WaitGroup
	var mu sync.Mutex
	var closed []models.Period
	for w := range writers {
		group.Go(func() {
			process := uuid.New()
			for batch := range int64(batches) {
				hits := []models.Hits{{User: o.session.UserID, Day: first.AddDate(0, 0, int(batch)*4), Count: 1}, {User: o.session.UserID, Session: o.session.UID, Day: first, Count: 1}}
				if err := models.CountHits(t.Context(), o.db, process, batch+1, hits); err != nil {
					t.Error(err)
				}
				if _, _, err := models.CountMessages(t.Context(), o.db); err != nil {
					t.Error(err)
				}
				if batch%10 != 5 {
					continue
				}
				p, err := models.ClosePeriod(t.Context(), o.db, 0, func(_ pgx.Tx, p models.Period) error {
					if w == 0 {
						return errors.New("killed before the commit")
					}
					return nil
				})
				if w > 0 && err != nil {
					t.Error(err)
				}
				if p != nil {
					mu.Lock()
					closed = append(closed, *p)
					mu.Unlock()
				}
			}
		})
	}
	group.Wait()
	for {
		p, err := models.ClosePeriod(t.Context(), o.db, 0, noAnnouncement)
		require.NoError(t, err)
		if p == nil {
			break
		}
		closed = append(closed, *p)
	}
	require.Len(t, closed, 3, "three months are over, and each was closed once")
	frozen, err := models.Periods(t.Context(), o.db.Pool, uuid.Nil, 10)
	require.NoError(t, err)
	require.ElementsMatch(t, closed, frozen)
	require.Equal(t, month.AddDate(0, -1, 0), frozen[0].Month.UTC(), "newest first")
	var messages, hits int64
	for _, p := range frozen {
		u := o.adds(p.Month)
		require.True(t, u.Closed)
		require.Equal(t, []int64{p.Messages, p.APIHits}, []int64{u.Messages, u.APIHits}, "of %s", p.Month)
		messages, hits = messages+p.Messages, hits+p.APIHits
	}
	open := o.adds(month)
	require.EqualValues(t, tallies, messages+open.Messages)
	require.EqualValues(t, 2*writers*batches, hits+open.APIHits)

	// What comes to be known later counts for the month that is open, and what is closed can't be changed at all.
	o.exec(`UPDATE usage_state SET open_from = $1`, month)
	o.exec(`INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at) VALUES ($1, $2, 'OUTBOUND', 'TEXT', 'SENT', $3)`, o.session.UserID, o.session.UID, first)
	require.EqualValues(t, 1, o.counted())
	require.NoError(t, models.CountHits(t.Context(), o.db, uuid.New(), 1, []models.Hits{{User: o.session.UserID, Day: first, Count: 4}}))
	late := o.adds(month)
	require.Equal(t, []int64{open.Messages + 1, open.APIHits + 4}, []int64{late.Messages, late.APIHits})
	require.Equal(t, month, late.Days[0].Day.UTC())
	for _, change := range []string{`UPDATE usage_days SET messages = 0`, `DELETE FROM usage_days`, `UPDATE usage_months SET api_hits = api_hits + 1`, `DELETE FROM usage_records`,
		`INSERT INTO usage_days (user_id, day) SELECT user_id, '2001-01-01' FROM usage_months LIMIT 1`} {
		_, err := o.db.Pool.Exec(t.Context(), change)
		require.ErrorContains(t, err, "is closed", change)
	}
	unchanged, err := models.Periods(t.Context(), o.db.Pool, uuid.Nil, 10)
	require.NoError(t, err)
	require.Equal(t, frozen, unchanged)

	// Pages, and that the operator has heard.
	older, err := models.Periods(t.Context(), o.db.Pool, frozen[0].ID, 1)
	require.NoError(t, err)
	require.Equal(t, frozen[1:2], older)
	require.NoError(t, models.PeriodAnnounced(t.Context(), o.db.Pool, frozen[0].Month))
	again, err := models.Periods(t.Context(), o.db.Pool, uuid.Nil, 1)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), *again[0].AnnouncedAt, time.Minute)
}

// A month is closed when it has been over for long enough, not before, and with the tier of that moment.
func TestWhenAPeriodCloses(t *testing.T) {
	o := newOutbox(t)
	month := thisMonth()
	p, err := models.ClosePeriod(t.Context(), o.db, 0, noAnnouncement)
	require.NoError(t, err)
	require.Nil(t, p, "it is not over")
	last := month.AddDate(0, -1, 0)
	o.exec(`UPDATE usage_state SET open_from = $1`, last)
	require.NoError(t, models.CountHits(t.Context(), o.db, uuid.New(), 1, []models.Hits{{User: o.session.UserID, Day: last, Count: 1}}))
	over := time.Since(month)
	p, err = models.ClosePeriod(t.Context(), o.db, over+time.Minute, noAnnouncement)
	require.NoError(t, err)
	require.Nil(t, p, "it is not over for so long")
	p, err = models.ClosePeriod(t.Context(), o.db, over-time.Minute, noAnnouncement)
	require.NoError(t, err)
	require.Equal(t, []int64{1, 0, 1}, []int64{p.Users, p.Messages, p.APIHits})
	o.exec(`UPDATE users SET tier = 'BASIC'`)
	list, err := models.UsageByUser(t.Context(), o.db.Pool, last, uuid.Nil, 10)
	require.NoError(t, err)
	require.Equal(t, "MAX", list[0].Tier)
}

// Counting, closing and reading find their rows through indexes, whatever else there is.
func TestUsagePlans(t *testing.T) {
	r := newReporter(t)
	b := &bulk{TB: t, db: r.db}
	r.exec(`INSERT INTO usage_months (month, user_id, messages) SELECT m, kurir_uuid_v7(), 1 FROM generate_series($1::date, $1::date + interval '9 months', interval '1 month') m, generate_series(1, 300)`, thisMonth())
	r.exec(`INSERT INTO usage_days (user_id, day, session_uid, messages) SELECT user_id, month, kurir_uuid_v7(), 1 FROM usage_months`)
	r.exec(`INSERT INTO usage_records (user_id, billing_date, api_key_id, usage_count) SELECT user_id, month, kurir_uuid_v7(), 1 FROM usage_months`)
	r.exec(`INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at)
		SELECT $1, $2, 'OUTBOUND', 'TEXT', 'SENT', now() FROM generate_series(1, 6000) n`, r.session.UserID, r.session.UID)
	r.exec(`ANALYZE`)
	rec, pool := traced(t, b.db)
	db := &models.DB{DB: b.db.DB, Pool: pool}
	_, _, err := models.CountMessages(t.Context(), db)
	require.NoError(t, err)
	require.NoError(t, models.CountHits(t.Context(), db, uuid.New(), 1, []models.Hits{{User: r.session.UserID, Day: time.Now(), Count: 1}}))
	_, err = models.UsageOf(t.Context(), db, r.session.UserID, thisMonth())
	require.NoError(t, err)
	_, err = models.UsageByUser(t.Context(), pool, thisMonth(), uuid.Nil, 50)
	require.NoError(t, err)
	_, err = models.Periods(t.Context(), pool, uuid.Nil, 50)
	require.NoError(t, err)
	looked := 0
	for _, s := range rec.seen {
		if len(s.args) == 0 || len(s.args) == 6 { // begin, commit, the one row of the state; and the batch, whose arrays are no literals
			continue
		}
		looked++
		for _, table := range []string{"usage_days", "usage_months", "usage_records", "message_tallies", "users", "sessions", "billing_periods"} {
			require.NotContains(t, b.explain(s, "COSTS OFF"), "Seq Scan on "+table, s.sql)
		}
	}
	require.GreaterOrEqual(t, looked, 7)
}
