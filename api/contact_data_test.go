package api_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

func TestDeleteContactData(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	w.worker()
	u, other := w.register("u"), w.register("other")
	u.connected("shop")
	other.connected("elsewhere")
	w.exec(`UPDATE sessions SET status = 'DISCONNECTED'`) // nothing goes out
	sent := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "x")).ok(202), "messageId")
	kept := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6289999999999", "x")).ok(202), "messageId")
	theirs := str(other.do("POST", "/api/v1/sessions/elsewhere/send", other.auth(), text("6281234567890", "x")).ok(202), "messageId")

	before := w.rows()
	for _, address := range []string{"nobody", "12", "%2B", "1@example.com", strings.Repeat("1", 129)} {
		require.Contains(t, u.do("DELETE", "/api/v1/contacts/"+address+"/data", u.auth(), nil).refused(422, "invalid_request").text, `"field":"`)
		u.do("DELETE", "/api/v1/sessions/shop/contacts/"+address+"/data", u.auth(), nil).refused(422, "invalid_request")
	}
	u.do("DELETE", "/api/v1/sessions/elsewhere/contacts/6281234567890/data", u.auth(), nil).refused(404, "session_not_found")
	w.unchanged(before, "refused deletions")

	for i, path := range []string{"/api/v1/sessions/shop/contacts/%2B62812-3456-7890/data", "/api/v1/contacts/6281234567890@c.us/data"} {
		a := u.do("DELETE", path, u.auth(), nil)
		data := a.ok(202)
		require.Equal(t, "deleting", data["status"])
		require.Equal(t, "/api/v1/jobs/"+str(data, "jobId"), a.header.Get("Location"))
		var job map[string]any
		w.eventually("the job", func() bool {
			job = u.do("GET", a.header.Get("Location"), u.auth(), nil).ok(200)
			return job["status"] == "succeeded"
		})
		require.Equal(t, map[string]any{"sessions": 1.0, "cancelled": float64(1 - i), "messages": float64(1 - i), "events": float64(1 - i)}, job["result"])
		require.Equal(t, "contact:forget", job["type"])
		other.do("GET", a.header.Get("Location"), other.auth(), nil).refused(404, "job_not_found")
	}
	u.do("GET", "/api/v1/messages/"+sent, u.auth(), nil).refused(404, "message_not_found")
	u.do("GET", "/api/v1/messages/"+kept, u.auth(), nil).ok(200)
	other.do("GET", "/api/v1/messages/"+theirs, other.auth(), nil).ok(200)
	require.NotContains(t, w.log.String(), "81234567890")
	require.Zero(t, w.count(`jobs j WHERE j::text LIKE '%81234567%'`))
	require.EqualValues(t, 2, w.count(`system_logs WHERE message = 'contact.forget_requested' AND user_id = $1`, uuid.MustParse(u.id)))
	require.Zero(t, w.count(`system_logs l WHERE l::text LIKE '%81234567%'`))
}

func TestRetention(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) { c.KeepMessagesDays, c.KeepDeliveriesDays = 100, 30 })
	u, other := w.register("u"), w.register("other")
	const path = "/api/v1/account/retention"
	read := func(u *tenant) string {
		raw, err := json.Marshal(u.do("GET", path, u.auth(), nil).ok(200))
		require.NoError(t, err)
		return string(raw)
	}
	unset := `{"deliveryDays":30,"effectiveDays":100,"maximumDays":100,"messageDays":null}`
	require.Equal(t, unset, read(u))
	u.do("PUT", path, u.auth(), map[string]any{"messageDays": 7}).ok(200)
	require.EqualValues(t, 1, w.count(`system_logs l JOIN users u ON u.id = l.target_user_id WHERE l.message = 'retention.changed'
		AND l.user_id = u.id AND l.actor = 'user' AND l.details = '{"messageDays": 7}' AND l.xmin = u.xmin`), "in one transaction")
	require.Equal(t, `{"deliveryDays":30,"effectiveDays":7,"maximumDays":100,"messageDays":7}`, read(u))
	require.Equal(t, unset, read(other))
	for _, days := range []any{0, -1, 101, 36501, 1.5, "7", true} {
		u.do("PUT", path, u.auth(), map[string]any{"messageDays": days}).refused(422, "invalid_request")
	}
	require.EqualValues(t, 7, modelstest.Scalar[int](t, w.db, `SELECT retention_days FROM users WHERE retention_days IS NOT NULL`))
	u.do("PUT", path, u.auth(), map[string]any{"messageDays": nil}).ok(200)
	require.Equal(t, unset, read(u))
	require.EqualValues(t, 2, w.count(`system_logs WHERE message = 'retention.changed'`))
}
