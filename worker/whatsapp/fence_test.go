package whatsapp

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"kurir/embedded/embeddedtest"
)

// database is a fresh one with the schema, as an engine has it.
func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	ctx := context.Background()
	url := embeddedtest.DB(t)
	pool, err := openPool(ctx, url, "kurir_whatsapp", 8)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, upgrade(ctx, pool, "kurir_whatsapp", waLog.Noop))
	return pool
}

func holderOf(t testing.TB, pool *pgxpool.Pool, session string, epoch int64) *holder {
	h := newHolder(pool, session, epoch)
	t.Cleanup(func() { _ = h.db.Close() })
	return h
}

// device is a linked one, in the store as a holder sees it.
func device(t testing.TB, h *holder, jid types.JID) *store.Device {
	t.Helper()
	d := container(h.db, waLog.Noop, nil).NewDevice()
	d.ID, d.Account = &jid, account()
	require.NoError(t, h.adopt(context.Background(), jid))
	require.NoError(t, d.Save(context.Background()))
	return d
}

func TestSeveralProcessesUpgradeAtOnce(t *testing.T) {
	t.Parallel()
	ctx, url := context.Background(), embeddedtest.DB(t)
	var all sync.WaitGroup
	errs := make(chan error, 6)
	for range cap(errs) {
		all.Go(func() {
			pool, err := openPool(ctx, url, "kurir_whatsapp", 3)
			if err == nil {
				defer pool.Close()
				err = upgrade(ctx, pool, "kurir_whatsapp", waLog.Noop)
			}
			errs <- err
		})
	}
	all.Wait()
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
	pool, err := openPool(ctx, url, "kurir_whatsapp", 3)
	require.NoError(t, err)
	defer pool.Close()
	var unguarded []string
	rows, err := pool.Query(ctx, `SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'kurir_whatsapp'::regnamespace AND c.relkind = 'r'
		AND c.relname LIKE 'whatsmeow%' AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'kurir_fence')`)
	require.NoError(t, err)
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name))
		unguarded = append(unguarded, name)
	}
	require.ElementsMatch(t, []string{"whatsmeow_version", "whatsmeow_lid_map"}, unguarded)
}

// A holder that has lost its session can neither write nor delete credentials, nor begin a send, whichever way it takes.
func TestAZombieChangesNothing(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	old, now := holderOf(t, pool, "s", 3), holderOf(t, pool, "s", 4)
	_, err := old.claim(ctx)
	require.NoError(t, err)
	jid := types.JID{User: "6281", Device: 7, Server: types.DefaultUserServer}
	d := device(t, old, jid)
	require.NoError(t, d.Sessions.PutSession(ctx, "6282:0", []byte("session")))
	claimed, err := old.claim(ctx)
	require.NoError(t, err, "claiming may be repeated")
	require.Equal(t, jid, claimed)

	claimed, err = now.claim(ctx)
	require.NoError(t, err)
	require.Equal(t, jid, claimed, "the credentials move with the session")
	_, err = old.claim(ctx)
	require.ErrorIs(t, err, errSuperseded)
	for name, change := range map[string]error{
		"write":        d.Sessions.PutSession(ctx, "6282:0", []byte("of a zombie")),
		"write anew":   d.Identities.PutIdentity(ctx, "6283:0", [32]byte{1}),
		"delete":       d.Sessions.DeleteSession(ctx, "6282:0"),
		"in a row":     d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error { return d.Sessions.PutSession(ctx, "6282:0", []byte("z")) }),
		"save":         d.Save(ctx),
		"delete all":   d.Delete(ctx),
		"many at once": d.Contacts.PutAllContactNames(ctx, []store.ContactEntry{{JID: jid, FullName: "z"}}),
	} {
		require.True(t, isFenced(change), "%s: %v", name, change)
	}
	require.ErrorIs(t, old.begin(ctx, "A", "6282@s.whatsapp.net", text1("z")), errSuperseded)
	require.ErrorIs(t, old.adopt(ctx, jid), errSuperseded)
	require.ErrorIs(t, old.forget(ctx), errSuperseded)

	left, err := container(now.db, waLog.Noop, nil).GetDevice(ctx, jid)
	require.NoError(t, err)
	kept, err := left.Sessions.GetSession(ctx, "6282:0")
	require.NoError(t, err)
	require.Equal(t, "session", string(kept))
	require.NoError(t, left.Sessions.PutSession(ctx, "6282:0", []byte("of the holder")))
}

func text1(s string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(s)} }

// A claim waits for the transactions of the holder before: what these have written is there when it returns.
func TestAClaimWaitsForTheHolderBefore(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	old, now := holderOf(t, pool, "s", 1), holderOf(t, pool, "s", 2)
	_, err := old.claim(ctx)
	require.NoError(t, err)
	d := device(t, old, types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer})
	written, goOn, claimed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		<-written
		_, err := now.claim(ctx)
		claimed <- err
	}()
	require.NoError(t, d.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
		if err := d.Sessions.PutSession(ctx, "6282:0", []byte("in time")); err != nil {
			return err
		}
		close(written)
		waiting := func() bool {
			var count int
			require.NoError(t, pool.QueryRow(context.Background(), "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&count))
			return count > 0
		}
		require.Eventually(t, waiting, patience, time.Millisecond, "the claim does not wait")
		close(goOn)
		return nil
	}))
	<-goOn
	require.NoError(t, <-claimed)
	kept, err := d.Sessions.GetSession(ctx, "6282:0")
	require.NoError(t, err)
	require.Equal(t, "in time", string(kept))
}

// Closing takes no further statement and waits for those that run, so that whoever comes next finds all of it.
func TestClosingWaitsForWriters(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	h := holderOf(t, pool, "s", 1)
	_, err := h.claim(ctx)
	require.NoError(t, err)
	d := device(t, h, types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer})
	require.NoError(t, d.EventBuffer.DoDecryptionTxn(ctx, func(tx context.Context) error {
		soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, h.close(soon), context.DeadlineExceeded)
		require.Error(t, d.Sessions.PutSession(ctx, "6282:0", []byte("too late")))
		return d.Sessions.PutSession(tx, "6282:0", []byte("begun in time"))
	}))
	require.NoError(t, h.close(ctx))
	next := holderOf(t, pool, "s", 2)
	jid, err := next.claim(ctx)
	require.NoError(t, err)
	d, err = container(next.db, waLog.Noop, nil).GetDevice(ctx, jid)
	require.NoError(t, err)
	kept, err := d.Sessions.GetSession(ctx, "6282:0")
	require.NoError(t, err)
	require.Equal(t, "begun in time", string(kept))
}

// A connection that names nobody changes no credentials either: whoever forgets the fence learns it at once.
func TestCredentialsAreForHoldersOnly(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	_, err := db.ExecContext(ctx, "DELETE FROM whatsmeow_device")
	require.True(t, isFenced(err), err)
	stranger := holderOf(t, pool, "never claimed", 1)
	_, err = stranger.db.ExecContext(ctx, "DELETE FROM whatsmeow_device")
	require.True(t, isFenced(err), err)
}

// A number that is linked anew leaves nothing of its former device, whichever session had it.
func TestAdoptingADeviceForgetsTheFormerOne(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	first, second := holderOf(t, pool, "first", 1), holderOf(t, pool, "second", 1)
	for _, h := range []*holder{first, second} {
		_, err := h.claim(ctx)
		require.NoError(t, err)
	}
	jid := types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer}
	stale := device(t, first, jid)
	require.NoError(t, stale.Sessions.PutSession(ctx, "6282:0", []byte("stale")))

	d := device(t, second, jid)
	has, err := d.Sessions.HasSession(ctx, "6282:0")
	require.NoError(t, err)
	require.False(t, has)
	none, err := first.claim(ctx)
	require.NoError(t, err)
	require.True(t, none.IsEmpty(), "a device is one session's")

	other := types.JID{User: "6289", Device: 4, Server: types.DefaultUserServer}
	device(t, second, other)
	gone, err := container(second.db, waLog.Noop, nil).GetDevice(ctx, jid)
	require.NoError(t, err)
	require.Nil(t, gone, "a session has one device")
	require.NoError(t, second.forget(ctx))
	none, err = second.claim(ctx)
	require.NoError(t, err)
	require.True(t, none.IsEmpty())
}

// A phone that unlinks one session and links another may give it the same device address. The first one, which holds its session still
// and has not heard of it, neither deletes nor changes what is the second one's: it may be another tenant's.
func TestWhoLostItsDeviceLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	first, second := holderOf(t, pool, "first", 1), holderOf(t, pool, "second", 1)
	for _, h := range []*holder{first, second} {
		_, err := h.claim(ctx)
		require.NoError(t, err)
	}
	jid := types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer}
	stale := device(t, first, jid)
	require.NoError(t, stale.Sessions.PutSession(ctx, "6282:0", []byte("the first one's")))
	require.NoError(t, first.begin(ctx, "A", "6282@s.whatsapp.net", text1("from the first one")))

	d := device(t, second, jid)
	require.NoError(t, d.Sessions.PutSession(ctx, "6282:0", []byte("the second one's")))
	tries := func(when string) {
		for name, change := range map[string]error{
			"write":        stale.Sessions.PutSession(ctx, "6282:0", []byte("stale")),
			"write anew":   stale.Identities.PutIdentity(ctx, "6283:0", [32]byte{1}),
			"token":        stale.PrivacyTokens.PutPrivacyTokens(ctx, store.PrivacyToken{User: jid, Token: []byte("t"), Timestamp: time.Now()}),
			"delete":       stale.Sessions.DeleteSession(ctx, "6282:0"),
			"save":         stale.Save(ctx),
			"delete all":   stale.Delete(ctx), // as whatsmeow does when it hears that the device was removed
			"many at once": stale.Contacts.PutAllContactNames(ctx, []store.ContactEntry{{JID: jid, FullName: "stale"}}),
		} {
			require.True(t, isFenced(change), "%s, %s: %v", name, when, change)
		}
		require.ErrorIs(t, first.begin(ctx, "B", "6282@s.whatsapp.net", text1("from no device")), errSuperseded)
	}
	tries("as long as it does not know")
	none, err := first.claim(ctx)
	require.NoError(t, err)
	require.True(t, none.IsEmpty())
	tries("when it does, and has late writers")
	require.NoError(t, first.forget(ctx), "it forgets what is its own")
	var left int
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM kurir_sent WHERE session = 'first'").Scan(&left))
	require.Zero(t, left)

	kept, err := container(second.db, waLog.Noop, nil).GetDevice(ctx, jid)
	require.NoError(t, err)
	require.NotNil(t, kept)
	require.Equal(t, *d.NoiseKey.Priv, *kept.NoiseKey.Priv)
	key, err := kept.Sessions.GetSession(ctx, "6282:0")
	require.NoError(t, err)
	require.Equal(t, "the second one's", string(key))

	other := device(t, first, types.JID{User: "6281", Device: 2, Server: types.DefaultUserServer})
	require.NoError(t, other.Sessions.PutSession(ctx, "6282:0", []byte("linked anew")), "it can be linked anew")
	require.NoError(t, d.Sessions.PutSession(ctx, "6282:0", []byte("goes on")))
	require.NoError(t, d.Delete(ctx), "and each may delete its own")
}

// Who takes an address over waits for what its former holder has begun.
func TestAdoptingWaitsForTheFormerHolder(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	first, second := holderOf(t, pool, "first", 1), holderOf(t, pool, "second", 1)
	for _, h := range []*holder{first, second} {
		_, err := h.claim(ctx)
		require.NoError(t, err)
	}
	jid := types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer}
	stale := device(t, first, jid)
	adopted := make(chan error, 1)
	require.NoError(t, stale.EventBuffer.DoDecryptionTxn(ctx, func(tx context.Context) error {
		token := store.PrivacyToken{User: jid, Token: []byte("t"), Timestamp: time.Now()} // of the table that does not refer to the device
		if err := stale.PrivacyTokens.PutPrivacyTokens(tx, token); err != nil {
			return err
		}
		go func() { adopted <- second.adopt(ctx, jid) }()
		select {
		case err := <-adopted:
			return fmt.Errorf("it does not wait: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
		return nil
	}))
	require.NoError(t, <-adopted)
	var tokens int
	require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM whatsmeow_privacy_tokens").Scan(&tokens))
	require.Zero(t, tokens, "what was written meanwhile is gone")
}

// Workers of a former version name no device: session and epoch decide, as before.
func TestTheFenceBesideAFormerVersion(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	h := holderOf(t, pool, "s", 3)
	_, err := h.claim(ctx)
	require.NoError(t, err)
	d := device(t, h, types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer})
	conn, err := pool.Acquire(ctx)
	require.NoError(t, err)
	defer conn.Release()
	for setting, refused := range map[string]bool{"3/s": false, "2/s": true, "3/t": true} {
		_, err := conn.Exec(ctx, "SELECT set_config('kurir.fence', $1, false), set_config('kurir.device', NULL, false)", setting)
		require.NoError(t, err)
		_, err = conn.Exec(ctx, "UPDATE whatsmeow_device SET platform = platform")
		require.Equal(t, refused, isFenced(err), "%s: %v", setting, err)
	}
	require.NoError(t, d.Save(ctx))
}

func TestWhatWasSentIsKept(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	h, next := holderOf(t, pool, "s", 1), holderOf(t, pool, "s", 2)
	_, err := h.claim(ctx)
	require.NoError(t, err)
	device(t, h, types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer})
	require.NoError(t, h.begin(ctx, "A", "62@s.whatsapp.net", text1("hello")))
	require.Error(t, h.begin(ctx, "A", "62@s.whatsapp.net", text1("another one under its ID")))
	at := time.Now().Truncate(time.Millisecond)
	require.NoError(t, h.accepted(ctx, "A", at))
	require.NoError(t, h.keepPoll(ctx, "P", []string{"Tea", "Coffee"}))
	require.NoError(t, h.begin(ctx, "B", "62@s.whatsapp.net", text1("refused")))
	require.NoError(t, h.refused(ctx, "B"))

	_, err = next.claim(ctx)
	require.NoError(t, err)
	m, accepted, err := next.kept(ctx, "A")
	require.NoError(t, err)
	require.Equal(t, "hello", m.GetConversation())
	require.True(t, accepted.Equal(at))
	m, err = next.message(ctx, "B")
	require.NoError(t, err)
	require.Nil(t, m)
	options, err := next.poll(ctx, "P")
	require.NoError(t, err)
	require.Equal(t, []string{"Tea", "Coffee"}, options)
}

// BenchmarkFence measures what the fence adds to a write of a session's keys, the most frequent one: each message has some.
func BenchmarkFence(b *testing.B) {
	ctx, pool := context.Background(), database(b)
	h := holderOf(b, pool, "s", 1)
	_, err := h.claim(ctx)
	require.NoError(b, err)
	jid := types.JID{User: "6281", Device: 1, Server: types.DefaultUserServer}
	d := device(b, h, jid)
	key := make([]byte, 2000)
	b.Run("with", func(b *testing.B) {
		for i := range b.N {
			require.NoError(b, d.Sessions.PutSession(ctx, fmt.Sprint(i%100), key))
		}
	})
	others := make([]*store.Device, 8)
	for i := range others {
		other := holderOf(b, pool, fmt.Sprint("s", i), 1)
		_, err := other.claim(ctx)
		require.NoError(b, err)
		others[i] = device(b, other, types.JID{User: fmt.Sprint("6282", i), Device: 1, Server: types.DefaultUserServer})
	}
	b.Run("in turns", func(b *testing.B) { // each write is another session's, and says so first
		for i := range b.N {
			require.NoError(b, others[i%len(others)].Sessions.PutSession(ctx, fmt.Sprint(i%100), key))
		}
	})
	b.Run("without", func(b *testing.B) {
		_, err := pool.Exec(ctx, "ALTER TABLE whatsmeow_sessions DISABLE TRIGGER kurir_fence")
		require.NoError(b, err)
		for i := range b.N {
			require.NoError(b, d.Sessions.PutSession(ctx, fmt.Sprint(i%100), key))
		}
	})
}
