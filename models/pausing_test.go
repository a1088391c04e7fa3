package models_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// Every way to a message asks whether it is paused: by claims, plain and guarded, by the sweep, and at the end of doubt.
func TestNothingPassesAPause(t *testing.T) {
	r := newReporter(t)
	pause := func(what string, paused bool) {
		t.Helper()
		require.NoError(t, r.db.InPgxTx(t.Context(), func(tx pgx.Tx) (err error) {
			var since *time.Time
			switch what {
			case "session":
				since, err = models.PauseSession(t.Context(), tx, r.session.UID, paused)
			case "user":
				since, _, err = models.PauseUser(t.Context(), tx, r.session.UserID, paused)
			case "platform":
				since, err = models.PausePlatform(t.Context(), tx, paused)
			}
			require.Equal(t, paused, since != nil)
			return err
		}))
	}
	due := func() bool {
		list, err := models.DueLanes(t.Context(), r.db.Pool, models.LaneMessages, 10)
		require.NoError(t, err)
		return len(list) == 1
	}
	for _, settings := range []string{`null`, `{"pacing":{"messagesPerMinute":6000}}`} { // the second one makes the lane guarded
		require.NoError(t, models.UpdateSession(t.Context(), r.db, r.session.UID, models.SessionChange{Settings: []byte(settings)}))
		for _, what := range []string{"session", "user", "platform"} {
			r.add("c", what)
			require.True(t, due())
			pause(what, true)
			require.False(t, due(), what)
			h := r.take(r.runner())
			claim := r.claim(h, 10)
			require.Empty(t, claim.Messages, what)
			require.Equal(t, []bool{true, true, true}, []bool{claim.Held, claim.Connected, claim.Paused}, what)
			claim = r.claim(h, 10) // now that it is known to be guarded
			require.Empty(t, claim.Messages, what)
			require.NoError(t, models.YieldLane(t.Context(), r.db.Pool, *h, 0))
			s, err := models.SessionByUID(t.Context(), r.db, r.session.UID)
			require.NoError(t, err)
			require.True(t, s.HeldBack, what)
			r.add("c", "accepted all the same")

			pause(what, false)
			require.True(t, due(), what)
			h = r.take(r.runner())
			for left := 2; left > 0; {
				claim = r.claim(h, 10)
				require.NotEmpty(t, claim.Messages, what)
				left -= len(claim.Messages)
				outcomes := make([]models.Outcome, len(claim.Messages))
				for i := range claim.Messages {
					outcomes[i] = outcome(claim, i, models.MessageSent)
				}
				r.settle(h, outcomes...)
			}
			r.release(h)
		}
	}
	other := modelstest.Session(t, r.db, modelstest.User(t, r.db), "other")
	pause("user", true)
	s, err := models.SessionByUID(t.Context(), r.db, other.UID)
	require.NoError(t, err)
	require.False(t, s.HeldBack, "it is another's")
}

// BenchmarkClaim is the claim of one message, and of a lane that has none, beside what it costs without the question whether an
// administrator has paused something.
func BenchmarkClaim(b *testing.B) {
	db := modelstest.DB(b)
	_, s := modelstest.Ready(b, db)
	a := models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
	b.Cleanup(a.Close)
	runner := models.NewID()
	ctx := context.Background()
	if err := models.RenewRunner(ctx, db.Pool, runner, "h", 1, time.Hour); err != nil {
		b.Fatal(err)
	}
	hold, ok, err := models.TakeLane(ctx, db.Pool, s.UID, runner)
	if err != nil || !ok {
		b.Fatal(ok, err)
	}
	run := func(name string, messages int) {
		for range messages { // once, however often the benchmark is run
			if err := a.Accept(ctx, newMessage(s.UID, "c@s.whatsapp.net", "hello")); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				claim, err := models.ClaimMessages(ctx, db.Pool, &hold, 4)
				if err != nil || len(claim.Messages) != messages {
					b.Fatal(len(claim.Messages), err)
				}
				if messages > 0 {
					b.StopTimer()
					if _, err := db.Pool.Exec(ctx, `UPDATE messages SET status = 'PENDING', generation = 0, attempts = 0 WHERE session_uid = $1`, s.UID); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
				}
			}
		})
	}
	run("none", 0)
	run("one", 1)
}

// Who waits for a session that is away or paused is no backlog that anybody could work off: nobody is to be woken up for it.
func TestBacklogLeavesOutWhatCannotBeSent(t *testing.T) {
	o := newOutbox(t)
	o.add("c", "waits")
	o.exec(`UPDATE lanes SET next_due_at = now() - interval '1 hour'`) // as a lane stays that was parked then
	late := func() (lanes int64, hours float64) {
		t.Helper()
		b, err := models.BacklogOf(t.Context(), o.db.Pool, models.LaneMessages)
		require.NoError(t, err)
		require.EqualValues(t, 1, b.Rows, "it is owed all the same")
		return b.Lanes, b.Oldest.Hours()
	}
	for name, change := range map[string][2]string{
		"disconnected":           {`UPDATE sessions SET status = 'DISCONNECTED'`, `UPDATE sessions SET status = 'CONNECTED'`},
		"banned":                 {`UPDATE sessions SET status = 'ERROR'`, `UPDATE sessions SET status = 'CONNECTED'`},
		"stopped":                {`UPDATE sessions SET desired = 'STOPPED'`, `UPDATE sessions SET desired = 'RUNNING'`},
		"paused by its owner":    {`UPDATE sessions SET settings = '{"paused":true}'`, `UPDATE sessions SET settings = NULL`},
		"paused as a session":    {`UPDATE sessions SET sending_paused_at = now()`, `UPDATE sessions SET sending_paused_at = NULL`},
		"paused with its tenant": {`UPDATE users SET sending_paused_at = now()`, `UPDATE users SET sending_paused_at = NULL`},
		"paused with all":        {`UPDATE platform SET sending_paused_at = now()`, `UPDATE platform SET sending_paused_at = NULL`},
	} {
		o.exec(change[0])
		lanes, hours := late()
		require.Zero(t, lanes, name)
		require.Zero(t, hours, name)
		o.exec(change[1])
		lanes, hours = late()
		require.EqualValues(t, 1, lanes, name)
		require.InDelta(t, 1, hours, 0.1, name)
	}
}
