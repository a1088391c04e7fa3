package models_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

func total(counts map[int64]int64) (n int64) {
	for count := range maps.Values(counts) {
		n += count
	}
	return n
}

// What counts is what was accepted to be sent, from deleted sessions too, whatever became of it, and nothing else.
func TestRecountMessages(t *testing.T) {
	db := modelstest.DB(t)
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	u, s := modelstest.Ready(t, db)
	other := modelstest.Session(t, db, modelstest.User(t, db), "others")
	second := modelstest.Session(t, db, u, "second")
	for _, s := range []*models.Session{other, second} {
		modelstest.Connect(t, db, s)
	}
	a := models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
	t.Cleanup(a.Close)
	for i, lane := range []uuid.UUID{s.UID, s.UID, s.UID, second.UID, other.UID} {
		m := newMessage(lane, "c@s.whatsapp.net", "x")
		require.NoError(t, a.Accept(t.Context(), m))
		if i == 1 {
			exec(`UPDATE messages SET created_at = now() - interval '30 minutes 10 seconds', status = 'CANCELLED' WHERE id = $1`, m.ID)
		}
		if i == 2 {
			exec(`UPDATE messages SET created_at = now() - interval '63 minutes' WHERE id = $1`, m.ID)
		}
	}
	exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, status, whatsapp_id)
		SELECT kurir_uuid_v7(), $1, 'INBOUND', 'c', 't', 'TEXT', 'DELIVERED', 'in' || i FROM generate_series(1, 50) i`, s.UID)
	exec(`UPDATE sessions SET desired = 'DELETED', deleted_at = now() - interval '10 minutes' WHERE uid = $1`, second.UID)
	r, err := models.RecountMessages(t.Context(), db, u.ID, 62*time.Minute, time.Minute)
	require.NoError(t, err)
	require.Equal(t, map[int64]int64{0: 2, 30: 1}, r.Counts)
	again, err := models.RecountMessages(t.Context(), db, u.ID, 62*time.Minute, time.Minute)
	require.NoError(t, err)
	require.Greater(t, again.Epoch, r.Epoch)
	none, err := models.RecountMessages(t.Context(), db, modelstest.User(t, db).ID, 62*time.Minute, time.Minute)
	require.NoError(t, err)
	require.Empty(t, none.Counts)

	// A message that was let in by another count is refused, whether it comes alone or with others, and one that was stored
	// is found again all the same.
	old := newMessage(s.UID, "c@s.whatsapp.net", "x")
	old.Quota = &r.Epoch
	require.ErrorIs(t, a.Accept(t.Context(), old), models.ErrQuotaMoved)
	batch := []*models.NewMessage{newMessage(s.UID, "c", "1"), newMessage(s.UID, "c", "2")}
	for _, m := range batch {
		m.Quota = &r.Epoch
	}
	require.ErrorIs(t, a.AcceptAll(t.Context(), batch), models.ErrQuotaMoved)
	old.Quota = &again.Epoch
	require.NoError(t, a.Accept(t.Context(), old))
	require.False(t, old.Before)
	old.Quota = &r.Epoch
	require.NoError(t, a.Accept(t.Context(), old))
	require.True(t, old.Before)
	closed := newMessage(second.UID, "c", "x")
	closed.Quota = &r.Epoch
	require.ErrorIs(t, a.Accept(t.Context(), closed), models.ErrGone)
	exec(`UPDATE lanes SET open = false WHERE id = $1`, s.UID)
	old.ID = models.NewID()
	require.ErrorIs(t, a.Accept(t.Context(), old), models.ErrNotLinked)
	fresh := modelstest.Session(t, db, u, "fresh")
	modelstest.Connect(t, db, fresh)
	m := newMessage(fresh.UID, "c", "x")
	m.Quota = &r.Epoch
	require.NoError(t, a.Accept(t.Context(), m), "a session that is younger than the count goes by any")
}

// However accepts and recounts meet: what a recount has counted and what is let in by it afterwards is all that there is.
func TestRecountsMeetAccepts(t *testing.T) {
	db := modelstest.DB(t)
	u, s := modelstest.Ready(t, db)
	var epoch atomic.Int64
	let := sync.Map{} // epoch -> *atomic.Int64: accepted under it
	counted := map[int64]int64{}
	recount := func() {
		r, err := models.RecountMessages(context.Background(), db, u.ID, 62*time.Minute, time.Minute)
		require.NoError(t, err)
		counted[r.Epoch] = total(r.Counts)
		let.Store(r.Epoch, new(atomic.Int64))
		epoch.Store(r.Epoch)
	}
	recount()
	var group sync.WaitGroup
	for range 3 {
		a := models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
		t.Cleanup(a.Close)
		for range 10 {
			group.Go(func() {
				for range 20 {
					e := epoch.Load()
					m := newMessage(s.UID, "c", "x")
					m.Quota = &e
					switch err := a.Accept(context.Background(), m); {
					case err == nil:
						n, _ := let.Load(e)
						n.(*atomic.Int64).Add(1)
					case !errors.Is(err, models.ErrQuotaMoved):
						t.Error(err)
					}
				}
			})
		}
	}
	for range 15 {
		recount()
	}
	group.Wait()
	epochs := slices.Sorted(maps.Keys(counted))
	for i, e := range epochs {
		n, _ := let.Load(e)
		after := modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages`)
		if i+1 < len(epochs) {
			after = counted[epochs[i+1]]
		}
		require.Equal(t, after, counted[e]+n.(*atomic.Int64).Load(), "epoch %d of %d", i+1, len(epochs))
	}
}
