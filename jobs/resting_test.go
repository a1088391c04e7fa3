package jobs

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// What a worker that rests would be sent is not even claimed: it would have to be put back, again and again.
func TestLanesOfAWorkerThatRestsAreNotClaimed(t *testing.T) {
	b := newPaceBench(t)
	vault, err := models.NewVault(make([]byte, 32))
	require.NoError(t, err)
	b.sender.lanes, b.sender.workers = b.lanes, NewWorkers(b.db, vault)
	id := b.send("a@s.whatsapp.net", "hi")
	for range workerFailing {
		done, err := b.sender.workers.gate(b.worker.ID).breaker.Allow()
		require.NoError(t, err)
		done(errors.New("unreachable"))
	}
	claims := func() int64 {
		return modelstest.Scalar[int64](t, b.db, `SELECT generation FROM messages WHERE id = $1`, id)
	}
	require.NoError(t, b.sender.run(t.Context(), SendMessages{SessionUID: b.session.UID}))
	require.Zero(t, claims())
	require.Equal(t, models.MessagePending+" - 0", b.state(id))
	require.True(t, modelstest.Scalar[bool](t, b.db, `SELECT holder IS NULL AND next_due_at > now() FROM lanes WHERE id = $1`, b.session.UID))

	b.sender.workers = NewWorkers(b.db, vault) // it has rested
	require.NoError(t, b.sender.run(t.Context(), SendMessages{SessionUID: b.session.UID}))
	require.NotZero(t, claims())
}
