package models_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/models"
	"kurir/models/modelstest"
)

func addJob(t *testing.T, db *models.DB) *models.Job {
	t.Helper()
	j := &models.Job{ID: models.NewID(), Kind: "session:create"}
	require.NoError(t, models.InsertJob(t.Context(), db, j))
	return j
}

func aliveRunner(t *testing.T, db *models.DB) uuid.UUID {
	t.Helper()
	id := uuid.New()
	require.NoError(t, models.RenewRunner(t.Context(), db.Pool, id, "test", 1, time.Hour))
	return id
}

func start(t *testing.T, db *models.DB, id uuid.UUID, attempt int, runner uuid.UUID) *models.Job {
	t.Helper()
	j, ok, err := models.StartJob(t.Context(), db, id, attempt, runner)
	require.NoError(t, err)
	require.True(t, ok)
	return j
}

func dueJobs(t *testing.T, db *models.DB) []models.DueJob {
	t.Helper()
	list, err := models.DueJobs(t.Context(), db.Pool, 10)
	require.NoError(t, err)
	return list
}

func jobRow(t *testing.T, db *models.DB, id uuid.UUID) string {
	t.Helper()
	return modelstest.Scalar[string](t, db, `SELECT concat_ws(' ', status, attempts, coalesce(result::text, '-'), coalesce(error, '-')) FROM jobs WHERE id = $1`, id)
}

func TestJobStartsOnce(t *testing.T) {
	db := modelstest.DB(t)
	j := addJob(t, db)
	started := inParallel(t, 10, func(int) error {
		_, ok, err := models.StartJob(context.Background(), db, j.ID, 1, uuid.New())
		if err == nil && !ok {
			return models.ErrGone
		}
		return err
	})
	require.Equal(t, 1, started.ok)
	_, ok, err := models.StartJob(t.Context(), db, j.ID, 2, uuid.New())
	require.NoError(t, err)
	require.False(t, ok, "the first attempt is running")
}

func TestJobEnds(t *testing.T) {
	db := modelstest.DB(t)
	runner := aliveRunner(t, db)
	won, lost := addJob(t, db), addJob(t, db)
	require.Len(t, dueJobs(t, db), 2)
	require.NoError(t, models.FinishJob(t.Context(), db, start(t, db, won.ID, 1, runner), models.JobSucceeded, json.RawMessage(`{"a": 1}`), ""))
	require.NoError(t, models.FinishJob(t.Context(), db, start(t, db, lost.ID, 1, runner), models.JobFailed, nil, "It broke."))
	require.Equal(t, `SUCCEEDED 1 {"a": 1} -`, jobRow(t, db, won.ID))
	require.Equal(t, "FAILED 1 - It broke.", jobRow(t, db, lost.ID))
	require.Empty(t, dueJobs(t, db))
	_, ok, err := models.StartJob(t.Context(), db, lost.ID, 2, runner)
	require.NoError(t, err)
	require.False(t, ok, "it has ended")
	n, err := models.ForgetJobs(t.Context(), db.Pool, time.Hour)
	require.NoError(t, err)
	require.Zero(t, n)
	_, err = db.Pool.Exec(t.Context(), `UPDATE jobs SET finished_at = now() - interval '2 hours'`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `UPDATE jobs SET id = overlay(id::text PLACING '0190' FROM 1)::uuid WHERE id = $1`, won.ID) // it was made in 2024
	require.NoError(t, err)
	n, err = models.ForgetJobs(t.Context(), db.Pool, time.Hour)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}

func TestJobIsTriedAgain(t *testing.T) {
	db := modelstest.DB(t)
	runner := aliveRunner(t, db)
	j := addJob(t, db)
	require.NoError(t, models.RetryJob(t.Context(), db, start(t, db, j.ID, 1, runner), time.Hour, "Not yet."))
	require.Equal(t, "QUEUED 1 - Not yet.", jobRow(t, db, j.ID))
	require.Empty(t, dueJobs(t, db))
	_, err := db.Pool.Exec(t.Context(), `UPDATE jobs SET run_at = now() - interval '40 seconds'`)
	require.NoError(t, err)
	list := dueJobs(t, db)
	require.Len(t, list, 1)
	require.Equal(t, 2, list[0].Attempt)
	require.InDelta(t, 40, list[0].Overdue.Seconds(), 10)
	_, ok, err := models.StartJob(t.Context(), db, j.ID, 1, runner)
	require.NoError(t, err)
	require.False(t, ok, "the first attempt is over")
	start(t, db, j.ID, 2, runner)
}

func TestJobOfADeadRunnerIsPutBack(t *testing.T) {
	db := modelstest.DB(t)
	dead, living := aliveRunner(t, db), aliveRunner(t, db)
	j := addJob(t, db)
	stale := start(t, db, j.ID, 1, dead)
	require.Empty(t, dueJobs(t, db))
	_, err := db.Pool.Exec(t.Context(), `UPDATE runners SET expires_at = now() WHERE id = $1`, dead)
	require.NoError(t, err)
	list := dueJobs(t, db)
	require.Len(t, list, 1)
	require.Equal(t, 2, list[0].Attempt)

	// The dead one wakes up: what it says counts no more, before and after the next attempt begins.
	late := func() {
		t.Helper()
		require.NoError(t, models.FinishJob(t.Context(), db, stale, models.JobFailed, nil, "late"))
		require.NoError(t, models.RetryJob(t.Context(), db, stale, time.Hour, "late"))
	}
	late()
	require.Equal(t, "QUEUED 1 - The runner died.", jobRow(t, db, j.ID))
	second := start(t, db, j.ID, 2, living)
	late()
	require.NoError(t, models.FinishJob(t.Context(), db, second, models.JobSucceeded, json.RawMessage(`1`), ""))
	require.Equal(t, "SUCCEEDED 2 1 -", jobRow(t, db, j.ID))
}

// --- idempotency keys

func reserve(t *testing.T, db *models.DB, owner uuid.UUID, body string) (*models.IdempotencyKey, error) {
	t.Helper()
	return models.ReserveKey(t.Context(), db, owner, "POST /x", "k", []byte(body))
}

func TestIdempotencyKey(t *testing.T) {
	db := modelstest.DB(t)
	owner := uuid.New()
	exec := func(sql string) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	first, err := reserve(t, db, owner, "body")
	require.NoError(t, err)
	require.Nil(t, first.StatusCode)
	require.EqualValues(t, 7, first.ResourceID.Version())

	_, err = reserve(t, db, owner, "body")
	require.True(t, fault.Is(err, "idempotency_in_progress"), "%v", err)
	_, err = reserve(t, db, owner, "another body")
	require.True(t, fault.Is(err, "idempotency_mismatch"), "%v", err)
	stranger, err := reserve(t, db, uuid.New(), "another body")
	require.NoError(t, err, "keys of another owner are others")
	require.NotEqual(t, first.ResourceID, stranger.ResourceID)
	other, err := models.ReserveKey(t.Context(), db, owner, "POST /y", "k", []byte("another body"))
	require.NoError(t, err, "so are those of another route")
	require.NotEqual(t, first.ResourceID, other.ResourceID)

	// Its process dies: once the lock is over, the next one makes the same resource.
	exec(`UPDATE idempotency_keys SET locked_until = now() - interval '1 second'`)
	second, err := reserve(t, db, owner, "body")
	require.NoError(t, err)
	require.Equal(t, first.ResourceID, second.ResourceID)
	require.Nil(t, second.StatusCode)
	_, err = reserve(t, db, owner, "body")
	require.True(t, fault.Is(err, "idempotency_in_progress"), "it is locked again: %v", err)

	// It fails in a way that is not kept.
	require.NoError(t, models.UnlockKey(t.Context(), db, second))
	third, err := reserve(t, db, owner, "body")
	require.NoError(t, err)
	require.Equal(t, first.ResourceID, third.ResourceID)

	require.NoError(t, models.AnswerKey(t.Context(), db, third, 202, []byte(`{"a":1}`), "/there"))
	answered, err := reserve(t, db, owner, "body")
	require.NoError(t, err)
	require.Equal(t, 202, *answered.StatusCode)
	require.Equal(t, `{"a":1}`, string(answered.Response))
	require.Equal(t, "/there", *answered.Location)
	require.Equal(t, first.ResourceID, answered.ResourceID)
	_, err = reserve(t, db, owner, "another body")
	require.True(t, fault.Is(err, "idempotency_mismatch"), "%v", err)

	// A day later the key is free, for another request too.
	exec(`UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`)
	anew, err := reserve(t, db, owner, "another body")
	require.NoError(t, err)
	require.Nil(t, anew.StatusCode)
	require.NotEqual(t, first.ResourceID, anew.ResourceID)
	require.Equal(t, anew.ResourceID, modelstest.Scalar[uuid.UUID](t, db, `SELECT resource_id FROM idempotency_keys WHERE owner = $1 AND route = 'POST /x' AND status_code IS NULL AND response IS NULL AND location IS NULL`, owner))
	_, err = reserve(t, db, owner, "another body")
	require.True(t, fault.Is(err, "idempotency_in_progress"), "%v", err)
	n, err := models.ForgetKeys(t.Context(), db.Pool)
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

func TestIdempotencyKeyAtOnce(t *testing.T) {
	db := modelstest.DB(t)
	owner := uuid.New()
	for _, before := range []string{"", `UPDATE idempotency_keys SET locked_until = now() - interval '1 second'`, `UPDATE idempotency_keys SET expires_at = now() - interval '1 second'`} {
		if before != "" {
			_, err := db.Pool.Exec(t.Context(), before)
			require.NoError(t, err)
		}
		got := inParallel(t, 12, func(int) error {
			_, err := models.ReserveKey(context.Background(), db, owner, "r", "k", []byte("body"))
			return err
		})
		require.Equal(t, 1, got.ok, "after %q", before)
		require.Equal(t, 11, got.codes["idempotency_in_progress"])
	}
}
