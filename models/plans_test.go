package models_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/pacing"
)

// recorder keeps the statements that go through a pool.
type recorder struct {
	mu   sync.Mutex
	seen []statement
}

type statement struct {
	sql  string
	args []any
}

func (r *recorder) add(sql string, args []any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, statement{sql, args})
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, d pgx.TraceQueryStartData) context.Context {
	r.add(d.SQL, d.Args)
	return ctx
}
func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (r *recorder) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (r *recorder) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	r.add(d.SQL, d.Args)
}
func (r *recorder) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// recorded has a reporter's pool note its statements.
func recorded(t *testing.T, r *reporter) *recorder {
	t.Helper()
	cfg := r.db.Pool.Config()
	rec := &recorder{}
	cfg.ConnConfig.Tracer = rec
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	r.db = &models.DB{DB: r.db.DB, Pool: pool}
	r.accept = accepter(t, r.db)
	return rec
}

// Plans are made once, and mostly while there is next to nothing in a table: they have to look up what they name then, too, and not go
// through all there is, or all of a session, which will have grown before they are made anew.
func TestPlansOfEmptyTables(t *testing.T) {
	r := newReporter(t)
	hook := addWebhook(t, r.db, r.session, "*")
	plain := r.db
	rec := recorded(t, r)
	ctx, pool, runner := t.Context(), r.db.Pool, r.runner()
	var ids []uuid.UUID
	for i := range 40 {
		ids = append(ids, r.add(fmt.Sprint(i%3), "x"))
	}
	for _, change := range []models.SessionChange{{Settings: []byte(`{}`)}, {Settings: []byte(`{"pacing":{"messagesPerMinute":6000}}`)}} {
		require.NoError(t, models.UpdateSession(ctx, plain, r.session.UID, change))
		h := r.take(runner)
		claim := r.claim(h, 32)
		require.NotEmpty(t, claim.Messages)
		r.settle(h, outcome(claim, 0, models.MessageSent))
		r.release(h)
	}
	r.send(r.receipt(ids[0], "delivered"), r.receipt(ids[1], "read"), r.received("A", "hi"), r.again("B", time.Now()))
	_, err := models.DueLanes(ctx, pool, models.LaneMessages, 100)
	require.NoError(t, err)
	_, err = models.IndexWords(ctx, pool, 100)
	require.NoError(t, err)
	hold, ok, err := models.TakeLane(ctx, pool, hook, runner)
	require.NoError(t, err)
	require.True(t, ok)
	for _, ordered := range []bool{true, false} {
		hold.OneByOne = ordered
		_, list, err := models.DueDeliveries(ctx, r.db, &hold, 100)
		require.NoError(t, err)
		require.NotEmpty(t, list)
		_, err = models.SettleDeliveries(ctx, r.db, hold, []models.Tried{{Delivery: list[0].ID, Attempt: 1, Status: models.DeliveryDelivered, Code: 200}}, time.Hour)
		require.NoError(t, err)
	}
	_, err = models.ReleaseLane(ctx, pool, models.LaneWebhook, hold)
	require.NoError(t, err)

	conn, err := plain.Pool.Acquire(ctx)
	require.NoError(t, err)
	t.Cleanup(conn.Release)
	seen := map[string]bool{}
	for _, s := range rec.seen {
		if seen[s.sql] || !strings.Contains(s.sql, " ") || strings.HasPrefix(s.sql, "SET ") {
			continue
		}
		seen[s.sql] = true
		name := fmt.Sprint("plan", len(seen))
		d, err := conn.Conn().Prepare(ctx, name, s.sql)
		require.NoError(t, err)
		execute := name
		if n := len(d.ParamOIDs); n > 0 {
			execute += "(" + strings.TrimSuffix(strings.Repeat("NULL,", n), ",") + ")"
		}
		var plans []struct{ Plan planned }
		require.NoError(t, conn.QueryRow(ctx, "EXPLAIN (FORMAT JSON) EXECUTE "+execute, pgx.QueryExecModeSimpleProtocol).Scan(&plans))
		plans[0].Plan.looksUp(t, s.sql)
	}
	require.Greater(t, len(seen), 20)
}

// planned is a node of a plan.
type planned struct {
	Node      string    `json:"Node Type"`
	Table     string    `json:"Relation Name"`
	Index     string    `json:"Index Name"`
	IndexCond string    `json:"Index Cond"`
	JoinCond  string    `json:"Join Filter"`
	Plans     []planned `json:"Plans"`
}

// wholeIndexes may be read from one end to the other: of what there is one row, or what is done away with as it is read.
var wholeIndexes = regexp.MustCompile(`^platform_sending_paused$|^message_index_\w+_id_idx$`)

// looksUp fails where a plan goes through an index without saying what for, or compares a join with each message of a session.
func (p planned) looksUp(t *testing.T, sql string) {
	require.NotEqual(t, "Seq Scan", p.Node, "%s of %s in\n%s", p.Node, p.Table, sql)
	if p.Index != "" && !wholeIndexes.MatchString(p.Index) {
		require.NotEmpty(t, p.IndexCond, "%s by %s in\n%s", p.Node, p.Index, sql)
	}
	if p.JoinCond != "" {
		for _, table := range p.Plans[1].tables() {
			require.NotContains(t, table, "message", "joined by %s in\n%s", p.JoinCond, sql)
		}
	}
	for _, below := range p.Plans {
		below.looksUp(t, sql)
	}
}

func (p planned) tables() (list []string) {
	if p.Table != "" {
		list = append(list, p.Table)
	}
	for _, below := range p.Plans {
		list = append(list, below.tables()...)
	}
	return list
}

// Every statement on the way of a message finds its rows through an index, also when the tables hold many others.
func TestHotStatementsUseIndexes(t *testing.T) {
	r := newReporter(t)
	hook := addWebhook(t, r.db, r.session, "*")
	r.exec(`INSERT INTO sessions (uid, id, user_id, name, status) SELECT kurir_uuid_v7(), 'bulk' || n, $1, 'bulk', 'CONNECTED' FROM generate_series(1, 200) n`, r.session.UserID)
	r.exec(`INSERT INTO lanes (id, kind, open, next_seq, next_due_at) SELECT uid, 'MESSAGES', true, 101, CASE WHEN id LIKE '%7' THEN now() END FROM sessions WHERE id LIKE 'bulk%'`)
	r.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, content, status, whatsapp_id, expires_at)
		SELECT kurir_uuid_v7(), s.uid, 'OUTBOUND', n, 'c' || n % 5, 't', 'TEXT', repeat('x', 100), CASE WHEN n > 95 AND s.id LIKE '%7' THEN 'PENDING' ELSE 'SENT' END, 'x' || n, now() + interval '1 day'
		FROM sessions s, generate_series(1, 100) n WHERE s.id LIKE 'bulk%'`)
	r.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', -n, 'c', 't', 'TEXT', 'SENT', 'y' || n FROM generate_series(1, 5000) n`, r.session.UID)
	r.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, status) SELECT $1, kurir_uuid_v7(), 'message.sent', -n, 'DELIVERED' FROM generate_series(1, 20000) n`, hook)
	// Twenty thousand wait for their next attempt: looking for what is due must not read past them.
	r.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence, status, next_retry, attempts)
		SELECT $1, kurir_uuid_v7(), 'message.sent', -20000 - n, 'RETRYING', now() + interval '1 hour', 3 FROM generate_series(1, 20000) n`, hook)
	account := accountHook(t, r.db, r.session.UserID)
	r.exec(`ANALYZE`)

	plain := r.db
	rec := recorded(t, r)
	pool := r.db.Pool

	var ids []uuid.UUID
	for i := range 40 {
		ids = append(ids, r.add(fmt.Sprint(i%3), "x"))
	}
	due, err := models.DueLanes(t.Context(), pool, models.LaneMessages, 100)
	require.NoError(t, err)
	require.Len(t, due, 21)
	h := r.take(r.runner())
	claim := r.claim(h, 32)
	require.Len(t, claim.Messages, 32)
	r.settle(h, outcome(claim, 0, models.MessageSent), doubt(claim, 1, time.Now().Add(time.Hour)))
	r.release(h)
	r.send(r.receipt(ids[0], "delivered"), r.receipt(ids[1], "read"), r.receipt(ids[2], "sent"), r.received("A", "hi"), r.again("B", time.Now()))
	require.NoError(t, r.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		_, _, err := models.ExpireMessages(t.Context(), tx, 100)
		return err
	}))
	_, err = models.MessageStates(t.Context(), pool, ids)
	require.NoError(t, err)
	hold, ok, err := models.TakeLane(t.Context(), pool, hook, r.runner())
	require.NoError(t, err)
	require.True(t, ok)
	_, list, err := models.DueDeliveries(t.Context(), r.db, &hold, 100)
	require.NoError(t, err)
	require.NotEmpty(t, list)
	hold.OneByOne = true
	_, list, err = models.DueDeliveries(t.Context(), r.db, &hold, 100)
	require.NoError(t, err)
	require.Empty(t, list, "the first of them is not due")
	_, err = models.WaitingOf(t.Context(), pool, hook)
	require.NoError(t, err)
	_, err = models.BacklogOf(t.Context(), pool, models.LaneWebhook)
	require.NoError(t, err)
	_, err = models.ReplayPage(t.Context(), r.db, models.Replay{WebhookID: account}, models.ReplayProgress{Next: 1, End: 10}, 5)
	require.NoError(t, err)
	_, err = models.DropDeliveries(t.Context(), pool, time.Now().Add(-time.Hour), 10)
	require.NoError(t, err)
	_, err = models.ReleaseLane(t.Context(), pool, models.LaneWebhook, hold)
	require.NoError(t, err)

	// With everything that may hold a lane up, and 20,000 messages that wait behind one of high priority.
	r.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, content, status, whatsapp_id, expires_at)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', 1000 + n, 'd' || n, 't', 'TEXT', repeat('x', 100), 'PENDING', 'z' || n, now() + interval '1 day' FROM generate_series(1, 20000) n`, r.session.UID)
	r.exec(`UPDATE messages SET priority = 1 WHERE session_uid = $1 AND chat = 'd15000'`, r.session.UID)
	r.exec(`UPDATE lanes SET next_seq = 200000 WHERE id = $1`, r.session.UID)
	r.exec(`INSERT INTO chats (session_uid, chat, last_received_at) SELECT $1, 'w' || n, now() FROM generate_series(1, 5000) n`, r.session.UID)
	r.exec(`ANALYZE`)
	require.NoError(t, models.UpdateSession(t.Context(), r.db, r.session.UID, models.SessionChange{Settings: []byte(`{"pacing":{"messagesPerMinute":60,"newChatsPerHour":5}}`)}))
	h = r.take(r.runner())
	claim = r.claim(h, 32)
	require.Len(t, claim.Messages, 1, "what is paced goes one by one")
	for claim.Messages[0].Seq < 1000 { // what the first part left
		r.settle(h, outcome(claim, 0, models.MessageSent))
		claim = r.claim(h, 32)
	}
	require.Equal(t, "d15000", claim.Messages[0].Chat)
	_, err = models.Settle(t.Context(), r.db, models.Settlement{Hold: *h, SessionID: r.session.ID, Outcomes: []models.Outcome{outcome(claim, 0, models.MessageSent)},
		Begun: []string{"d15000"}, Pace: &pacing.State{NextSendAt: time.Now()}})
	require.NoError(t, err)
	parked, err := models.ParkStrangers(t.Context(), pool, *h, 1000)
	require.NoError(t, err)
	require.Len(t, parked, 1000)
	require.NoError(t, models.UnparkKnown(t.Context(), pool, r.session.UID, parked))
	r.release(h)
	_, err = models.EndHolds(t.Context(), pool, 1000)
	require.NoError(t, err)
	_, err = models.ProlongFetches(t.Context(), pool, time.Minute, 1000)
	require.NoError(t, err)
	_, err = models.HoldUnfetched(t.Context(), pool, time.Minute, time.Minute, 100)
	require.NoError(t, err)

	_, err = models.BacklogOf(t.Context(), pool, models.LaneWebhook)
	require.NoError(t, err)
	r.exec(`INSERT INTO deleted_webhooks (user_id, id) SELECT $1, kurir_uuid_v7() FROM generate_series(1, 20)`, r.session.UserID)
	_, err = models.SweepDeliveries(t.Context(), pool, 100)
	require.NoError(t, err)
	require.NoError(t, models.ForgetWebhooks(t.Context(), pool))
	_, err = models.ClosedDeliveries(t.Context(), pool, r.session.UserID, 100)
	require.NoError(t, err)

	full := "messages_" + time.Now().UTC().Format("200601") // the other months are empty: reading them whole costs nothing
	explained, months := 0, 0
	for _, s := range rec.seen {
		if !strings.Contains(s.sql, "messages") && !strings.Contains(s.sql, "webhook_deliveries") {
			continue
		}
		explained++
		rows, err := plain.Pool.Query(t.Context(), "EXPLAIN "+s.sql, s.args...)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, s.sql)
		plan := strings.Join(lines, "\n")
		for _, table := range []string{full, "webhook_deliveries"} {
			require.NotContains(t, plan, "Seq Scan on "+table, "%s\n%s", s.sql, plan)
		}
		if strings.Contains(s.sql, "pick AS") {
			require.NotContains(t, plan, full+"_expires_at_idx", "a claim reads its own session's lane\n%s", plan)
			require.Contains(t, plan, full+"_session_uid_seq_idx", "a claim reads the lane in its order\n%s", plan)
		}
		if strings.Contains(s.sql, "WITH due AS") && !strings.Contains(s.sql, "least(") {
			require.Contains(t, plan, "webhook_deliveries_retry ", "retries are found by their time\n%s", plan)
			require.Contains(t, plan, "webhook_deliveries_pending ", "what is new is found by its place\n%s", plan)
			require.NotContains(t, plan, "Filter: (next_retry", "nothing is read that is not due\n%s", plan)
		}
		if strings.Contains(s.sql, "hits AS") {
			require.Contains(t, plan, "webhooks_session_key", plan)
			require.Contains(t, plan, "webhooks_account_key", plan)
		}
		if strings.Contains(s.sql, "m.id BETWEEN") {
			months++
			require.NotContains(t, plan, "messages_old", "only the months of the messages that it names are visited\n%s", plan)
		}
		if strings.Contains(s.sql, "r.lowest") {
			require.Contains(t, plan, "_pkey", "receipts are looked up by the primary key\n%s", plan)
		}
	}
	require.Greater(t, explained, 10)
	require.Positive(t, months, "the look-up of receipts")
}
