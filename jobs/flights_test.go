package jobs

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// A worker freezes with a message in hand, and its session moves: the message does not wait until the call times out.
func TestASendIsEndedWhenItsSessionMoves(t *testing.T) {
	f := newFleet(t, 2)
	uid := f.sessions(1)[0] // w0
	over := make(chan struct{})
	f.serve(f.workers[0], hangs(over))
	t.Cleanup(func() { close(over) })
	phones := &network{phones: map[string]bool{}, dead: map[string]bool{}}
	phones.restart(2)
	next := httptest.NewServer(wire.Server(sends{f.workers[1], phones}, wire.ServerOptions{Logger: quiet}))
	t.Cleanup(next.Close)
	f.exec(`UPDATE workers SET endpoint = $1 WHERE id = 'w1'`, next.URL)
	modelstest.SetStatus(t, f.db, uid, models.SessionConnected)
	f.exec(`UPDATE lanes SET open = true WHERE id = $1`, uid)
	accepter := models.NewAccepter(f.db.Pool, quiet, func([]models.Woken, int) {})
	t.Cleanup(accepter.Close)
	require.NoError(t, accepter.Accept(t.Context(), &models.NewMessage{ID: models.NewID(), Session: uid, Chat: "c", To: "1@s.whatsapp.net", Type: "TEXT",
		ExpiresAt: time.Now().Add(time.Hour)}))
	f.runner.lanes = alive(t, f.db)
	f.runner.sender.lanes = f.runner.lanes
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() { defer close(watched); f.runner.sender.watch(watching) }()
	defer func() { stop(); <-watched }()

	began := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- f.runner.sender.run(t.Context(), SendMessages{SessionUID: uid}) }()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM messages WHERE status = 'SENDING'`) == 1
	}, 10*time.Second, 10*time.Millisecond)
	f.takesHeartbeats()
	f.workers[0].lapse(true)
	f.tick(f.runner.expireLeases)
	modelstest.SetStatus(t, f.db, uid, models.SessionConnected) // the next worker's event
	require.NoError(t, <-sent)
	require.Less(t, time.Since(began), sendTimeout, "the call was waited for")
	require.Eventually(t, func() bool {
		_ = f.runner.sender.run(t.Context(), SendMessages{SessionUID: uid})
		return modelstest.Scalar[string](t, f.db, `SELECT status FROM messages`) == models.MessageSent
	}, 15*time.Second, 50*time.Millisecond)
	require.Len(t, phones.shows, 1)
}

// sends is a node whose messages go to phones.
type sends struct {
	*node
	phones *network
}

func (s sends) Send(ctx context.Context, session string, m wire.Send) (wire.SendResult, error) {
	return s.phones.Send(ctx, session, m)
}
