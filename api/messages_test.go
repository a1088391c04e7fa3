package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

func TestSend(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	for path, with := range map[string]headers{"/api/v1/sessions/shop/send": u.auth(), "/api/v1/sessions/shop/messages": {"X-Api-Key", u.key}, "/api/v1/messages": bearer(key), "/api/sessions/shop/send": bearer(key)} {
		a := u.do("POST", path, with, map[string]any{"to": "6281234567890@s.whatsapp.net", "type": "text", "message": "Hello from API!"})
		data := a.ok(202)
		require.Equal(t, "pending", data["status"], path)
		require.Equal(t, data["messageId"], data["jobId"])
		require.Equal(t, "/api/v1/jobs/"+str(data, "messageId"), a.header.Get("Location"))
		message := u.do("GET", "/api/v1/messages/"+str(data, "messageId"), bearer(key), nil).ok(200)
		require.Equal(t, []any{"6281234567890@s.whatsapp.net", "text", "Hello from API!", "outbound", "pending", "turn", "shop"},
			[]any{message["to"], message["type"], message["message"], message["direction"], message["status"], message["waitingFor"], message["sessionId"]})
	}
	u.do("POST", "/api/v1/messages", u.auth(), text("6281234567890", "x")).refused(403, "session_key_needed")
	u.session("unlinked")
	before := w.rows()
	u.do("POST", "/api/v1/sessions/unlinked/send", u.auth(), text("6281234567890", "x")).refused(409, "session_not_linked")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), map[string]any{"to": "6281234567890", "message": "x", "type": "image"}).refused(422, "invalid_request")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", strings.Repeat("é", 65_537))).refused(422, "invalid_request")
	w.unchanged(before, "refused sends")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", strings.Repeat("\U0001F600", 65_536))).ok(202)
	escaped := strings.Repeat(`\ud83d\ude00`, 65_536)
	long := u.do("POST", "/api/v1/sessions/shop/send", u.auth(), `{"to":"6281234567890","message":"`+escaped+`"}`).ok(202)
	require.Equal(t, strings.Repeat("\U0001F600", 65_536), u.do("GET", "/api/v1/messages/"+str(long, "messageId"), u.auth(), nil).ok(200)["message"])
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	for to, jid := range map[string]string{
		"6281234567890": "6281234567890@s.whatsapp.net", "+62 812-3456-7890": "6281234567890@s.whatsapp.net", "(62) 812.3456.7890": "6281234567890@s.whatsapp.net",
		"6281234567890@c.us": "6281234567890@s.whatsapp.net", "6281234567890@S.WhatsApp.net": "6281234567890@s.whatsapp.net", " 6281234567890 ": "6281234567890@s.whatsapp.net",
		"120363012345678901@g.us": "120363012345678901@g.us", "6281234567890-1600000000@g.us": "6281234567890-1600000000@g.us",
		"123456789012345@lid": "123456789012345@lid", "120363012345678901@newsletter": "120363012345678901@newsletter",
	} {
		data := u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text(to, "x")).ok(202)
		require.Equal(t, jid, u.do("GET", "/api/v1/messages/"+str(data, "messageId"), u.auth(), nil).ok(200)["to"], to)
	}
	before := w.rows()
	for _, to := range []string{"abc", "+", "123456", "1234567890123456", "++6281234567890", "62812x4567890", "@s.whatsapp.net", "6281234567890@", "6281234567890@example.com",
		"status@broadcast", "6281234567890:1@s.whatsapp.net", "6281234567890@s.whatsapp.net@g.us", "٦٢٨١٢٣٤٥٦٧٨٩٠", "6281234567890\n", "6281234567890@s.whatsapp.net\n"} {
		a := u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text(to, "x"))
		if strings.TrimSpace(to) != to && a.status == 202 { // white space around it is none of our business
			before = w.rows()
			continue
		}
		require.Equal(t, "to", a.refused(422, "invalid_request").body["details"].([]any)[0].(map[string]any)["field"], to)
	}
	w.unchanged(before, "bad recipients")
}

// Messages that really go out, and what a client sees of them.
func TestSendAndWait(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	w.phones(simnet.Config{Reply: simnet.ReplyEcho})
	u := w.register("u")
	key := str(u.do("POST", "/api/v1/sessions", append(u.auth(), "Prefer", "wait=20"), named("shop")).ok(200), "apiKey")
	u.eventually("the connection", func() bool {
		return u.do("GET", "/api/v1/sessions/shop", u.auth(), nil).ok(200)["status"] == "connected"
	})
	send := func(to string) (*answer, map[string]any) {
		a := u.do("POST", "/api/v1/messages", append(bearer(key), "Prefer", "wait=999"), text(to, "hello"))
		require.Equal(t, "wait=30", a.header.Get("Preference-Applied"), a.text)
		return a, a.ok(200)
	}
	a, sent := send("6281234567890")
	require.Equal(t, []any{"sent", nil}, []any{sent["status"], sent["errorCode"]})
	job := u.do("GET", a.header.Get("Location"), bearer(key), nil).ok(200)
	require.Equal(t, []any{"succeeded", "message:send"}, []any{job["status"], job["type"]})
	require.NotNil(t, job["finishedAt"])
	a, failed := send("6281234560000")
	require.Equal(t, []any{"failed", "not_on_whatsapp"}, []any{failed["status"], failed["errorCode"]})
	require.NotEmpty(t, failed["error"])
	job = u.do("GET", a.header.Get("Location"), bearer(key), nil).ok(200)
	require.Equal(t, "failed", job["status"])
	require.Equal(t, failed["error"], job["error"])
	u.do("DELETE", "/api/v1/messages/"+str(sent, "messageId"), u.auth(), nil).refused(409, "not_pending")

	var inbound []any
	u.eventually("the reply", func() bool {
		inbound = u.do("GET", "/api/v1/sessions/shop/messages?direction=inbound", bearer(key), nil).ok(200)["messages"].([]any)
		return len(inbound) == 1
	})
	reply := inbound[0].(map[string]any)
	require.Equal(t, "echo: hello", reply["message"])
	u.do("GET", "/api/v1/jobs/"+str(reply, "id"), u.auth(), nil).refused(404, "job_not_found")
	u.eventually("the receipt", func() bool {
		return u.do("GET", "/api/v1/messages/"+str(sent, "messageId"), u.auth(), nil).ok(200)["status"] == "read"
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	w := start(t, allowLoopback)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.do("PUT", "/api/v1/sessions/shop/webhook", u.auth(), map[string]any{"url": "http://127.0.0.1:9/", "events": []string{"message.cancelled"}}).ok(200)
	id := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "x")).ok(202), "messageId")
	require.Equal(t, map[int]int{200: 1, 409: 9}, parallel(10, func(int) int { return u.do("DELETE", "/api/v1/messages/"+id, u.auth(), nil).status }))
	require.Equal(t, "cancelled", u.do("GET", "/api/v1/messages/"+id, u.auth(), nil).ok(200)["status"])
	require.Equal(t, "cancelled", u.do("GET", "/api/v1/jobs/"+id, u.auth(), nil).ok(200)["status"])
	require.EqualValues(t, 1, w.count("events WHERE type = 'message.cancelled'"))
	deliveries := u.do("GET", "/api/v1/sessions/shop/webhook/deliveries", u.auth(), nil).ok(200)["deliveries"].([]any)
	require.Len(t, deliveries, 1)
	for status, job := range map[string]string{"PENDING": "queued", "SENDING": "running", "SENT": "succeeded", "DELIVERED": "succeeded", "READ": "succeeded",
		"FAILED": "failed", "UNKNOWN": "failed", "EXPIRED": "failed", "CANCELLED": "cancelled"} {
		w.exec(`UPDATE messages SET status = $1`, status)
		data := u.do("GET", "/api/v1/jobs/"+id, u.auth(), nil).ok(200)
		require.Equal(t, job, data["status"], status)
		require.Equal(t, strings.ToLower(status), data["result"].(map[string]any)["status"])
		if status != "PENDING" {
			u.do("DELETE", "/api/v1/messages/"+id, u.auth(), nil).refused(409, "not_pending")
		}
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	var want []string
	for i := range 9 {
		data := u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text(fmt.Sprintf("628123456789%d", i%3), fmt.Sprint(i))).ok(202)
		want = append([]string{str(data, "messageId")}, want...)
	}
	const path = "/api/v1/sessions/shop/messages"
	for _, limit := range []int{1, 2, 8, 9, 10} {
		require.Equal(t, want, u.pages(path, "messages", limit))
	}
	w.exec(`UPDATE messages SET status = 'SENT' WHERE id = $1`, want[0])
	w.exec(`UPDATE messages SET message_type = 'IMAGE' WHERE id = $1`, want[1])
	session := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT uid FROM sessions`)
	old := models.InboundID(session, "c", "s", "w", time.Date(2020, 5, 1, 0, 0, 0, 0, time.UTC), time.Now())
	w.exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, status, whatsapp_id) VALUES ($1, $2, 'INBOUND', '628@s.whatsapp.net', '628', 'TEXT', 'DELIVERED', 'w')`, old, session)
	for query, count := range map[string]int{
		"": 10, "direction=inbound": 1, "direction=outbound": 9, "status=sent": 1, "status=pending": 8, "type=image": 1, "type=text": 9, "chat=6281234567891": 3,
		"chat=%2B62-812-3456-7891": 3, "chat=6281234567891@c.us&status=pending": 3, "since=2026-01-01T00:00:00Z": 9, "until=2026-01-01T00:00:00Z": 1,
		"since=2020-05-01T00:00:00Z&until=2020-05-01T00:00:00.001Z": 1, "since=2020-05-01T07:00:00%2B07:00": 10, "since=9999-12-31T23:59:59Z": 0, "until=9999-12-31T23:59:59Z": 10,
		"since=0000-01-01T00:00:00Z": 10, "since=1960-01-01T00:00:00Z": 10, "until=1960-01-01T00:00:00Z": 0, "until=0000-01-01T00:00:00Z": 0, "limit=": 10,
	} {
		require.Len(t, u.do("GET", path+"?"+query, u.auth(), nil).ok(200)["messages"], count, query)
	}
}
