package models_test

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// reading is a query of the kind that a request or a job makes, and the index that must answer it.
type reading struct {
	name  string
	index string
	page  int // how many messages it should find; -1: not looked at
	run   func(ctx context.Context, q models.Querier) (int, error)
}

// readings is all that reads histories.
func (b *bulk) readings() []reading {
	large, small := b.sessions[0], b.sessions[1]
	history := func(session uuid.UUID, f models.MessageFilter) func(context.Context, models.Querier) (int, error) {
		return func(ctx context.Context, q models.Querier) (int, error) {
			f := f
			if f.Limit == 0 {
				f.Limit = 50
			}
			page, err := models.History(ctx, q, session, f)
			if err != nil {
				return 0, err
			}
			return len(page.Messages), nil
		}
	}
	person := &models.Person{Chats: []string{"628000000079@s.whatsapp.net"}, Phones: []string{"+628000000079"}}
	chatIndex := "message_index_" + time.Now().UTC().Format("200601") + "_pkey"
	middle := time.Now().AddDate(0, 0, -20)
	return []reading{
		{"newest page, large session", "session_uid_id_idx", 50, history(large, models.MessageFilter{})},
		{"page in the middle", "session_uid_id_idx", 50, history(large, models.MessageFilter{Until: middle})},
		{"inbound", "session_uid_id_idx", 50, history(large, models.MessageFilter{Direction: models.Inbound})},
		{"status failed", "session_uid_id_idx", -1, history(large, models.MessageFilter{Statuses: []string{models.MessageFailed}})},
		{"status failed or expired, images: nothing", "session_uid_id_idx", 0, history(large, models.MessageFilter{Statuses: []string{models.MessageFailed, models.MessageExpired}, Types: []string{"IMAGE"}})},
		{"a type that is nowhere, large session", "session_uid_id_idx", 0, history(large, models.MessageFilter{Types: []string{"POLL"}})},
		{"one chat", chatIndex, -1, history(large, models.MessageFilter{Chat: "628000000077@s.whatsapp.net"})},
		{"one chat, inbound, until", chatIndex, -1, history(large, models.MessageFilter{Chat: "628000000077@s.whatsapp.net", Direction: models.Inbound, Until: middle})},
		{"search: a word in every message, large session", "document_idx", 50, history(large, models.MessageFilter{Query: "hello"})},
		{"search: a word in every message, small session", "document_idx", 50, history(small, models.MessageFilter{Query: "hello"})},
		{"search: rare words at the far end", "document_idx", -1, history(large, models.MessageFilter{Query: "rare1"})},
		{"search: a word of the large session, small session", "document_idx", 0, history(small, models.MessageFilter{Query: "rare1"})},
		{"search: nothing", "document_idx", 0, history(large, models.MessageFilter{Query: "absent"})},
		{"search: common words together", "document_idx", -1, history(large, models.MessageFilter{Query: "w0 w1 hello"})},
		{"search: a phrase of common words", "document_idx", 50, history(large, models.MessageFilter{Query: `"hello w0"`})},
		{"search: all without a word that all have", "session_uid_id_idx", 0, history(small, models.MessageFilter{Query: "-hello"})},
		{"search: common word, failed, one chat", "document_idx", -1, history(large, models.MessageFilter{Query: "hello", Statuses: []string{models.MessageFailed}, Chat: "628000000077@s.whatsapp.net"})},
		{"search: common word, images", "document_idx", -1, history(large, models.MessageFilter{Query: "w0", Types: []string{"IMAGE"}})},
		{"export: a page of 200", "session_uid_id_idx", 200, history(large, models.MessageFilter{Until: middle, Limit: 200})},
		{"deleting a contact: 1,000 messages of a chat", chatIndex, -1, func(ctx context.Context, q models.Querier) (int, error) {
			s, err := models.ForgetChat(ctx, q, large, "628000000078@s.whatsapp.net", uuid.Max, 1000)
			return s.Changed, err
		}},
		{"deleting a contact: his among 1,000 messages", "session_uid_id_idx", -1, func(ctx context.Context, q models.Querier) (int, error) {
			s, err := models.ForgetAuthor(ctx, q, large, person, uuid.Max, 1000)
			return s.Changed, err
		}},
		{"deleting a contact: his among 1,000 events", "session_uid_xid_id_idx", -1, func(ctx context.Context, q models.Querier) (int, error) {
			n, _, err := models.ForgetEvents(ctx, q, large, person, uuid.Max, math.MaxInt64, 1000)
			return n, err
		}},
		{"retention: 2,000 messages of a session", "session_uid_id_idx", -1, func(ctx context.Context, q models.Querier) (int, error) {
			return models.DropMessages(ctx, q, large, middle, 2000)
		}},
		{"retention: 2,000 events of a user", "user_id_xid_id_idx", -1, func(ctx context.Context, q models.Querier) (int, error) {
			return models.DropEvents(ctx, q, b.user.ID, middle, 2000)
		}},
	}
}

// traced gives a pool that records what goes through it.
func traced(t testing.TB, db *models.DB) (*recorder, *pgxpool.Pool) {
	cfg := db.Pool.Config()
	rec := &recorder{}
	cfg.ConnConfig.Tracer = rec
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return rec, pool
}

// plans runs a reading and explains each of its statements.
func (b *bulk) plans(r reading, how string) (found int, took time.Duration, plans []string) {
	b.Helper()
	rec, pool := traced(b, b.db)
	_, err := r.run(b.Context(), pool) // so that what is measured is in memory, as far as it fits
	require.NoError(b, err, r.name)
	rec.seen = nil
	began := time.Now()
	found, err = r.run(b.Context(), pool)
	took = time.Since(began)
	require.NoError(b, err, r.name)
	for _, s := range rec.seen {
		if strings.Contains(s.sql, "pg_inherits") || strings.Contains(s.sql, "websearch") || !strings.Contains(s.sql, "message") && !strings.Contains(s.sql, "events") {
			continue
		}
		plans = append(plans, b.explain(s, how))
	}
	return found, took, plans
}

// explain shows the generic plan of a statement, which is the one that Kurir's connections use.
func (b *bulk) explain(s statement, how string) string {
	b.Helper()
	conn, err := b.db.Pool.Acquire(b.Context())
	require.NoError(b, err)
	defer conn.Release()
	_, err = conn.Exec(b.Context(), "PREPARE explained AS "+s.sql)
	require.NoError(b, err, s.sql)
	var args []string
	for _, a := range s.args {
		args = append(args, literal(a))
	}
	execute := "EXECUTE explained"
	if len(args) > 0 {
		execute += " (" + strings.Join(args, ", ") + ")"
	}
	_, err = conn.Exec(b.Context(), "BEGIN") // an analysed deletion deletes
	require.NoError(b, err)
	rows, err := conn.Query(b.Context(), "EXPLAIN ("+how+") "+execute, pgx.QueryExecModeSimpleProtocol)
	require.NoError(b, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(b, err, s.sql)
	_, err = conn.Exec(b.Context(), "ROLLBACK; DEALLOCATE explained")
	require.NoError(b, err)
	return strings.Join(lines, "\n")
}

func literal(v any) string {
	switch v := v.(type) {
	case int:
		return strconv.Itoa(v)
	case time.Time:
		return "'" + v.Format(time.RFC3339Nano) + "'"
	case []uuid.UUID:
		list := make([]string, len(v))
		for i := range v {
			list[i] = v[i].String()
		}
		return "'{" + strings.Join(list, ",") + "}'"
	case []string:
		return "'{" + strings.Join(v, ",") + "}'"
	case []int32, []float64:
		return "'" + strings.NewReplacer("[", "{", " ", ",", "]", "}").Replace(fmt.Sprint(v)) + "'"
	}
	return "'" + strings.ReplaceAll(fmt.Sprint(v), "'", "''") + "'"
}

// report prints every plan, and a table of the times.
func (b *bulk) report() {
	var table strings.Builder
	for _, r := range b.readings() {
		found, took, plans := b.plans(r, "ANALYZE, BUFFERS, COSTS OFF")
		fmt.Fprintf(&table, "| %s | %d | %.1f ms |\n", r.name, found, float64(took.Microseconds())/1000)
		b.Logf("=== %s: %d in %v\n%s", r.name, found, took, strings.Join(plans, "\n--\n"))
	}
	b.Logf("\n%s", table.String())
}

// Every reading is answered by the index that it should be, in all partitions, and finds what it should.
func TestHistoryUsesIndexes(t *testing.T) {
	b := fillBulk(t, modelstest.DB(t), 60_000, 10, 3)
	for _, r := range b.readings() {
		found, _, plans := b.plans(r, "COSTS OFF")
		if r.page >= 0 {
			require.Equal(t, r.page, found, r.name)
		}
		require.NotEmpty(t, plans, r.name)
		all := strings.Join(plans, "\n")
		require.NotContains(t, all, "Seq Scan on", "%s\n%s", r.name, all)
		require.Contains(t, all, r.index, "%s\n%s", r.name, all)
	}
}
