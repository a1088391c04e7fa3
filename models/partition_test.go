package models_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

func TestAddPartitions(t *testing.T) {
	db := modelstest.DB(t)
	now := time.Now()
	made, err := models.AddPartitions(t.Context(), db, now)
	require.NoError(t, err)
	require.Zero(t, made, "the migration made them")
	month := time.Date(now.UTC().Year(), now.UTC().Month()+3, 1, 0, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		at   time.Time
		made int
	}{{month.Add(-models.Ahead - time.Second), 3}, // the one before it
		{month.Add(-models.Ahead), 3}, {month.Add(-time.Second), 0}, {month, 0}, {month.AddDate(0, 0, 20), 0}} {
		made, err = models.AddPartitions(t.Context(), db, step.at)
		require.NoError(t, err)
		require.Equal(t, step.made, made, "at %s", step.at)
	}

	// A message of that month finds its place.
	_, s := modelstest.Ready(t, db)
	_, err = db.Pool.Exec(t.Context(), `INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, status, whatsapp_id)
		VALUES (kurir_uuid_from($1), $2, 'INBOUND', 'c', 't', 'TEXT', 'DELIVERED', 'x')`, month.AddDate(0, 0, 20), s.UID)
	require.NoError(t, err)
	require.Equal(t, "messages_"+month.Format("200601"), modelstest.Scalar[string](t, db, `SELECT tableoid::regclass::text FROM messages`))
}

func TestAddPartitionsAtOnce(t *testing.T) {
	db := modelstest.DB(t)
	for round := range 6 {
		at := time.Date(time.Now().Year(), time.Now().Month()+time.Month(6+round*5), 1, 0, 0, 0, 0, time.UTC).Add(-time.Hour)
		var group sync.WaitGroup
		var made atomic.Int64
		for range 6 {
			group.Go(func() {
				n, err := models.AddPartitions(context.Background(), db, at)
				if err != nil {
					t.Error(err)
				}
				made.Add(int64(n))
			})
		}
		group.Wait()
		require.EqualValues(t, 6, made.Load(), "round %d", round)
	}
}
