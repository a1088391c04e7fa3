package api_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

// silent are the operations that change something, or may seem to, and leave no line: messages and what workers hand over are
// rows already, and of the others nothing stays.
var silent = []string{"send", "send-message", "send-by-key", "send-batch", "react", "forward-message", "check-contacts", "get-pairing-code", "set-presence",
	"subscribe-presence", "mark-read", "worker-heartbeat", "worker-events", "worker-put-media"}

// leaves demands that a call left its one line, and a refused one none.
func (s *stage) leaves(op operation, a *answer) {
	s.Helper()
	if op.id == "worker-heartbeat" { // which tells of what it repairs
		return
	}
	want := int64(1)
	if op.method == "GET" || a.status >= 400 || slices.Contains(silent, op.id) {
		want = 0
	}
	request := a.header.Get("X-Request-Id")
	require.Equal(s, want, s.count(`system_logs WHERE request_id = $1`, request), "%s: %d %.300s", op.id, a.status, a.text)
	if want == 0 {
		return
	}
	if op.id == "forgot-password" || op.id == "resend-verification" { // by nobody knows whom
		require.EqualValues(s, 1, s.count(`system_logs WHERE request_id = $1 AND ip = '127.0.0.1' AND actor = 'anonymous' AND user_id IS NULL`, request), op.id)
		return
	}
	require.EqualValues(s, 1, s.count(`system_logs WHERE request_id = $1 AND ip = '127.0.0.1' AND actor <> 'anonymous' AND message <> ''
		AND (user_id IS NOT NULL) = (actor <> 'worker') AND (actor = 'administrator') = $2`, request, op.admin && op.need != "workerToken"), op.id)
	if strings.Contains(op.path, "/sessions/{id}") {
		require.EqualValues(s, 1, s.count(`system_logs WHERE request_id = $1 AND session_id = $2`, request, s.ids["id"]), op.id)
	}
	if strings.Contains(op.path, "{userId}") {
		require.EqualValues(s, 1, s.count(`system_logs WHERE request_id = $1 AND target_user_id = $2`, request, s.ids["userId"]), op.id)
	}
}

// Every operation that changes something leaves a line, whether its handler thinks of it or not. TestExamplesAreTaken looks at those
// with a body, this one at the rest, and at calls that are refused or repeated.
func TestEveryChangeIsWrittenDown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	d := s.document()
	operations := d.operations()
	last := append(slices.DeleteFunc(slices.Clone(harmful), func(id string) bool { return id == "logout" }), "delete-user", "logout")
	s.exec(`UPDATE lanes SET next_seq = 100 WHERE kind = 'WEBHOOK'`) // the stage's delivery has a place already
	slices.SortStableFunc(operations, func(a, b operation) int { return slices.Index(last, a.id) - slices.Index(last, b.id) })
	for _, op := range operations {
		if op.bodyNeeded {
			continue
		}
		s.exec(`UPDATE sessions SET moving_to = NULL, desired = 'RUNNING', status = 'CONNECTED', reason = NULL WHERE id = 'shop' AND deleted_at IS NULL`)
		switch op.id {
		case "replay-delivery":
			s.exec(`INSERT INTO events (id, user_id, type, data) SELECT event_id, $1, 'message.read', '{}' FROM webhook_deliveries WHERE id = $2`, s.owner.id, s.ids["deliveryId"])
		case "create-link":
			s.exec(`UPDATE sessions SET linked_at = NULL WHERE id = 'shop'`)
		case "delete-link":
			s.do("POST", "/api/v1/sessions/shop/link", s.owner.auth(), map[string]any{}).ok(201)
			s.exec(`UPDATE sessions SET linked_at = now() WHERE id = 'shop'`)
		case "retry-message":
			s.exec(`UPDATE messages SET status = 'FAILED' WHERE id = $1`, s.ids["messageId"])
			s.exec(`UPDATE lanes SET open = true`)
		case "cancel-message":
			s.exec(`UPDATE messages SET status = 'PENDING', finished_at = NULL WHERE id = $1`, s.ids["messageId"])
		case "revoke-message":
			s.exec(`UPDATE messages SET status = 'PENDING', finished_at = NULL WHERE id = $1`, s.ids["messageId"])
		case "delete-account-webhook", "test-account-webhook", "rotate-account-webhook-secret":
			s.do("PUT", "/api/v1/webhook", s.owner.auth(), map[string]any{"url": "http://127.0.0.1:9/"}).ok(200)
		case "migrate-session":
			modelstest.Worker(s, s.db, "w2", 10)
		case "list-account-deliveries", "get-session-qr", "get-account-webhook", "upload-media":
			continue // nothing to read here; what is uploaded has no JSON body
		}
		a := s.do(op.method, s.pathOf(op, nil), s.caller(op), nil)
		if op.method != "GET" && !slices.Contains(silent, op.id) && a.status >= 300 {
			t.Errorf("%s: %s", op.id, a.text)
		}
		s.leaves(op, a)
		// Once more: it may be refused, or succeed again.
		if op.id != "logout" && op.id != "delete-user" {
			s.leaves(op, s.do(op.method, s.pathOf(op, nil), s.caller(op), nil))
		}
	}
}

func TestWhoDidWhatFromWhere(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.worker()
	admin, u := w.administrator(), w.register("u")
	key := u.session("shop")
	w.do("POST", "/api/v1/webhook/test", u.auth(), nil).refused(404, "webhook_not_found")
	w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": "wrong"}).refused(401, "invalid_credentials")
	w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": "nobody@example.com", "password": "wrong"}).refused(401, "invalid_credentials")
	w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": "Nobody@example.com ", "password": "wrong"}).refused(401, "invalid_credentials")
	w.do("POST", "/api/v1/sessions/shop/stop", append(bearer(u.key), "X-Request-Id", "stop-it", "Idempotency-Key", "k"), nil).ok(202)
	w.do("POST", "/api/v1/sessions", append(bearer(u.key), "Idempotency-Key", "k"), map[string]any{"name": "x", "sessionId": "second"}).ok(202)
	w.do("POST", "/api/v1/sessions", append(bearer(u.key), "Idempotency-Key", "k"), map[string]any{"name": "x", "sessionId": "second"}).ok(202)
	w.do("PATCH", "/api/v1/admin/workers/w1", admin.auth(), map[string]any{"description": "x"}).ok(200)
	w.do("POST", "/api/v1/sessions/shop/send", bearer(key), text("6281234567890", "secretword")).refused(409, "session_not_linked")

	list := func(query string, with headers) (lines []map[string]any, cursor string) {
		data := w.do("GET", "/api/v1/"+query, with, nil).ok(200)
		for _, l := range data["logs"].([]any) {
			lines = append(lines, l.(map[string]any))
		}
		return lines, str(data, "nextCursor")
	}
	actions := func(query string) (list_ []string) {
		lines, _ := list("admin/logs?"+query, admin.auth())
		for _, l := range lines {
			list_ = append(list_, str(l, "action"))
		}
		return list_
	}
	failed := []string{"user.login_failed", "user.login_failed", "user.login_failed"}
	all := []string{"worker.changed", "session.created", "session.stop_requested", failed[0], failed[0], failed[0], "session.created", "user.registered", "user.registered"}
	now := time.Now().UTC()
	for query, want := range map[string][]string{
		"": all, "level=warn": failed, "level=info&limit=2": all[:2], "action=session.created": {"session.created", "session.created"}, "session=shop": {"session.stop_requested", "session.created"},
		"session=shop&actor=user": {"session.created"}, "worker=w1": {"worker.changed"}, "user=" + admin.id: {"worker.changed", "user.registered"}, "actor=api_key": {"session.created", "session.stop_requested"},
		"target=" + u.id: {"session.created", "session.stop_requested", failed[0], "session.created", "user.registered"}, "ip=127.0.0.1": all, "ip=10.0.0.1": nil, "service=runner": nil,
		"service=api&level=warn&target=" + u.id: failed[:1], "since=" + now.Add(time.Hour).Format(time.RFC3339): nil, "until=" + now.Add(-time.Hour).Format(time.RFC3339): nil,
		"since=" + now.Add(-time.Hour).Format(time.RFC3339) + "&until=" + now.Add(time.Hour).Format(time.RFC3339): all,
	} {
		require.Equal(t, want, actions(query), query)
	}
	lines, _ := list("admin/logs?action=session.stop_requested", admin.auth())
	stop := lines[0]
	require.Equal(t, []any{"info", "api", "api_key", u.id, u.id, "shop", nil, "127.0.0.1", "stop-it"},
		[]any{stop["level"], stop["service"], stop["actor"], stop["userId"], stop["targetUserId"], stop["sessionId"], stop["workerId"], stop["ip"], stop["requestId"]})
	require.NotEmpty(t, stop["apiKeyId"])
	lines, _ = list("admin/logs?action=user.login_failed", admin.auth())
	require.Equal(t, lines[0]["details"], lines[1]["details"], "two tries with one address can be told for one")
	require.Equal(t, []any{nil, u.id, "anonymous"}, []any{lines[2]["userId"], lines[2]["targetUserId"], lines[2]["actor"]})

	var paged []string
	for cursor := ""; ; {
		lines, next := list("admin/logs?limit=4&cursor="+cursor, admin.auth())
		for _, l := range lines {
			paged = append(paged, str(l, "action"))
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	require.Equal(t, all, paged)

	own, _ := list("users/me/logs", u.auth())
	require.Len(t, own, 5)
	require.ElementsMatch(t, []string{"id", "timestamp", "level", "action", "actor", "apiKeyId", "sessionId", "ip", "requestId"}, slices.Collect(maps.Keys(own[0])))
	w.do("GET", "/api/v1/users/me/logs", bearer(u.key), nil).refused(403, "forbidden")
	for _, secret := range []string{key, u.key, u.token, password, "secretword", "6281234567890", "@", "wrong"} {
		require.Zero(t, w.count(`system_logs l WHERE l::text LIKE '%' || $1 || '%'`, secret), secret)
	}

	// A line that is far away among others is found bit by bit.
	w.exec(`INSERT INTO system_logs (id, level, service, message, actor) SELECT kurir_uuid_v7(), 'INFO', 'runner', 'job.succeeded', 'system' FROM generate_series(1, 12000)`)
	lines, cursor := list("admin/logs?service=api&actor=administrator", admin.auth())
	require.Empty(t, lines)
	require.NotEmpty(t, cursor)
	lines, cursor = list("admin/logs?service=api&actor=administrator&cursor="+cursor, admin.auth())
	require.Len(t, lines, 1)
	require.Empty(t, cursor)

	// Those of the user, and of who tried to log in as him; not those of administrators.
	from, office := `system_logs WHERE (user_id = $1 OR target_user_id = $1) AND ip IS NOT NULL`, `system_logs WHERE actor = 'administrator' AND ip IS NOT NULL`
	require.EqualValues(t, 1, w.count(from+` AND message = 'user.login_failed' AND user_id IS NULL`, u.id))
	w.exec(`INSERT INTO system_logs (id, level, service, message, actor, user_id, target_user_id, ip)
		SELECT kurir_uuid_v7(), 'INFO', 'api', 'user.changed', 'administrator', $1, $2, '192.0.2.1'`, admin.id, u.id)
	offices := w.count(office)
	for _, want := range []int64{3, 2, 0} {
		n, err := models.ForgetAddresses(t.Context(), w.db.Pool, uuid.MustParse(u.id), 3)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	require.Zero(t, w.count(from+` AND actor <> 'administrator'`, u.id))
	require.Equal(t, offices, w.count(office))
}
