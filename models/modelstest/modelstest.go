// Package modelstest gives tests a migrated database of their own, and rows to work with.
package modelstest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/embedded/embeddedtest"
	"kurir/limits"
	"kurir/migrations"
	"kurir/models"
	"kurir/wire"
)

// DB returns a fresh database with all migrations applied.
func DB(t testing.TB) *models.DB {
	t.Helper()
	return Open(t, URL(t))
}

// URL is DB for programs that connect by themselves.
func URL(t testing.TB) string {
	t.Helper()
	return embeddedtest.DBFrom(t, "kurir", func(url string) error {
		db, err := models.Open(url, 4)
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		_, err = migrations.Up(context.Background(), db.DB)
		return err
	})
}

// Open connects to a database for the time of the test.
func Open(t testing.TB, url string) *models.DB {
	t.Helper()
	db, err := models.Open(url, 16)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// User adds a user of the MAX tier.
func User(t testing.TB, db *models.DB) *models.User {
	t.Helper()
	id := models.NewID()
	u := &models.User{ID: id, Name: "Test", Email: fmt.Sprintf("%s@example.com", id), PasswordHash: "x",
		Role: models.RoleUser, Tier: "MAX", IsActive: true, TokenVersion: 1, CreatedAt: time.Now(), UpdatedAt: time.Now()}
	require.NoError(t, models.InsertUser(context.Background(), db, u))
	return u
}

// Worker registers a worker with room and a long lease.
func Worker(t testing.TB, db *models.DB, id string, room int) *models.Worker {
	t.Helper()
	err := db.InPgxTx(context.Background(), func(tx pgx.Tx) error {
		_, err := models.RegisterWorker(context.Background(), tx, wire.Register{WorkerID: id, Endpoint: "http://" + id, MaxSessions: room, Engine: "simulator"}, time.Hour, false)
		return err
	})
	require.NoError(t, err)
	w, err := models.WorkerByID(context.Background(), db, id)
	require.NoError(t, err)
	return w
}

// Session makes a session of a user, not connected.
func Session(t testing.TB, db *models.DB, user *models.User, name string) *models.Session {
	t.Helper()
	s := &models.Session{UID: models.NewID(), ID: name, UserID: user.ID, Name: name, CreatedAt: time.Now(), UpdatedAt: time.Now()}
	err := db.InTx(context.Background(), func(ctx context.Context, tx bun.Tx) error {
		return models.CreateSession(ctx, tx, s, limits.Default())
	})
	require.NoError(t, err)
	return s
}

// Connect reports a session as connected, as its worker would.
func Connect(t testing.TB, db *models.DB, s *models.Session) {
	t.Helper()
	SetStatus(t, db, s.UID, models.SessionConnected)
	_, err := db.Pool.Exec(context.Background(), `UPDATE lanes SET open = true WHERE id = $1`, s.UID)
	require.NoError(t, err)
}

// SetStatus changes a session's status behind the worker's back.
func SetStatus(t testing.TB, db *models.DB, session uuid.UUID, status string) {
	t.Helper()
	_, err := db.Pool.Exec(context.Background(), `UPDATE sessions SET status = $2, phone_number = '+6281111111111', linked_at = now() WHERE uid = $1`, session, status)
	require.NoError(t, err)
}

// Ready is a user with one connected session on one worker.
func Ready(t testing.TB, db *models.DB) (*models.User, *models.Session) {
	t.Helper()
	Worker(t, db, "w1", 1000)
	u := User(t, db)
	s := Session(t, db, u, "shop")
	Connect(t, db, s)
	return u, s
}

// Scalar reads one value.
func Scalar[T any](t testing.TB, db *models.DB, query string, args ...any) T {
	t.Helper()
	rows, err := db.Pool.Query(context.Background(), query, args...)
	require.NoError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return v
}

// Lanes are the lanes that were woken, whoever has them.
func Lanes(list []models.Woken) (lanes []uuid.UUID) {
	for _, w := range list {
		lanes = append(lanes, w.Lane)
	}
	return lanes
}
