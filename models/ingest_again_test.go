package models_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// again is a text that the network tells more than once, at a time of its own.
func (r *reporter) again(whatsappID string, at time.Time, change ...func(*wire.ReceivedData)) wire.Event {
	e := r.comes(whatsappID, "text", "hi", append(change, func(d *wire.ReceivedData) { d.Again = true })...)
	e.Timestamp = at.Truncate(time.Millisecond)
	return e
}

// The author's copy of a message and the phone's are one message, whatever the times on them.
func TestWhatIsToldAgainIsStoredOnce(t *testing.T) {
	number, other, lid, otherLID := "+6282222222222", "+6283333333333", "77@lid", "78@lid"
	who := func(chat string, phone, lid *string) func(*wire.ReceivedData) {
		return func(d *wire.ReceivedData) {
			d.Chat, d.Sender, d.From = chat, "s", wire.Contact{Phone: phone, LID: lid}
		}
	}
	mine := func(chat string, phone *string) func(*wire.ReceivedData) {
		return func(d *wire.ReceivedData) { d.Chat, d.FromMe, d.From = chat, true, wire.Contact{Phone: phone} }
	}
	for name, c := range map[string]struct {
		first, second func(*wire.ReceivedData)
		rows          int64
	}{
		"the same":                       {who(chatJID, &number, nil), who(chatJID, &number, nil), 1},
		"under the LID, then the number": {who("77@lid", nil, &lid), who(chatJID, &number, &lid), 1},
		"under the number, then the LID": {who(chatJID, &number, &lid), who("77@lid", nil, &lid), 1},
		"of a member of a group":         {who("g@g.us", &number, &lid), who("g@g.us", nil, &lid), 1},
		"written on the phone":           {mine(chatJID, &number), mine(chatJID, nil), 1},
		"somebody else":                  {who(chatJID, &number, &lid), who("6283333333333@s.whatsapp.net", &other, &otherLID), 2},
		"another member of the group":    {who("g@g.us", &number, nil), who("g@g.us", &other, nil), 2},
		"another group":                  {who("g@g.us", &number, nil), who("h@g.us", &number, nil), 2},
		"in the group and beside it":     {who("g@g.us", &number, nil), who(chatJID, &number, nil), 2},
		"to somebody else":               {mine(chatJID, &number), mine("6283333333333@s.whatsapp.net", &number), 2},
		"written on the phone and by it": {mine(chatJID, &number), who(chatJID, &number, nil), 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReporter(t)
			at := time.Now().Add(-time.Minute)
			first, second := r.again("A", at, c.first), r.again("A", at.Add(2*time.Second), c.second)
			r.send(first)
			r.send(second, r.again("B", at, c.second))
			r.send(r.again("A", at.AddDate(0, -2, 0), c.second)) // in the table of another month
			require.Equal(t, c.rows, r.count(`whatsapp_id = 'A'`))
			require.Equal(t, "hi", r.text(`SELECT content FROM messages WHERE whatsapp_id = 'A' AND created_at = $1`, first.Timestamp), "the first stays")
			require.EqualValues(t, c.rows+1, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events WHERE type = 'message.received'`))

			r = newReporter(t) // both in one batch
			hook := addWebhook(t, r.db, r.session, "message.received")
			first, second = r.again("A", at, c.first), r.again("A", at.Add(2*time.Second), c.second)
			r.send(second, first)
			require.Equal(t, c.rows, r.count(`true`))
			require.Equal(t, c.rows, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM webhook_deliveries WHERE webhook_id = $1`, hook))
		})
	}
}

// What another session has under the same ID is another message, and so is what nobody says is told again.
func TestWhatIsNotACopy(t *testing.T) {
	r := newReporter(t)
	at := time.Now().Add(-time.Minute)
	r.send(r.again("A", at))
	other := modelstest.Session(t, r.db, &models.User{ID: r.session.UserID}, "other")
	e := r.again("A", at.Add(time.Second))
	e.SessionID = other.UID.String()
	r.send(e)
	plain := r.received("A", "hi")
	plain.Timestamp = at.Add(2 * time.Second)
	r.send(plain)
	require.EqualValues(t, 3, r.count(`whatsapp_id = 'A'`))
}

// Both copies may come in the same moment, through two workers.
func TestCopiesAtOnceThroughTwoWorkers(t *testing.T) {
	r := newReporter(t)
	w2 := modelstest.Worker(t, r.db, "w2", 10)
	at := time.Now().Add(-time.Minute)
	const many, part = 40, 4
	var group sync.WaitGroup
	for i, w := range []*models.Worker{r.worker, w2} {
		var events []wire.Event
		for k := range many {
			if i == 1 { // the other one has them in the reverse order within a batch
				k += part - 1 - 2*(k%part)
			}
			events = append(events, r.again(fmt.Sprint(k), at.Add(time.Duration(i)*time.Second)))
			events[len(events)-1].Seq = int64(len(events))
		}
		group.Go(func() {
			for from := 0; from < many; from += part {
				if _, err := models.IngestEvents(context.Background(), r.db, quiet, w.ID, wire.EventBatch{Term: w.Term, Events: events[from : from+part]}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.EqualValues(t, many, r.count(`true`))
	require.EqualValues(t, many, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events`))
}

// Who has the second copy while the first is being stored waits until it is.
func TestACopyWaitsForTheOther(t *testing.T) {
	r := newReporter(t)
	at := time.Now().Add(-time.Minute)
	tx, err := r.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, "message:"+r.session.UID.String()+"A")
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO messages (id, session_uid, direction, chat, from_number, to_number, message_type, content, status, whatsapp_id)
		VALUES ($1, $2, 'INBOUND', $3, '+6282222222222', 'x', 'TEXT', 'hi', 'DELIVERED', 'A')`, models.NewID(), r.session.UID, chatJID)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.send(r.again("A", at))
	}()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'`) > 0
	}, time.Minute, time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	<-done
	require.EqualValues(t, 1, r.count(`true`))
	require.Empty(t, r.told())
}
