package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker/whatsapp/ratchet"
)

// outage closes a database, as a restart of PostgreSQL does, until end is called.
func outage(t *testing.T, database string) (end func()) {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	name := u.Path[1:]
	u.Path = "/postgres"
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, u.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(ctx) })
	allow := func(yes bool) {
		_, err := conn.Exec(ctx, fmt.Sprintf("ALTER DATABASE %s ALLOW_CONNECTIONS %t", name, yes))
		require.NoError(t, err)
	}
	allow(false)
	t.Cleanup(func() { allow(true) })
	_, err = conn.Exec(ctx, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name)
	require.NoError(t, err)
	return func() { allow(true) }
}

// What comes in while the database is away is not acknowledged: WhatsApp has it until it can be kept.
func TestNothingIsLostWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	own, ann := address(n.of(h.id)), n.person(t, "+491")
	_, err := ann.Write(own, "before")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(h.received()) == 1 }, patience, time.Millisecond)

	end := outage(t, n.url)
	const messages = 5
	for i := range messages {
		_, err := ann.Write(own, fmt.Sprint(i))
		require.NoError(t, err)
	}
	h.await(wire.StatusReconnecting, reasonStorage)
	time.Sleep(2 * time.Second) // a sender who is asked for a message again answers within this time
	end()
	h.await(wire.StatusConnected, "")
	require.Eventually(t, func() bool { return n.Waiting(n.Devices(own.User)[0]) == 0 }, patience, time.Millisecond)
	var said []string
	for _, e := range h.received() {
		said = append(said, e.Data.(wire.ReceivedData).Message)
	}
	require.Equal(t, []string{"before", "0", "1", "2", "3", "4"}, said)
}

// Who was replaced while the database was away has not lost his session.
func TestTheHolderComesBackWithTheDatabase(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	end := outage(t, n.url)
	n.Replace(n.of(h.id))
	require.Eventually(t, func() bool { return h.State().Status != wire.StatusConnected }, patience, time.Millisecond)
	require.Equal(t, wire.StatusReconnecting, h.State().Status)
	end()
	h.await(wire.StatusConnected, "")
}

// kill ends every other connection to a pool's database.
func kill(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	_, err := pool.Exec(context.Background(), `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	require.NoError(t, err)
}

// What the protocol says of a message is left to whatsmeow; what the database says, in whatever words, ends the link.
func TestErrorsOfTheDatabaseAreNotTheProtocols(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	h := holderOf(t, pool, "s", 1)
	_, err := h.claim(ctx)
	require.NoError(t, err)
	d := device(t, h, types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer})
	var ended error
	b := &buffer{EventBuffer: d.EventBuffer, ratchet: ratchet.New(), broken: func(err error) { ended = err }}
	noSession := errors.New("no session")

	err = b.DoDecryptionTxn(ctx, func(context.Context) error { return noSession })
	require.Equal(t, noSession, err)
	require.NoError(t, ended)
	require.NoError(t, b.DoDecryptionTxn(ctx, func(ctx context.Context) error { return b.PutBufferedEvent(ctx, [32]byte{1}, []byte("m"), time.Now()) }))
	require.NoError(t, ended)

	for name, decrypt := range map[string]func(context.Context) error{
		"a statement that fails": func(ctx context.Context) error {
			require.Error(t, b.PutBufferedEvent(ctx, [32]byte{1}, []byte("m"), time.Now()))
			return noSession
		},
		"a connection that ends": func(ctx context.Context) error {
			kill(t, pool)
			return noSession
		},
		"a commit that fails": func(ctx context.Context) error {
			kill(t, pool)
			return nil
		},
	} {
		ended = nil
		err := b.DoDecryptionTxn(ctx, decrypt)
		require.ErrorIs(t, err, errStorage, name)
		require.ErrorIs(t, err, context.Canceled, name)
		require.ErrorIs(t, ended, errStorage, name)
	}

	later := holderOf(t, pool, "s", 2)
	_, err = later.claim(ctx)
	require.NoError(t, err)
	ended = nil
	require.Error(t, senderKeys{d.SenderKeys, b.broken}.PutSenderKey(ctx, "g", "u", []byte("k")))
	require.ErrorIs(t, ended, errStorage)
	ended = nil
	require.Error(t, sessions{d.Sessions, b.broken}.MigratePNToLID(ctx, types.NewJID("1", types.DefaultUserServer), types.NewJID("2", types.HiddenUserServer)))
	require.ErrorIs(t, ended, errStorage)
	ended = nil
	given, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, senderKeys{d.SenderKeys, b.broken}.PutSenderKey(given, "g", "u", []byte("k")))
	require.NoError(t, ended)
}
