package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
)

func quietMeter(write func(ctx context.Context, process uuid.UUID, batch int64, hits []models.Hits) error) *meter {
	return newMeter(write, monitoring.New("test"), slog.New(slog.DiscardHandler))
}

func (m *meter) scraped() string {
	w := httptest.NewRecorder()
	m.metrics.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

var errLost = errors.New("connection lost")

// Processes count side by side, while the database takes a batch and its answer is lost, or takes nothing, and one process is
// killed. Everything is counted once, but for what the killed one had not yet written.
func TestMetersCountExactly(t *testing.T) {
	t.Parallel()
	db := modelstest.DB(t)
	user, sessions := modelstest.User(t, db), []uuid.UUID{{}, uuid.New(), uuid.New()}
	const processes, callers, each = 3, 4, 300
	var running sync.WaitGroup
	for p := range processes {
		running.Go(func() {
			attempts := 0
			m := quietMeter(func(ctx context.Context, process uuid.UUID, batch int64, hits []models.Hits) error {
				attempts++
				if attempts%3 == 0 {
					return errLost // on its way there
				}
				err := models.CountHits(ctx, db, process, batch, hits)
				if attempts%3 == 1 {
					return errors.Join(errLost, err) // on its way back
				}
				return err
			})
			var calling sync.WaitGroup
			for c := range callers {
				calling.Go(func() {
					for i := range each {
						m.count(user.ID, sessions[i%3], uuid.UUID{byte(c)})
					}
				})
			}
			for range 20 {
				m.flush(t.Context())
			}
			calling.Wait()
			for m.waiting() > 0 {
				m.flush(t.Context())
			}
			if p == 0 { // what it counts now goes with it
				m.count(user.ID, uuid.Nil, uuid.Nil)
			}
		})
	}
	running.Wait()
	now := time.Now().UTC()
	u, err := models.UsageOf(t.Context(), db, user.ID, time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC))
	require.NoError(t, err)
	require.EqualValues(t, processes*callers*each, u.APIHits)
	require.Len(t, u.Sessions, 2)
	require.Len(t, u.Keys, callers)
}

// A batch is repeated as it was; what comes meanwhile goes into the next one, and never more than there is room for.
func TestMeterWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	batches := map[int64][]models.Hits{}
	away, written := true, int64(0)
	m := quietMeter(func(_ context.Context, _ uuid.UUID, batch int64, hits []models.Hits) error {
		if former, ok := batches[batch]; ok {
			require.Equal(t, former, hits)
		}
		batches[batch] = hits
		if away {
			return errLost
		}
		written += total(hits)
		return nil
	})
	user := uuid.New()
	m.flush(t.Context())
	require.Empty(t, batches, "nothing is no batch")
	m.count(user, uuid.Nil, uuid.Nil)
	m.flush(t.Context())
	for i := range meterMost + 100 {
		m.count(user, uuid.UUID{1, byte(i), byte(i >> 8), byte(i >> 16)}, uuid.Nil)
	}
	m.count(user, uuid.UUID{1}, uuid.Nil) // one that is known
	for range 3 {
		m.flush(t.Context())
	}
	require.Len(t, batches, 1)
	require.Len(t, m.open, meterMost)
	require.EqualValues(t, meterMost+2, m.waiting())
	require.Contains(t, m.scraped(), `kurir_usage_hits_total{outcome="lost"} 100`)
	require.Contains(t, m.scraped(), "kurir_usage_hits_waiting 50002")
	away = false
	m.flush(t.Context())
	require.EqualValues(t, meterMost+2, written)
	require.Len(t, batches, 1+meterMost/meterBatch)
	require.Zero(t, m.waiting())
	require.Contains(t, m.scraped(), `kurir_usage_hits_total{outcome="counted"} 50002`)
}

// The month is that of UTC, by the moment of the request.
func TestMeterKnowsDays(t *testing.T) {
	t.Parallel()
	var got []models.Hits
	m := quietMeter(func(_ context.Context, _ uuid.UUID, _ int64, hits []models.Hits) error {
		got = append(got, hits...)
		return nil
	})
	for _, at := range []string{"2026-01-31T23:59:59.999Z", "2026-02-01T00:00:00Z", "2026-02-01T05:00:00+07:00"} {
		m.now = func() time.Time {
			now, err := time.Parse(time.RFC3339Nano, at)
			require.NoError(t, err)
			return now
		}
		m.count(uuid.Nil, uuid.Nil, uuid.Nil)
	}
	m.flush(t.Context())
	days := map[string]int64{}
	for _, h := range got {
		days[h.Day.Format(time.DateOnly)] += h.Count
	}
	require.Equal(t, map[string]int64{"2026-01-31": 2, "2026-02-01": 1}, days)
}

// What is counted while a batch is written waits for the next second, however long the writing takes: busy APIs would write without end.
func TestMeterWritesOnceASecond(t *testing.T) {
	t.Parallel()
	batches := 0
	var m *meter
	m = quietMeter(func(context.Context, uuid.UUID, int64, []models.Hits) error {
		batches++
		m.count(uuid.New(), uuid.Nil, uuid.Nil)
		return nil
	})
	m.count(uuid.New(), uuid.Nil, uuid.Nil)
	require.True(t, m.flush(t.Context()))
	require.Equal(t, 1, batches)
	require.EqualValues(t, 1, m.waiting())
}
