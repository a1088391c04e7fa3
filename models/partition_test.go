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
	next := time.Date(now.UTC().Year(), now.UTC().Month()+1, 1, 0, 0, 0, 0, time.UTC)
	made, err = models.AddPartitions(t.Context(), db, next)
	require.NoError(t, err)
	require.Equal(t, 3, made)
	made, err = models.AddPartitions(t.Context(), db, next.Add(-time.Second))
	require.NoError(t, err)
	require.Zero(t, made)

	// A message of that month finds its place.
	_, s := modelstest.Ready(t, db)
	last := time.Date(next.Year(), next.Month()+models.MonthsAhead, 20, 0, 0, 0, 0, time.UTC)
	_, err = db.Pool.Exec(t.Context(), `INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, status, whatsapp_id)
		VALUES (kurir_uuid_from($1), $2, 'INBOUND', 'c', 't', 'TEXT', 'DELIVERED', 'x')`, last, s.UID)
	require.NoError(t, err)
	require.Equal(t, "messages_"+last.Format("200601"), modelstest.Scalar[string](t, db, `SELECT tableoid::regclass::text FROM messages`))
}

func TestAddPartitionsAtOnce(t *testing.T) {
	db := modelstest.DB(t)
	for round := range 6 {
		at := time.Now().AddDate(0, 6+round*5, 0)
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
		require.EqualValues(t, 3*(models.MonthsAhead+1), made.Load(), "round %d", round)
	}
}
