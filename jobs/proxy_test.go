package jobs

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// setProxy gives a session a proxy as its owner does; "" takes it away.
func (f *fleet) setProxy(uid uuid.UUID, proxy string) {
	f.t.Helper()
	var sealed []byte
	if proxy != "" {
		sealed = f.vault.Seal(models.SealProxy, []byte(proxy))
	}
	require.NoError(f.t, models.UpdateSession(context.Background(), f.db, uid, models.SessionChange{Proxy: &sealed}))
}

// proxy is what the session's holder was told.
func (f *fleet) proxy(uid uuid.UUID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proxies[uid.String()]
}

const one, two = "socks5://user:hidden@one.example.com:1080", "http://user:hidden@two.example.com:3128"

// Whoever gets a session gets its proxy, whatever the reason.
func TestEachHolderGetsTheProxy(t *testing.T) {
	f, uid := running(t, 2)
	require.Empty(t, f.proxy(uid))
	epoch := f.session(uid).Epoch
	f.setProxy(uid, one)
	require.NotContains(t, string(f.session(uid).Proxy), "hidden")
	f.tick(f.runner.reconcile)
	f.settle()
	require.Equal(t, one, f.proxy(uid))
	require.Equal(t, []any{epoch, "w0", "CONNECTED"}, []any{f.session(uid).Epoch, f.holder(uid), f.session(uid).Status}, "where it is")

	told := func(what string) {
		t.Helper()
		f.settle()
		require.Equal(t, one, f.proxy(uid), what)
		f.mu.Lock()
		delete(f.proxies, uid.String())
		f.mu.Unlock()
	}
	told("a change")
	f.move(uid)
	told("a move")
	require.Equal(t, "w1", f.holder(uid))
	f.exec(`UPDATE sessions SET status = 'CONNECTED', reason = NULL`) // as its worker would say
	f.mustOrder("restart", uid)
	told("a restart")
	f.mustOrder("stop", uid)
	f.settle()
	f.mustOrder("start", uid)
	told("a start")
	holder := f.holder(uid)
	for _, n := range f.workers {
		if n.id == holder {
			n.lapse(true)
		}
	}
	f.takesHeartbeats()
	f.tick(f.runner.expireLeases)
	told("a failover")
	require.NotEqual(t, holder, f.holder(uid))

	f.setProxy(uid, "")
	require.Nil(t, f.session(uid).Proxy)
	f.tick(f.runner.reconcile)
	f.settle()
	require.Empty(t, f.proxy(uid), "it is removed")
	require.Empty(t, f.doubles)
	require.Zero(t, modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM jobs WHERE jobs::text LIKE '%hidden%'`))
	require.Zero(t, modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM events WHERE events::text LIKE '%hidden%'`))
}

// A change while the worker is asked to hold the session is not taken for one that it knows of, even if nobody goes on.
func TestAProxyThatChangesMeanwhile(t *testing.T) {
	f, uid := running(t, 1)
	f.setProxy(uid, one)
	f.created = func() { f.setProxy(uid, two) }
	f.tick(f.runner.reconcile)
	f.settle()
	require.Equal(t, two, f.proxy(uid))
	require.NotZero(t, f.session(uid).HeldTerm)

	s := f.session(uid)
	f.setProxy(uid, one)
	held, err := models.ConfirmHeld(t.Context(), f.db, s, "w0", f.workers[0].term)
	require.NoError(t, err)
	require.True(t, held.Wanted && held.OtherProxy)
	require.Zero(t, f.session(uid).HeldTerm, "reconcile finds it")
	f.tick(f.runner.reconcile)
	f.settle()
	require.Equal(t, one, f.proxy(uid))
}

// During a move that comes to nothing, the worker that keeps the session hears of the change.
func TestAProxyThatChangesDuringAMove(t *testing.T) {
	f, uid := running(t, 2)
	f.move(uid)
	require.NotNil(t, f.session(uid).MovingTo)
	f.setProxy(uid, two)
	f.settle()
	require.Equal(t, []string{two, "w1"}, []string{f.proxy(uid), f.holder(uid)})

	f.move(uid)
	f.setProxy(uid, one)
	require.NoError(t, models.CancelMove(t.Context(), f.db.Pool, uid))
	f.exec(`UPDATE jobs SET status = 'FAILED', finished_at = now() WHERE status IN ('QUEUED', 'RUNNING')`)
	f.tick(f.runner.reconcile)
	f.settle()
	require.Equal(t, []string{one, "w1"}, []string{f.proxy(uid), f.holder(uid)})
	require.Empty(t, f.doubles)
}

// A session is never connected without its proxy: what cannot be opened fails.
func TestAProxyThatNoKeyOpens(t *testing.T) {
	f, uid := running(t, 1)
	sealed := []byte("of another key")
	require.NoError(t, models.UpdateSession(t.Context(), f.db, uid, models.SessionChange{Proxy: &sealed}))
	s, err := models.SessionWithWorker(t.Context(), f.db, uid)
	require.NoError(t, err)
	asked := false
	f.created = func() { asked = true }
	_, err = f.runner.hold(t.Context(), &s.Session, s.Worker)
	require.ErrorContains(t, err, "open proxy")
	require.False(t, asked)
	require.Zero(t, f.session(uid).HeldTerm)
}

// A deleted session keeps its proxy until its device is unlinked, which goes by way of it, and no longer.
func TestAProxyIsForgottenWithItsSession(t *testing.T) {
	f, uid := running(t, 1)
	nodes := f.unlinkers()
	f.setProxy(uid, one)
	f.tick(f.runner.reconcile)
	f.settle()
	require.NoError(t, f.workers[0].Release(t.Context(), uid.String(), f.session(uid).Epoch)) // it is to be connected once more
	f.mu.Lock()
	delete(f.proxies, uid.String())
	f.mu.Unlock()
	require.NoError(t, f.db.InTx(t.Context(), func(ctx context.Context, tx models.Tx) error {
		if _, err := models.DeleteSession(ctx, tx, uid); err != nil {
			return err
		}
		return models.InsertJob(ctx, tx, &models.Job{ID: models.NewID(), Kind: KindDeleteSession, SessionUID: &uid})
	}))
	require.NotNil(t, f.session(uid).Proxy)
	f.settle()
	require.NotNil(t, f.session(uid).ReleasedAt)
	require.Equal(t, one, f.proxy(uid))
	require.Nil(t, f.session(uid).Proxy)
	require.Equal(t, int64(1), nodes[0].logouts.Load())
}
