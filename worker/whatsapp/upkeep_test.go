package whatsapp

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"
)

// What nobody asks for any more is deleted, of sessions that are held by nobody too, and nothing else.
func TestOldRowsAreDeleted(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	e := &Engine{pool: pool}
	h := holderOf(t, pool, "s", 1)
	_, err := h.claim(ctx)
	require.NoError(t, err)
	jid := types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer}
	d := device(t, h, jid)
	never := holderOf(t, pool, "never linked", 1)
	_, err = never.claim(ctx)
	require.NoError(t, err)
	for _, id := range []string{"A", "B"} {
		require.NoError(t, h.begin(ctx, id, "62@s.whatsapp.net", text1("hello")))
		require.NoError(t, h.keepPoll(ctx, id, []string{"Tea"}))
		require.NoError(t, h.keepGroup(ctx, id, "1@g.us"))
	}
	require.NoError(t, d.EventBuffer.PutBufferedEvent(ctx, [32]byte{1}, []byte("old"), time.Now()))
	_, err = h.db.ExecContext(ctx, "UPDATE whatsmeow_event_buffer SET insert_timestamp = insert_timestamp - $1", (15 * 24 * time.Hour).Milliseconds())
	require.NoError(t, err)
	require.NoError(t, d.EventBuffer.PutBufferedEvent(ctx, [32]byte{2}, []byte("new"), time.Now()))
	for _, old := range []string{"UPDATE kurir_sent SET begun_at = now() - interval '15 days' WHERE id = 'A'",
		"UPDATE kurir_polls SET seen_at = now() - interval '91 days' WHERE id = 'A'", "UPDATE kurir_groups SET made_at = now() - interval '8 days' WHERE key = 'A'",
		"UPDATE kurir_sessions SET changed_at = now() - interval '91 days'",
		"INSERT INTO kurir_sent (session, id, chat, message, begun_at) SELECT 's', i::text, 'c', '', now() - interval '15 days' FROM generate_series(1, 2500) i"} {
		_, err := h.db.ExecContext(ctx, old)
		require.NoError(t, err)
	}

	mine, err := e.sweep(ctx, time.Now())
	require.NoError(t, err)
	require.True(t, mine)
	count := func(table string) (n int) {
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n))
		return n
	}
	for _, table := range []string{"kurir_sent", "kurir_polls", "kurir_groups", "kurir_sessions", "whatsmeow_event_buffer"} {
		require.Equal(t, 1, count(table), table)
	}
	m, err := h.message(ctx, "B")
	require.NoError(t, err)
	require.Equal(t, "hello", m.GetConversation())
	kept, err := d.EventBuffer.GetBufferedEvent(ctx, [32]byte{2})
	require.NoError(t, err)
	require.Equal(t, "new", string(kept.Plaintext))
	claimed, err := h.claim(ctx)
	require.NoError(t, err)
	require.Equal(t, jid, claimed)
	_, err = never.claim(ctx)
	require.NoError(t, err, "it may begin anew")

	other, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer other.Release()
	_, err = other.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(sweepLock))
	require.NoError(t, err)
	mine, err = e.sweep(ctx, time.Now())
	require.NoError(t, err)
	require.False(t, mine, "another worker is at it")
	_, err = other.Exec(ctx, "SELECT pg_advisory_unlock($1)", int64(sweepLock))
	require.NoError(t, err)
	mine, err = e.sweep(ctx, time.Now())
	require.NoError(t, err)
	require.True(t, mine, "the one before has let go")
}

// A link's client reads nothing of other sessions, however often the session connects.
func TestALinkDoesNotSweep(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	stranger := holderOf(t, e.pool, "stranger", 1)
	_, err := stranger.claim(t.Context())
	require.NoError(t, err)
	d := device(t, stranger, types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer})
	require.NoError(t, d.EventBuffer.PutBufferedEvent(t.Context(), [32]byte{1}, nil, time.Now()))
	_, err = stranger.db.Exec("UPDATE whatsmeow_event_buffer SET insert_timestamp = 1")
	require.NoError(t, err)
	l := h.Conn.(*conn).present()
	require.NoError(t, l.device.EventBuffer.DeleteOldBufferedHashes(t.Context()))
	n.Server.Drop(n.of(h.id))
	require.Eventually(t, func() bool { now := h.Conn.(*conn).present(); return now != nil && now != l && now.client.IsLoggedIn() }, patience, time.Millisecond)
	kept, err := d.EventBuffer.GetBufferedEvent(t.Context(), [32]byte{1})
	require.NoError(t, err)
	require.NotNil(t, kept)
}

// A session that comes new learns what other workers know of numbers and LIDs; one that reconnects does not read it all again.
func TestTheMapOfLIDsIsReadForNewcomers(t *testing.T) {
	t.Parallel()
	ctx, n := context.Background(), newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	require.NoError(t, e.fillLIDs(ctx, true))
	_, err := e.pool.Exec(ctx, "INSERT INTO whatsmeow_lid_map (lid, pn) VALUES ('999', '6281')")
	require.NoError(t, err)
	known := func() string {
		lid, err := e.lids.GetLIDForPN(ctx, types.NewJID("6281", types.DefaultUserServer))
		require.NoError(t, err)
		return lid.User
	}
	require.NoError(t, e.fillLIDs(ctx, false))
	require.Empty(t, known())
	require.NoError(t, e.fillLIDs(ctx, true))
	require.Equal(t, "999", known())
	_, err = e.pool.Exec(ctx, "UPDATE whatsmeow_lid_map SET lid = '998'")
	require.NoError(t, err)
	e.lidsRead = time.Now().Add(-lidsStale)
	require.NoError(t, e.fillLIDs(ctx, false))
	require.Equal(t, "998", known())
}
