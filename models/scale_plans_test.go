package models_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/placement"
)

// effort is what a node of a plan did when it ran, with what is below it.
type effort struct {
	Node    string   `json:"Node Type"`
	Loops   float64  `json:"Actual Loops"`
	Rows    float64  `json:"Actual Rows"` // this and the two below are averages of the loops
	Dropped float64  `json:"Rows Removed by Filter"`
	Refused float64  `json:"Rows Removed by Join Filter"`
	Hit     int      `json:"Shared Hit Blocks"`
	Read    int      `json:"Shared Read Blocks"`
	Plans   []effort `json:"Plans"`
}

func (e effort) blocks() int { return e.Hit + e.Read }

// looked is how many rows were looked at, each as often as it was.
func (e effort) looked() (n int) {
	n = int(e.Loops * (e.Rows + e.Dropped + e.Refused))
	for _, below := range e.Plans {
		n += below.looked()
	}
	return n
}

// changed is how many rows an UPDATE or DELETE changed.
func (e effort) changed() (n int) {
	if e.Node == "ModifyTable" {
		n = int(e.Rows)
	}
	for _, below := range e.Plans {
		n += below.changed()
	}
	return n
}

func acquired(t *testing.T, db *models.DB) *pgxpool.Conn {
	t.Helper()
	conn, err := db.Pool.Acquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	return conn
}

// planNow has a connection make the plan of a statement now. What it gives back runs it by that plan, changes nothing, and says what
// it took.
func planNow(t *testing.T, conn *pgxpool.Conn, s statement) (run func() effort) {
	t.Helper()
	name := pgx.Identifier{models.NewID().String()}.Sanitize()
	var args []string
	for _, a := range s.args {
		args = append(args, literal(a))
	}
	execute := "EXECUTE " + name
	if len(args) > 0 {
		execute += " (" + strings.Join(args, ", ") + ")"
	}
	_, err := conn.Exec(t.Context(), "PREPARE "+name+" AS "+s.sql)
	require.NoError(t, err, s.sql)
	_, err = conn.Exec(t.Context(), "EXPLAIN "+execute, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err, s.sql)
	return func() effort {
		t.Helper()
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }()
		var plans []struct{ Plan effort }
		require.NoError(t, tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) "+execute, pgx.QueryExecModeSimpleProtocol).Scan(&plans), s.sql)
		return plans[0].Plan
	}
}

// What waits to be counted costs what it is, also by a plan that was made while all had been counted, as it mostly is: not each row times all of them.
func TestCountingCostsWhatThereIsToCount(t *testing.T) {
	r := newReporter(t)
	rec, pool := traced(t, r.db)
	db := &models.DB{DB: r.db.DB, Pool: pool}
	const n = 2000
	come := func() {
		r.exec(`INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at)
			SELECT $1, $2, 'OUTBOUND', 'TEXT', 'SENT', now() FROM generate_series(1, $3)`, r.session.UserID, r.session.UID, n)
		r.exec(`INSERT INTO analytics_changes (subject, at, n) SELECT 'MESSAGE', now() - interval '1 year', 1 FROM generate_series(1, $1)`, n)
	}
	come()
	_, billed, err := models.CountMessages(t.Context(), db)
	require.NoError(t, err)
	require.EqualValues(t, n, billed)
	_, err = models.CountAnalytics(t.Context(), db)
	require.NoError(t, err)
	r.exec(`ANALYZE message_tallies, analytics_changes`)
	conn := acquired(t, r.db)
	runs := map[string]func() effort{}
	for _, s := range rec.seen {
		if strings.Contains(s.sql, "WITH taken") {
			runs[s.sql] = planNow(t, conn, s)
		}
	}
	require.Len(t, runs, 2)
	come()
	for sql, run := range runs {
		took := run()
		require.Greater(t, took.looked(), n, sql)
		require.Less(t, took.looked(), 20*n, sql)
		require.Less(t, took.blocks(), 20*n, sql)
	}
}

// looking runs what looks for something to do every second or ten, and what is asked at each scrape.
func looking(ctx context.Context, db *models.DB) (errs []error) {
	did := func(_ any, err error) { errs = append(errs, err) }
	did(models.EndHolds(ctx, db.Pool, 100))
	for _, kind := range []string{models.LaneMessages, models.LaneWebhook} {
		did(models.DueLanes(ctx, db.Pool, kind, 100))
		did(models.BacklogOf(ctx, db.Pool, kind))
	}
	did(models.DueJobs(ctx, db.Pool, 100))
	did(models.ExpireLeases(ctx, db))
	did(models.EscapeTrouble(ctx, db, time.Minute))
	did(models.CreateMissing(ctx, db.Pool, 100))
	did(models.SuspendLate(ctx, db))
	stops, _, err := models.EndMissing(ctx, db.Pool, 100)
	did(stops, err)
	did(models.FreeReservations(ctx, db.Pool))
	did(models.UpdateScaling(ctx, db, time.Now(), func(pgx.Tx, placement.Scaling) error { return nil }))
	did(nil, db.InPgxTx(ctx, func(tx pgx.Tx) error {
		_, _, err := models.ExpireMessages(ctx, tx, 100)
		return err
	}))
	did(models.FleetOf(ctx, db.Pool))
	return errs
}

// Looking whether there is something to do, and how things are, reads of sessions that rest and of messages that went out next to nothing.
func TestLookingPassesWhatRests(t *testing.T) {
	r := newReporter(t)
	const n = 20_000
	r.exec(`INSERT INTO sessions (uid, id, user_id, name, desired, status) SELECT gen_random_uuid(), 'rests' || n, $1, 'rests', 'STOPPED', 'DISCONNECTED' FROM generate_series(1, $2) n`, r.session.UserID, n)
	r.exec(`INSERT INTO lanes (id, kind, open) SELECT uid, 'MESSAGES', true FROM sessions WHERE id LIKE 'rests%'`)
	r.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id)
		SELECT kurir_uuid_v7(), uid, 'OUTBOUND', 1, 'c', 't', 'TEXT', 'READ', 'x' FROM sessions WHERE id LIKE 'rests%'`)
	r.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id, expires_at)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', 1000 + n, 'c' || n, 't', 'TEXT', CASE WHEN n % 2 = 0 THEN 'SENDING' ELSE 'PENDING' END, 'x', now() + interval '1 day' FROM generate_series(1, 40) n`, r.session.UID)
	r.exec(`VACUUM ANALYZE`)
	conn := acquired(t, r.db)
	rec, pool := traced(t, r.db)
	for _, err := range looking(t.Context(), &models.DB{DB: r.db.DB, Pool: pool}) {
		require.NoError(t, err)
	}
	looked := 0
	for _, s := range rec.seen {
		if !strings.Contains(s.sql, "FROM") || strings.Contains(s.sql, "INSERT INTO scaling") {
			continue
		}
		looked++
		require.Less(t, planNow(t, conn, s)().blocks(), n/100, s.sql)
	}
	require.Greater(t, looked, 12)
}

// Messages whose time is over are found among those that wait or are in doubt, also by a plan that was made while there were next to none of
// any kind: neither the history nor the lanes of all sessions are gone through.
func TestExpiringLooksAtWhatIsNotSettled(t *testing.T) {
	r := newReporter(t)
	rec, pool := traced(t, r.db)
	db := &models.DB{DB: r.db.DB, Pool: pool}
	require.NoError(t, db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		_, _, err := models.ExpireMessages(t.Context(), tx, 100)
		return err
	}))
	r.exec(`VACUUM ANALYZE`)
	conn := acquired(t, r.db)
	var runs []func() effort
	for _, s := range rec.seen {
		if strings.Contains(s.sql, "WITH late") {
			runs = append(runs, planNow(t, conn, s))
		}
	}
	require.Len(t, runs, 2)
	const n = 5000
	r.exec(`INSERT INTO lanes (id, kind, open) SELECT gen_random_uuid(), 'MESSAGES', true FROM generate_series(1, $1)`, n)
	r.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id, expires_at)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', n, 'c', 't', 'TEXT', (ARRAY['READ', 'PENDING', 'SENDING'])[greatest(n - $2 + 1, 1)], 'x', now() - interval '1 second'
		FROM generate_series(1, $2 + 2) n`, r.session.UID, n)
	modelstest.SetStatus(t, r.db, r.session.UID, models.SessionDisconnected)
	for _, run := range runs {
		took := run()
		require.EqualValues(t, 1, took.changed())
		require.Less(t, took.looked(), n/10)
		require.Less(t, took.blocks(), n/10)
	}
}
