package jobs

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/webhook"
)

// topic is another sink, as NATS or AMQP would be one: it is all that there is to it.
type topic struct {
	mu    sync.Mutex
	lines []string
	full  bool
}

func (s *topic) deliver(_ context.Context, t *target, due *models.DueDelivery) webhook.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return webhook.Result{Status: 503, Err: errTopicFull}
	}
	s.lines = append(s.lines, t.url+" "+envelope(due).Type)
	return webhook.Result{Status: 200}
}

var errTopicFull = errors.New("the topic is full")

func TestAnotherSink(t *testing.T) {
	b := newHookBench(t)
	s := &topic{full: true}
	b.sinks["memory"] = s
	b.exec(`UPDATE webhooks SET url = 'memory://events', ordered = true`)
	b.emit(b.session, 2)
	h := b.take()
	_, err := b.round(t.Context(), h) // which learns that it is ordered
	require.NoError(t, err)
	_, err = b.round(t.Context(), h)
	require.NoError(t, err)
	require.Equal(t, "1 RETRYING 1, 2 PENDING 0", b.states())
	s.full = false
	b.exec(`UPDATE lanes SET holder = NULL, next_due_at = now() WHERE id = $1`, b.hook)
	b.drain(b.hook)
	require.Equal(t, []string{"memory://events message.sent", "memory://events message.sent"}, s.lines)
	require.Equal(t, "1 DELIVERED 2, 2 DELIVERED 1", b.states())
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM webhook_attempts WHERE response_code = 503`))

	b.exec(`UPDATE webhooks SET url = 'nowhere://events'`)
	b.emit(b.session, 1)
	h = b.take()
	h.OneByOne = true
	_, err = b.round(t.Context(), h)
	require.ErrorContains(t, err, "no sink")
}

func (b *hookBench) take() *models.Hold {
	b.Helper()
	h, ok, err := models.TakeLane(b.Context(), b.db.Pool, b.hook, b.lanes.runner)
	require.NoError(b, err)
	require.True(b, ok)
	return &h
}
