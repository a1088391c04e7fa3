package models_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/embedded/embeddedtest"
	"kurir/fault"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

func newMessage(session uuid.UUID, chat, text string) *models.NewMessage {
	return &models.NewMessage{ID: models.NewID(), Session: session, Chat: chat, To: chat, Type: "TEXT", Content: text,
		ExpiresAt: time.Now().Add(time.Hour)}
}

func accepter(t *testing.T, db *models.DB) *models.Accepter {
	a := models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
	t.Cleanup(a.Close)
	return a
}

func TestAcceptNumbersAreDenseAndFollowTheCommit(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	a, b := accepter(t, db), accepter(t, db) // two API processes
	var group sync.WaitGroup
	for i := range 400 {
		target := a
		if i%2 == 0 {
			target = b
		}
		group.Go(func() {
			if err := target.Accept(t.Context(), newMessage(s.UID, "c@s.whatsapp.net", "hi")); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 400, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages`))
	require.EqualValues(t, 400, modelstest.Scalar[int64](t, db, `SELECT count(DISTINCT seq) FROM messages`))
	require.EqualValues(t, 401, modelstest.Scalar[int64](t, db, `SELECT next_seq FROM lanes WHERE id = $1`, s.UID))
	require.True(t, modelstest.Scalar[bool](t, db, `SELECT next_due_at <= now() FROM lanes WHERE id = $1`, s.UID))
}

func TestAcceptTwiceUnderOneIDStoresOnce(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	a := accepter(t, db)
	m := newMessage(s.UID, "c", "once")
	require.NoError(t, a.Accept(t.Context(), m))
	require.NoError(t, a.Accept(t.Context(), m))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages`))
}

func TestAcceptRefusals(t *testing.T) {
	db := modelstest.DB(t)
	u, s := modelstest.Ready(t, db)
	a := accepter(t, db)
	unlinked := modelstest.Session(t, db, u, "unlinked")
	require.True(t, fault.Is(a.Accept(t.Context(), newMessage(unlinked.UID, "c", "x")), "session_not_linked"))
	require.True(t, fault.Is(a.Accept(t.Context(), newMessage(models.NewID(), "c", "x")), "session_not_found"))

	// One bad message does not take the others of its batch along.
	var group sync.WaitGroup
	for i := range 50 {
		text := "fine"
		if i == 25 {
			text = "nul \x00 byte"
		}
		group.Go(func() {
			err := a.Accept(t.Context(), newMessage(s.UID, "c", text))
			if (err != nil) != (text != "fine") {
				t.Errorf("%q: %v", text, err)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 49, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages`))
}

func TestDeleteSessionCancelsWhatWaitsAndClosesTheLane(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	a := accepter(t, db)
	require.NoError(t, a.Accept(t.Context(), newMessage(s.UID, "c", "x")))
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		ok, err := models.DeleteSession(ctx, tx, s.UID)
		require.True(t, ok)
		return err
	}))
	require.Equal(t, "CANCELLED", modelstest.Scalar[string](t, db, `SELECT status FROM messages`))
	require.True(t, fault.Is(a.Accept(t.Context(), newMessage(s.UID, "c", "x")), "session_not_found"))
}

func TestTierHoldsUnderConcurrency(t *testing.T) {
	db := modelstest.DB(t)
	modelstest.Worker(t, db, "w1", 100)
	u := modelstest.User(t, db)
	_, err := db.Pool.Exec(t.Context(), `UPDATE users SET tier = 'BASIC' WHERE id = $1`, u.ID)
	require.NoError(t, err)
	made := inParallel(t, 20, func(i int) error { return create(db, u.ID, uuid.NewString()) })
	require.Equal(t, 1, made.ok, "sessions of a BASIC user")
	require.Equal(t, 19, made.codes["session_limit"])
}

func TestRoomHoldsUnderConcurrency(t *testing.T) {
	db := modelstest.DB(t)
	modelstest.Worker(t, db, "w1", 3)
	modelstest.Worker(t, db, "w2", 4)
	users := make([]*models.User, 20)
	for i := range users {
		users[i] = modelstest.User(t, db)
	}
	made := inParallel(t, 20, func(i int) error { return create(db, users[i].ID, uuid.NewString()) })
	require.Equal(t, 7, made.ok)
	require.Equal(t, 13, made.codes["no_worker_available"])
	require.EqualValues(t, 3, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM sessions WHERE worker_id = 'w1'`))
}

func TestOneNameOneSession(t *testing.T) {
	db := modelstest.DB(t)
	modelstest.Worker(t, db, "w1", 100)
	a, b := modelstest.User(t, db), modelstest.User(t, db)
	made := inParallel(t, 10, func(i int) error { return create(db, []uuid.UUID{a.ID, b.ID}[i%2], "shop") })
	require.Equal(t, 1, made.ok)
	require.Equal(t, 9, made.codes["session_exists"])

	owner := modelstest.Scalar[uuid.UUID](t, db, `SELECT user_id FROM sessions`)
	other := a.ID
	if owner == a.ID {
		other = b.ID
	}
	uid := modelstest.Scalar[uuid.UUID](t, db, `SELECT uid FROM sessions`)
	require.NoError(t, db.InTx(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		_, err := models.DeleteSession(ctx, tx, uid)
		return err
	}))
	require.True(t, fault.Is(create(db, owner, "shop"), "session_deleting"))
	require.NoError(t, models.ReleaseTombstone(t.Context(), db, uid))
	require.True(t, fault.Is(create(db, other, "shop"), "session_exists"), "a tombstone keeps the name from other tenants")
	require.NoError(t, create(db, owner, "shop"))
}

func create(db *models.DB, user uuid.UUID, name string) error {
	return db.InTx(context.Background(), func(ctx context.Context, tx bun.Tx) error {
		return models.CreateSession(ctx, tx, &models.Session{UID: models.NewID(), ID: name, UserID: user, Name: name,
			CreatedAt: time.Now(), UpdatedAt: time.Now()}, limits.Default())
	})
}

type tally struct {
	ok    int
	codes map[string]int
}

// inParallel runs f n times at once and counts how it ended.
func inParallel(t *testing.T, n int, f func(i int) error) tally {
	t.Helper()
	result := tally{codes: map[string]int{}}
	var mu sync.Mutex
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			err := f(i)
			mu.Lock()
			defer mu.Unlock()
			var fe *fault.Error
			switch {
			case err == nil:
				result.ok++
			case errorAs(err, &fe):
				result.codes[fe.Code]++
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	return result
}

func TestWhatsappIDLeadsBack(t *testing.T) {
	id := models.NewID()
	require.Len(t, models.WhatsappID(id), 26)
	require.NotEqual(t, models.WhatsappID(id), models.WhatsappID(models.NewID()))
}

func TestInboundIDIsTheSameForARedelivery(t *testing.T) {
	session, now := models.NewID(), time.Now()
	at := now.Add(-time.Hour)
	a := models.InboundID(session, "c", "s", "X", at, now)
	require.Equal(t, a, models.InboundID(session, "c", "s", "X", at, now.Add(time.Minute)))
	require.NotEqual(t, a, models.InboundID(session, "c", "other", "X", at, now))
	require.EqualValues(t, 7, a.Version())
	// A time in the far future is the same ID today and tomorrow.
	far := now.Add(1000 * time.Hour)
	require.Equal(t, models.InboundID(session, "c", "s", "X", far, now), models.InboundID(session, "c", "s", "X", far, now.Add(24*time.Hour)))
}

func TestVault(t *testing.T) {
	v, err := models.NewVault(make([]byte, 32))
	require.NoError(t, err)
	sealed := v.Seal("a", []byte("secret"))
	plain, err := v.Open("a", sealed)
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain))
	_, err = v.Open("b", sealed)
	require.Error(t, err, "another purpose")
	_, err = models.NewVault(make([]byte, 16))
	require.Error(t, err)
	require.NotEqual(t, v.WorkerSecret("w1", 1), v.WorkerSecret("w1", 2))
}
