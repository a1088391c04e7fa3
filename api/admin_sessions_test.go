package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

func TestSessionsOfAllTenants(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) {
		c.Settings = []api.Setting{{Name: "PORT", Value: "8000"}, {Name: "JWT_SECRET", Value: "set", Secret: true}}
	})
	w.worker()
	admin, u, v := w.administrator(), w.register("u"), w.register("v")
	u.connected("shop")
	u.session("shop-two")
	v.session("office")
	v.session("gone")
	v.do("DELETE", "/api/v1/sessions/gone", v.auth(), nil).ok(202)
	list := func(query string) (ids []string, cursor string, all []any) {
		data := w.do("GET", "/api/v1/admin/sessions?"+query, admin.auth(), nil).ok(200)
		for _, s := range data["sessions"].([]any) {
			ids = append(ids, str(s.(map[string]any), "id"))
		}
		return ids, str(data, "nextCursor"), data["sessions"].([]any)
	}
	ids, _, all := list("")
	require.Equal(t, []string{"office", "shop-two", "shop"}, ids)
	require.Equal(t, map[string]any{"userId": v.id, "name": "v", "email": v.email, "tier": "max"}, all[0].(map[string]any)["owner"])
	for query, want := range map[string][]string{"status=connected": {"shop"}, "status=initializing&user=" + u.id: {"shop-two"}, "worker=w1&search=shop": {"shop-two", "shop"},
		"worker=w2": nil, "search=6281111": {"shop"}, "search=%2B628111": {"shop"}, "search=%25": nil, "user=" + v.id: {"office"}} {
		ids, _, _ := list(query)
		require.Equal(t, want, ids, query)
	}
	ids, cursor, _ := list("limit=2")
	require.Equal(t, []string{"office", "shop-two"}, ids)
	ids, cursor, _ = list("limit=2&cursor=" + cursor)
	require.Equal(t, []string{"shop"}, ids)
	require.Empty(t, cursor)

	settings := w.do("GET", "/api/v1/admin/settings", admin.auth(), nil).ok(200)
	require.Len(t, settings["settings"], 2)
	require.Equal(t, map[string]any{"paused": false, "since": nil}, settings["sending"])
}

// What an administrator pauses waits, and says for whom; what he resumes goes out.
func TestPauses(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	w.clockwork()
	phones := w.phones(simnet.Config{})
	admin, u := w.administrator(), w.register("u")
	u.session("shop")
	u.becomes("connected", "")
	shown := func() int {
		resp, err := http.Get(phones + "/phones/6281234567890/messages")
		require.NoError(t, err)
		return len(read(t, resp).body["messages"].([]any))
	}
	sent := 0
	for _, what := range []string{"sessions/shop", "users/" + u.id, "platform"} {
		path := "/api/v1/admin/" + what
		since := admin.do("POST", path+"/pause", admin.auth(), map[string]any{"reason": "spam"}).ok(200)
		require.Equal(t, true, since["paused"])
		require.Equal(t, since["since"], admin.do("POST", path+"/pause", admin.auth(), nil).ok(200)["since"], "paused already")
		id := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", what)).ok(202), "messageId")
		sending := u.read("/sessions/shop").ok(200)["sending"].(map[string]any)
		require.Equal(t, []any{"paused", "administrator"}, []any{sending["state"], sending["pausedBy"]}, what)
		message := u.read("/messages/" + id).ok(200)
		require.Equal(t, []any{"pending", "paused_by_administrator"}, []any{message["status"], message["waitingFor"]}, what)
		w.eventually("the lane to be given back", func() bool {
			return w.count(`lanes WHERE kind = 'MESSAGES' AND holder IS NULL AND generation > 0 AND next_due_at <= now()`) == 1
		})
		require.Equal(t, sent, shown(), what)
		require.Equal(t, "paused_by_administrator", str(u.do("GET", "/api/v1/sessions/shop/messages", u.auth(), nil).ok(200)["messages"].([]any)[0].(map[string]any), "waitingFor"))
		// Neither its owner nor another pause can end it.
		u.do("PATCH", "/api/v1/sessions/shop", u.auth(), map[string]any{"settings": map[string]any{"paused": true}}).ok(200)
		u.do("PATCH", "/api/v1/sessions/shop", u.auth(), map[string]any{"settings": map[string]any{"paused": nil}}).ok(200)
		require.Equal(t, "pending", u.read("/messages/" + id).ok(200)["status"])

		require.Equal(t, map[string]any{"paused": false, "since": nil}, admin.do("POST", path+"/resume", admin.auth(), nil).ok(200))
		w.eventually("the message to go out", func() bool { return u.read("/messages/" + id).ok(200)["status"] != "pending" })
		sent++
		w.eventually("it to be shown", func() bool { return shown() == sent })
		require.Equal(t, "running", u.read("/sessions/shop").ok(200)["sending"].(map[string]any)["state"])
	}
	admin.do("POST", "/api/v1/admin/sessions/nothing/pause", admin.auth(), nil).refused(404, "session_not_found")
	admin.do("POST", "/api/v1/admin/users/"+modelstest.Scalar[string](t, w.db, `SELECT gen_random_uuid()::text`)+"/pause", admin.auth(), nil).refused(404, "user_not_found")
	w.exec(`UPDATE users SET is_active = false, closed_at = now() WHERE id = $1`, u.id) // what it had is being removed
	for _, what := range []string{"pause", "resume"} {
		admin.do("POST", "/api/v1/admin/users/"+u.id+"/"+what, admin.auth(), nil).refused(404, "user_not_found")
	}
	require.EqualValues(t, 3, w.count(`system_logs WHERE message LIKE '%.sending_paused' AND details->>'reason' = 'spam' AND actor = 'administrator'`))
	require.EqualValues(t, 1, w.count(`system_logs WHERE message = 'session.sending_resumed' AND target_user_id = $1 AND session_id = 'shop'`, u.id))
}
