package models_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// archive is a database with partitions of past months.
type archive struct {
	*outbox
	first time.Time // the oldest month
}

func newArchive(t *testing.T, months int) *archive {
	a := &archive{outbox: newOutbox(t)}
	now := time.Now().UTC()
	a.first = time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC).AddDate(0, 1-months, 0)
	pastMonths(t, a.db, a.first, months)
	return a
}

// pastMonths gives an empty installation the partitions that it would have, had it been running for months.
func pastMonths(t testing.TB, db *models.DB, first time.Time, months int) {
	t.Helper()
	for _, parent := range []string{"message_index", "messages", "events"} {
		_, err := db.Pool.Exec(t.Context(), "DROP TABLE "+parent+"_old")
		require.NoError(t, err)
		for m := range months - 1 {
			_, err = db.Pool.Exec(t.Context(), "SELECT kurir_add_month($1, $2::date)", parent, first.AddDate(0, m, 0))
			require.NoError(t, err)
		}
		_, err = db.Pool.Exec(t.Context(), "CREATE TABLE "+parent+"_old PARTITION OF "+parent+" FOR VALUES FROM (MINVALUE) TO ('"+models.LowestID(first).String()+"')")
		require.NoError(t, err)
	}
}

// put adds a message of a time.
func (a *archive) put(at time.Time, status, text string) uuid.UUID {
	a.Helper()
	id := models.InboundID(a.session.UID, "c", "s", text, at, time.Now())
	a.exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, content, status, whatsapp_id)
		VALUES ($1, $2, 'OUTBOUND', 'c', 't', 'TEXT', $3, $4, $3)`, id, a.session.UID, text, status)
	return id
}

func (a *archive) texts() string {
	a.Helper()
	return modelstest.Scalar[string](a, a.db, `SELECT coalesce(string_agg(content, ' ' ORDER BY id), '') FROM messages`)
}

func (a *archive) search(words string) int {
	a.Helper()
	indexWords(a, a.db)
	page, err := models.History(a.Context(), a.db.Pool, a.session.UID, models.MessageFilter{Query: words, Limit: 10})
	require.NoError(a, err)
	return len(page.Messages)
}

func (a *archive) drop(before time.Time) bool {
	a.Helper()
	dropped, err := models.DropMonth(a.Context(), a.db, models.MessagePartitions, before)
	require.NoError(a, err)
	return dropped
}

func TestDropMonth(t *testing.T) {
	a := newArchive(t, 4)
	second := a.first.AddDate(0, 1, 0)
	a.put(a.first.AddDate(-1, 0, 0), "SENT", "ancient")
	a.put(a.first.AddDate(0, 0, 3), "READ", "first")
	waiting := a.put(second.Add(-time.Millisecond), "PENDING", "waiting")
	a.put(second, "READ", "second")
	a.put(time.Now(), "READ", "new")

	require.False(t, a.drop(second.Add(-time.Millisecond)), "the month is not over")
	require.False(t, a.drop(second), "a message in it waits")
	require.Equal(t, "ancient first waiting second new", a.texts())
	a.exec(`UPDATE messages SET status = 'SENDING' WHERE id = $1`, waiting)
	require.False(t, a.drop(time.Now()), "it is on its way")
	a.exec(`UPDATE messages SET status = 'EXPIRED' WHERE id = $1`, waiting)

	// Somebody reads: nobody is held up for long, and the next call does it.
	tx, err := a.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT 1 FROM messages LIMIT 1`)
	require.NoError(t, err)
	require.False(t, a.drop(second))
	require.NoError(t, tx.Rollback(t.Context()))

	require.True(t, a.drop(second))
	require.False(t, a.drop(second))
	require.Equal(t, "second new", a.texts())
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, a.db, `SELECT count(*) FROM message_index`))

	// A message of that month that comes now has its place, and is found, changed and forgotten like any other.
	late := a.put(a.first.AddDate(0, 0, 5), "DELIVERED", "late")
	require.Equal(t, "messages_old", modelstest.Scalar[string](t, a.db, `SELECT tableoid::regclass::text FROM messages WHERE id = $1`, late))
	require.Equal(t, 1, a.search("late"))
	a.exec(`UPDATE messages SET content = 'edited' WHERE id = $1`, late)
	require.Equal(t, []int{0, 1}, []int{a.search("late"), a.search("edited")})
	a.exec(`DELETE FROM messages WHERE id = $1`, late)
	require.Zero(t, a.search("edited"))

	for a.drop(time.Now().AddDate(1, 0, 0)) { // nothing may be left over, however far it goes
	}
	require.Empty(t, a.texts())
	made, err := models.AddPartitions(t.Context(), a.db, time.Now().AddDate(0, 6, 0))
	require.NoError(t, err)
	require.Positive(t, made)
}

func TestDropEventsOfAMonth(t *testing.T) {
	a := newArchive(t, 3)
	for _, at := range []time.Time{a.first.AddDate(0, 0, -10), a.first.AddDate(0, 0, 10), time.Now()} {
		a.exec(`INSERT INTO events (id, user_id, session_uid, type, data) VALUES ($1, $2, $3, 'message.sent', '{}')`, models.LowestID(at), a.session.UserID, a.session.UID)
	}
	dropped, err := models.DropMonth(t.Context(), a.db, models.EventPartitions, time.Now().AddDate(0, 0, -1))
	require.NoError(t, err)
	require.True(t, dropped)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, a.db, `SELECT count(*) FROM events`))
}

func TestDropRows(t *testing.T) {
	a := newArchive(t, 2)
	old, now := time.Now().AddDate(0, 0, -10), time.Now()
	for i, status := range []string{"READ", "PENDING", "FAILED", "SENDING", "CANCELLED"} {
		a.put(old.Add(time.Duration(i)*time.Second), status, status)
	}
	a.put(now, "READ", "new")
	before := now.AddDate(0, 0, -5)
	n, err := models.DropMessages(t.Context(), a.db.Pool, a.session.UID, before, 2)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, "PENDING SENDING CANCELLED new", a.texts())
	n, err = models.DropMessages(t.Context(), a.db.Pool, a.session.UID, before, 2)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, "PENDING SENDING new", a.texts())

	// They are sent at last, or end: their time begins then.
	a.exec(`UPDATE messages SET status = 'SENT', sent_at = $1, updated_at = $1 WHERE status = 'PENDING'`, now)
	a.exec(`UPDATE messages SET status = 'UNKNOWN', finished_at = $1, updated_at = $1 WHERE status = 'SENDING'`, now.Add(time.Second))
	n, err = models.DropMessages(t.Context(), a.db.Pool, a.session.UID, before, 10)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = models.DropMessages(t.Context(), a.db.Pool, a.session.UID, now.Add(time.Second/2), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, "SENDING", a.texts())
	a.exec(`UPDATE messages SET finished_at = now() + interval '10 years', updated_at = $1`, old)
	n, err = models.DropMessages(t.Context(), a.db.Pool, a.session.UID, before, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n, "a nonsensical time keeps nothing forever")

	hook := addWebhook(t, a.db, a.session, "*")
	a.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, status, created_at)
		SELECT $1, kurir_uuid_v7(), 'x', n, (ARRAY['PENDING', 'RETRYING', 'DELIVERED', 'FAILED'])[1 + n % 4], now() - make_interval(days => n) FROM generate_series(0, 15) n`, hook)
	count := func() int64 { return modelstest.Scalar[int64](t, a.db, `SELECT count(*) FROM webhook_deliveries`) }
	n, err = models.DropDeliveries(t.Context(), a.db.Pool, now.AddDate(0, 0, -7).Add(-time.Hour), 100)
	require.NoError(t, err)
	require.Equal(t, 4, n, "those that are settled")
	a.exec(`UPDATE webhooks SET is_active = false`)
	n, err = models.DropDeliveries(t.Context(), a.db.Pool, now.AddDate(0, 0, -7).Add(-time.Hour), 100)
	require.NoError(t, err)
	require.Equal(t, 4, n, "and those that nobody will try")
	require.EqualValues(t, 8, count())
}

// Accepting goes on while months are dropped.
func TestDropMonthWhileAccepting(t *testing.T) {
	a := newArchive(t, 4)
	stop := make(chan struct{})
	accepted := make(chan int, 1)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				accepted <- n
				return
			default:
			}
			if err := a.accept.Accept(t.Context(), newMessage(a.session.UID, "c", "x")); err != nil {
				t.Error(err)
			}
			n++
		}
	}()
	for range 3 {
		require.Eventually(t, func() bool { return a.drop(time.Now().AddDate(0, 0, -1)) || monthsLeft(t, a.db) == 1 }, time.Minute, time.Millisecond)
	}
	close(stop)
	n := <-accepted
	require.Positive(t, n)
	require.EqualValues(t, n, modelstest.Scalar[int64](t, a.db, `SELECT count(*) FROM messages`))
}

// monthsLeft counts partitions of months up to this one.
func monthsLeft(t *testing.T, db *models.DB) int64 {
	rows, err := db.Pool.Query(t.Context(), `SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'messages'::regclass AND c.relname <= $1`, "messages_"+time.Now().UTC().Format("200601"))
	require.NoError(t, err)
	n, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	return n
}
