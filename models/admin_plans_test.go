package models_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/models"
	"kurir/models/modelstest"
)

// hook keeps the statements that bun makes, which have their arguments in them. A page and its count run at once.
type hook struct {
	mu   sync.Mutex
	seen []string
}

func (h *hook) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, e.Query)
	return ctx
}
func (*hook) AfterQuery(context.Context, *bun.QueryEvent) {}

// What administrators look for is found by an index, in a large installation too.
func TestAdministratorsUseIndexes(t *testing.T) {
	db := modelstest.DB(t)
	user, session := modelstest.Ready(t, db)
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	exec(`INSERT INTO users (id, name, email, password_hash, is_active, updated_at) SELECT kurir_uuid_v7(), 'User ' || n, n || '@example.com', 'x', n % 3 > 0, now() - interval '1 day' FROM generate_series(1, 20000) n`)
	exec(`INSERT INTO sessions (uid, id, user_id, name, status, desired) SELECT kurir_uuid_v7(), 'bulk' || row_number() OVER (), id, name, 'CONNECTED', 'RUNNING' FROM users LIMIT 10000`)
	exec(`INSERT INTO system_logs (id, level, service, message, actor, user_id, target_user_id, session_id, worker_id, ip)
		SELECT kurir_uuid_v7(), CASE WHEN n % 100 = 0 THEN 'WARN' ELSE 'INFO' END, 'api', 'a.' || n % 50, 'user', gen_random_uuid(), gen_random_uuid(), 's' || n % 1000, 'w' || n % 100, '10.0.0.0'::inet + n
		FROM generate_series(1, 30000) n`)
	exec(`ANALYZE`)

	rec, pool := traced(t, db)
	explain := func(index, what, sql string, args ...any) {
		t.Helper()
		rows, err := db.Pool.Query(t.Context(), "EXPLAIN "+sql, args...)
		require.NoError(t, err, sql)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, sql)
		plan := strings.Join(lines, "\n")
		require.Contains(t, plan, index, "%s\n%s", what, plan)
		require.NotContains(t, plan, "Seq Scan", "%s\n%s", what, plan)
	}
	for index, f := range map[string]models.LogFilter{
		"system_logs_session": {Session: "s1", Service: "api"}, "system_logs_worker": {Worker: "w1", Level: "WARN"}, "system_logs_target": {Target: user.ID, Actor: "user"},
		"system_logs_user": {User: uuid.New(), Action: "a.1"}, "system_logs_ip": {IP: netip.MustParseAddr("10.0.0.7")}, "system_logs_action": {Action: "a.7", Level: "INFO"},
		"system_logs_level": {Level: "WARN"}, "system_logs_pkey": {Service: "runner"},
	} {
		f.Limit = 50
		rec.seen = nil
		_, _, err := models.Logs(t.Context(), pool, f)
		require.NoError(t, err, index)
		for _, s := range rec.seen {
			explain(index, index, s.sql, s.args...)
		}
	}

	h := &hook{}
	heard := &models.DB{DB: db.WithQueryHook(h), Pool: db.Pool}
	off := false
	for index, f := range map[string]models.UserFilter{
		"users_words": {Search: "user 77"}, "users_pkey": {}, "users_name": {Sort: "name"}, "users_last_login": {Sort: "-lastLoginAt"}, "users_email_key": {Sort: "-email", Active: &off},
	} {
		h.seen, f.Limit = nil, 20
		_, total, err := models.Users(t.Context(), heard, f)
		require.NoError(t, err)
		require.NotZero(t, total)
		for _, sql := range h.seen {
			if !strings.Contains(sql, "SELECT count(*) FROM") || f.Search != "" {
				explain(index, sql, sql)
			}
		}
	}
	for index, f := range map[string]models.SessionFilter{
		"sessions_words": {Search: "bulk77"}, "using sessions_owner": {User: user.ID}, "sessions_pkey": {Status: models.SessionConnected},
	} {
		h.seen, f.Limit = nil, 50
		list, err := models.SessionsOfAll(t.Context(), heard, f)
		require.NoError(t, err)
		require.NotEmpty(t, list)
		for _, sql := range h.seen {
			explain(index, sql, sql)
		}
	}
	// What a page skips, or what is found beyond it, is not worked out in full.
	for _, list := range []func() (int, error){
		func() (int, error) {
			users, _, err := models.Users(t.Context(), heard, models.UserFilter{Sort: "name", Offset: 5000, Limit: 20})
			return len(users), err
		},
		func() (int, error) {
			sessions, err := models.SessionsOfAll(t.Context(), heard, models.SessionFilter{Search: "user", Status: models.SessionConnected, Limit: 20})
			return len(sessions), err
		},
	} {
		h.seen = nil
		n, err := list()
		require.NoError(t, err)
		require.Equal(t, 20, n)
		rows, err := db.Pool.Query(t.Context(), "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "+h.seen[len(h.seen)-1])
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		plan := strings.Join(lines, "\n")
		require.Contains(t, plan, "loops=20)", plan)
		require.NotRegexp(t, `loops=\d{3}`, plan)
	}
	rec.seen = nil
	_, err := models.SuspendLate(t.Context(), &models.DB{DB: db.DB, Pool: pool})
	require.NoError(t, err)
	for _, s := range rec.seen {
		if strings.Contains(s.sql, "suspended_at = CASE") {
			explain("users_deactivated", s.sql, s.sql, s.args...)
		}
	}
	require.Equal(t, "RUNNING", modelstest.Scalar[string](t, db, `SELECT desired FROM sessions WHERE uid = $1`, session.UID))
}
