package jobs

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

// What an operator reads of a worker that does not do as it should.
func TestProbes(t *testing.T) {
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(body))
		}
	}
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	healthy := answer(`{"success":true,"data":{"status":"ok","term":1}}`)
	for name, c := range map[string]struct {
		handler http.HandlerFunc // nil: nobody listens
		silent  bool
		outcome string
		problem string
		failing bool
	}{
		"well":            {healthy, false, "ok", "", false},
		"cannot reach us": {healthy, true, "silent", "cannot reach the gateway", false},
		"another term":    {answer(`{"success":true,"data":{"status":"ok","term":7}}`), false, "wrong_term", "term 7, and 1 is current", true},
		"refuses": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
			_, _ = w.Write([]byte(`{"success":false,"code":"unauthenticated","error":"no"}`))
		}, false, "refused", "unauthenticated", true},
		"a web server":      {answer(`<html>It works!</html>`), false, "garbage", "no worker of Kurir's", true},
		"a gateway timeout": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(504) }, false, "garbage", "no worker of Kurir's", true},
		"hangs":             {func(http.ResponseWriter, *http.Request) { <-hang }, false, "timeout", "does not answer", true},
		"down":              {nil, true, "unreachable", "it is down", true},
		"behind a firewall": {nil, false, "unreachable", "heartbeats come", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1)
			url := "http://" + closed.Addr().String()
			if c.handler != nil {
				server := httptest.NewServer(c.handler)
				t.Cleanup(server.CloseClientConnections)
				url = server.URL
			}
			f.exec(`UPDATE workers SET endpoint = $1`, url)
			w, err := models.WorkerByID(t.Context(), f.db, "w0")
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if c.outcome == "timeout" {
				ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
			}
			health, err := f.runner.workers.client(w).Health(ctx)
			outcome, problem := diagnose(w, health, err, c.silent)
			require.Equal(t, c.outcome, outcome)
			require.Contains(t, problem, c.problem)
			require.Equal(t, c.problem == "", problem == "")
			if c.outcome == "timeout" {
				return // probeOne would wait for longer
			}
			require.NoError(t, f.runner.probeOne(t.Context(), w, c.silent))
			failures := modelstest.Scalar[int32](t, f.db, `SELECT probe_failures FROM workers`)
			require.Equal(t, c.failing, failures == 1)
			after, err := models.WorkerByID(t.Context(), f.db, "w0")
			require.NoError(t, err)
			require.Equal(t, problem == "", after.Problem == nil)
			require.Equal(t, problem == "", after.ProblemSince == nil)
		})
	}
}

// A worker that is not reachable gets new sessions only if nobody else has room, and is as good as any when it answers again.
func TestUnreachableWorkersComeLast(t *testing.T) {
	f := newFleet(t, 2)
	for range 3 {
		_, err := models.SetProblem(t.Context(), f.db.Pool, "w0", 1, "away", true)
		require.NoError(t, err)
	}
	f.sessions(6)
	require.Equal(t, int64(6), modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM sessions WHERE worker_id = 'w1'`))
	s := modelstest.Session(t, f.db, modelstest.User(t, f.db), "last")
	require.Equal(t, "w0", *s.WorkerID)
	require.NoError(t, f.runner.probe(t.Context(), tick{}))
	require.Zero(t, modelstest.Scalar[int32](t, f.db, `SELECT probe_failures FROM workers WHERE id = 'w0'`))
}

func TestSilentWorkersAreProbedOnce(t *testing.T) {
	f := newFleet(t, 2)
	silent := func() int {
		list, err := models.SilentWorkers(t.Context(), f.db, silentAfter)
		require.NoError(t, err)
		return len(list)
	}
	require.Zero(t, silent())
	f.exec(`UPDATE workers SET last_heartbeat = now() - interval '8 seconds' WHERE id = 'w0'`)
	require.Equal(t, 1, silent())
	require.Zero(t, silent())
	_, err := models.RenewLease(t.Context(), f.db, "w0", wire.Heartbeat{Status: "online", Term: 1}, time.Hour)
	require.NoError(t, err)
	require.Zero(t, silent())
}

// One that leaves while it is drained is none the wiser: the job ends when its sessions are elsewhere.
func TestDrainAndRemove(t *testing.T) {
	f := newFleet(t, 3)
	uids := f.sessions(6)
	f.tick(f.runner.reconcile)
	f.settle()
	f.drain("w0")
	f.exec(`UPDATE jobs SET params = '{"reason": "removed"}' WHERE kind = 'worker:drain'`)
	f.settle()
	require.Empty(t, f.wrong(uids))
	require.Zero(t, modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM sessions WHERE worker_id = 'w0'`))
	require.Equal(t, `SUCCEEDED 2 2 0`, modelstest.Scalar[string](t, f.db, `SELECT concat_ws(' ', status, result->>'total', result->>'moved', result->>'remaining') FROM jobs WHERE kind = 'worker:drain'`))
	require.Equal(t, int64(1), modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM workers WHERE removed_at IS NOT NULL`))
	require.Equal(t, int64(2), modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM events WHERE type = 'session.migrated' AND data->>'reason' = 'removed'`))

	f.drain("w1") // and now there is room for some only
	f.exec(`UPDATE workers SET max_sessions = 4 WHERE id = 'w2'`)
	for range 3 {
		for _, d := range f.due() {
			f.runJob(t.Context(), d, false)
		}
	}
	require.Equal(t, `QUEUED 3 1 2 2`, modelstest.Scalar[string](t, f.db, `SELECT concat_ws(' ', status, progress->>'total', progress->>'moved', progress->>'remaining', progress->>'waiting') FROM jobs
		WHERE kind = 'worker:drain' AND worker_id = 'w1'`))
	f.exec(`UPDATE jobs SET created_at = now() - interval '16 minutes'`)
	f.settle()
	require.Equal(t, `FAILED Not all sessions could be moved away in time: nobody has room, or the worker does not let go of them.`,
		modelstest.Scalar[string](t, f.db, `SELECT concat_ws(' ', status, error) FROM jobs WHERE kind = 'worker:drain' AND worker_id = 'w1'`))
	require.Empty(t, f.wrong(uids), "who could not move stays and works")
}

// settle runs jobs until none is open.
func (f *fleet) settle() {
	f.t.Helper()
	for range 20 {
		due := f.due()
		if len(due) == 0 {
			return
		}
		for _, d := range due {
			f.runJob(context.Background(), d, false)
		}
	}
	f.t.Fatal("jobs go on for ever")
}
