package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

// order has a session change, and waits for the end of the job.
func (t *tenant) order(what string) map[string]any {
	t.Helper()
	a := t.ask("POST", "/"+what, nil)
	data := a.ok(202)
	require.Equal(t, "/api/v1/jobs/"+str(data, "jobId"), a.header.Get("Location"))
	return t.jobDone(str(data, "jobId"))
}

func (t *tenant) jobDone(id string) map[string]any {
	t.Helper()
	t.eventually("the job's success", func() bool {
		job := t.read("/jobs/" + id).ok(200)
		require.NotEqual(t, "failed", job["status"], job)
		return job["status"] == "succeeded"
	})
	return t.read("/jobs/" + id).ok(200)
}

func (t *tenant) becomes(status, reason string) {
	t.Helper()
	t.eventually("the session to be "+status+" "+reason, func() bool {
		s := t.read("/sessions/shop").ok(200)
		return s["status"] == status && (reason == "" && s["reason"] == nil || s["reason"] == reason)
	})
}

// network posts to the simulated network.
func (w *world) network(url string, body any) {
	w.Helper()
	raw, err := json.Marshal(body)
	require.NoError(w, err)
	resp, err := client.Post(url, "application/json", strings.NewReader(string(raw)))
	require.NoError(w, err)
	require.Equal(w, 200, read(w, resp).status)
}

// A session's whole life, on real nodes and phones.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	w.clockwork()
	phones := w.fleet(simnet.Config{ScanDelay: -1}, "a", "b")
	u := w.register("u")
	key := u.session("shop")
	uid := w.uidOf("shop")
	scan := func() {
		t.Helper()
		u.becomes("qr_required", "")
		w.network(phones+"/sessions/"+uid+"/scan", nil)
		u.becomes("connected", "")
	}
	send := func(text string) *answer {
		return u.ask("POST", "/send", map[string]any{"to": "6281234567890", "message": text})
	}
	shown := func() []string {
		t.Helper()
		resp, err := http.Get(phones + "/phones/6281234567890/messages")
		require.NoError(t, err)
		list := []string{}
		for _, m := range read(t, resp).body["messages"].([]any) {
			list = append(list, str(m.(map[string]any), "text"))
		}
		return list
	}
	scan()
	number := str(u.read("/sessions/shop").ok(200), "phoneNumber")
	w.do("POST", "/api/v1/sessions/shop/stop", bearer(key), nil).refused(403, "forbidden")

	// Stopped, and started again without a scan. What waits, waits.
	w.network(phones+"/config", map[string]any{"sendLatency": "200ms"})
	send("in hand").ok(202)
	w.eventually("the send", func() bool { return w.count("messages WHERE status = 'SENDING'") == 1 })
	job := u.order("stop")
	require.Equal(t, map[string]any{"sessionId": "shop", "status": "disconnected", "reason": "stopped"}, job["result"])
	s := u.read("/sessions/shop").ok(200)
	require.Equal(t, []any{"disconnected", "stopped", "stopped", nil, number}, fields(s, "status", "reason", "desired", "workerId", "phoneNumber"))
	require.Equal(t, []string{"in hand"}, shown(), "the sends in hand are finished")
	send("too late").refused(409, "session_not_linked")
	u.ask("GET", "/qr", nil).refused(409, "qr_not_ready")
	u.ask("GET", "/groups", nil).refused(409, "session_not_linked")
	require.Equal(t, "database", u.read("/sessions/shop/status").ok(200)["source"])
	w.network(phones+"/config", map[string]any{"sendLatency": "0s"})

	a := u.do("POST", "/api/v1/sessions/shop/start", append(u.auth(), "Prefer", "wait=20"), nil)
	require.Equal(t, []any{"connected", "running"}, []any{a.ok(200)["status"], a.ok(200)["desired"]})
	require.Equal(t, number, str(u.read("/sessions/shop").ok(200), "phoneNumber"))
	send("after the start").ok(202)
	w.eventually("the message", func() bool { return len(shown()) == 2 })

	// A restart keeps the worker.
	at := str(u.read("/sessions/shop").ok(200), "workerId")
	epoch := modelstest.Scalar[int64](t, w.db, `SELECT epoch FROM sessions`)
	u.order("restart")
	u.becomes("connected", "")
	require.Equal(t, at, str(u.read("/sessions/shop").ok(200), "workerId"))
	require.Equal(t, epoch+1, modelstest.Scalar[int64](t, w.db, `SELECT epoch FROM sessions`))

	// The phone unlinks the device: a start shows a new QR code.
	w.network(phones+"/sessions/"+uid+"/unlink", nil)
	u.becomes("disconnected", "logged_out")
	require.Nil(t, u.read("/sessions/shop").ok(200)["phoneNumber"], "no phone is linked")
	send("unlinked").refused(409, "session_not_linked")
	u.order("start")
	scan()

	// Logged out with something that waits: it is cancelled, and told.
	w.exec(`UPDATE lanes SET holder = NULL, next_due_at = NULL`)
	w.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, content, status, whatsapp_id, send_at, expires_at)
		VALUES (kurir_uuid_v7(), $1::text::uuid, 'OUTBOUND', 1000, 'c', '6281234567890@s.whatsapp.net', 'TEXT', 'later', 'PENDING', 'later', now() + interval '1 hour', now() + interval '1 day')`, uid)
	job = u.order("logout")
	require.Equal(t, map[string]any{"sessionId": "shop", "status": "disconnected", "reason": "logged_out", "unlinked": true}, job["result"])
	require.EqualValues(t, 1, w.count("messages WHERE status = 'CANCELLED' AND error_code = 'logged_out'"))
	require.EqualValues(t, 1, w.count("events WHERE type = 'message.cancelled'"))
	s = u.read("/sessions/shop").ok(200)
	require.Equal(t, []any{"disconnected", "logged_out", "logged_out", nil, nil, nil}, fields(s, "status", "reason", "desired", "workerId", "linkedAt", "phoneNumber"))
	require.Nil(t, u.read("/sessions/shop/status").ok(200)["phoneNumber"])
	send("logged out").refused(409, "session_not_linked")

	// Another number, by a code. Nothing was left that could go out from it.
	u.order("start")
	u.becomes("qr_required", "")
	require.Nil(t, u.read("/sessions/shop").ok(200)["phoneNumber"])
	require.Zero(t, w.count("events WHERE type = 'session.status' AND (data->>'reason' = 'logged_out' OR data->>'status' = 'qr_required') AND data->>'phoneNumber' IS NOT NULL"))
	require.NotZero(t, w.count("events WHERE type = 'session.status' AND data->>'status' = 'connected' AND data->>'phoneNumber' = $1", number))
	code := u.ask("POST", "/pairing-code", map[string]any{"phoneNumber": "+62 877 0000 1111"}).ok(200)
	require.NotEmpty(t, code["expiresAt"])
	w.network(phones+"/phones/6287700001111/pair", map[string]any{"code": code["code"]})
	u.becomes("connected", "")
	require.Equal(t, "+6287700001111", u.read("/sessions/shop").ok(200)["phoneNumber"])
	u.ask("POST", "/pairing-code", map[string]any{"phoneNumber": "+6287700001111"}).refused(409, "already_linked")

	// Stopped and deleted: the phone forgets it all the same.
	u.order("stop")
	deleted := u.do("DELETE", "/api/v1/sessions/shop", u.auth(), nil).ok(202)
	require.Equal(t, true, u.jobDone(str(deleted, "jobId"))["result"].(map[string]any)["unlinked"])
	resp, err := http.Get(phones + "/report")
	require.NoError(t, err)
	report := read(t, resp).body
	require.Equal(t, []any{0.0, 0.0, 0.0}, []any{report["duplicates"], report["reordered"], report["doubleConnections"]})
	require.Equal(t, false, report["perSession"].(map[string]any)[uid].(map[string]any)["linked"])
}

// Nobody scans in time: a start shows another QR code.
func TestStartAfterNobodyScanned(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)), func(w *world, _ *api.Config) { w.scan = 300 * time.Millisecond })
	w.runner()
	w.clockwork()
	phones := w.phones(simnet.Config{ScanDelay: -1})
	u := w.register("u")
	u.session("shop")
	u.becomes("disconnected", "qr_timeout")
	u.ask("GET", "/qr", nil).refused(409, "qr_not_ready")
	u.ask("POST", "/start", nil).ok(202)
	w.eventually("a new QR code to be scanned", func() bool {
		resp, err := client.Post(phones+"/sessions/"+w.uidOf("shop")+"/scan", "application/json", nil)
		require.NoError(t, err)
		if read(t, resp).status == 200 {
			return true
		}
		if u.read("/sessions/shop").ok(200)["reason"] == "qr_timeout" {
			u.ask("POST", "/start", nil).ok(202)
		}
		return false
	})
	u.becomes("connected", "")
}

// What is passed on, through a real node to the simulated network and back.
func TestPassingOn(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	w.runner()
	phones := w.phones(simnet.Config{})
	u := w.register("u")
	u.session("shop")
	u.becomes("connected", "")
	own := str(u.read("/sessions/shop").ok(200), "phoneNumber")

	checked := u.ask("POST", "/contacts/check", map[string]any{"numbers": []string{"+62 812-3456-7890", "6281230000"}}).ok(200)["contacts"].([]any)
	require.Equal(t, map[string]any{"number": "+62 812-3456-7890", "exists": true, "jid": "6281234567890@s.whatsapp.net", "lid": nil}, checked[0])
	require.Equal(t, map[string]any{"number": "6281230000", "exists": false, "jid": nil, "lid": nil}, checked[1])
	u.ask("GET", "/contacts/6281230000", nil).refused(404, "contact_not_found")
	require.Equal(t, "+6281234567890", u.ask("GET", "/contacts/6281234567890", nil).ok(200)["phone"])
	require.Contains(t, u.ask("GET", "/contacts/6281234567890/picture", nil).ok(200)["url"], phones)

	made := u.ask("POST", "/groups", map[string]any{"subject": "Customers", "participants": []string{"6281234567890", "6281111111111"}}).ok(201)
	group := "/groups/" + str(made, "id")
	require.Equal(t, []any{3.0, 2}, []any{made["size"], len(made["results"].([]any))})
	u.ask("POST", "/send", map[string]any{"to": made["id"], "message": "to the group"}).ok(202)
	w.eventually("the message on a member's phone", func() bool {
		resp, err := http.Get(phones + "/phones/6281111111111/messages")
		require.NoError(t, err)
		return strings.Contains(read(t, resp).text, "to the group")
	})
	u.ask("POST", "/send", map[string]any{"to": "6281234567890", "message": "hello"}).ok(202)
	w.eventually("the contact", func() bool { return len(u.ask("GET", "/contacts", nil).ok(200)["contacts"].([]any)) == 1 })
	removed := u.ask("DELETE", group+"/participants", map[string]any{"participants": []string{"6281111111111", "6289999999"}}).ok(200)["participants"].([]any)
	require.Equal(t, []any{map[string]any{"jid": "6281111111111@s.whatsapp.net", "ok": true}, map[string]any{"jid": "6289999999@s.whatsapp.net", "ok": false, "code": "not_member"}}, removed)
	u.ask("POST", group+"/participants", map[string]any{"participants": []string{"6282222222"}}).ok(200)
	u.ask("PATCH", group+"/participants", map[string]any{"participants": []string{"6282222222"}, "role": "admin"}).ok(200)
	require.Contains(t, u.ask("GET", group, nil).text, `{"jid":"6282222222@s.whatsapp.net","phone":"+6282222222","lid":null,"name":null,"role":"admin"}`)
	link := str(u.ask("GET", group+"/invite", nil).ok(200), "link")
	require.NotEqual(t, link, str(u.ask("POST", group+"/invite/revoke", nil).ok(200), "link"))
	u.ask("POST", "/groups/join", map[string]any{"link": link}).refused(409, "invite_invalid")

	// Two more groups, page by page.
	for _, subject := range []string{"b", "c"} {
		u.ask("POST", "/groups", map[string]any{"subject": subject, "participants": []string{"6281234567890"}}).ok(201)
	}
	seen, cursor := map[string]bool{}, ""
	for {
		page := u.ask("GET", "/groups?limit=1&cursor="+cursor, nil).ok(200)
		for _, g := range page["groups"].([]any) {
			seen[str(g.(map[string]any), "id")] = true
		}
		if page["nextCursor"] == nil {
			break
		}
		cursor = str(page, "nextCursor")
	}
	require.Len(t, seen, 3)
	u.ask("POST", group+"/leave", nil).ok(200)
	u.ask("GET", group, nil).refused(404, "group_not_found")

	u.ask("POST", "/presence", map[string]any{"state": "composing", "chat": "6281234567890"}).ok(200)
	u.ask("POST", "/presence/subscribe", map[string]any{"contact": "6281234567890"}).ok(200)
	w.network(phones+"/inject/message", map[string]any{"sessionId": w.uidOf("shop"), "from": "6281234567890", "text": "hi", "name": "Sari", "whatsappId": "HI"})
	w.eventually("what came in", func() bool { return w.count("messages WHERE direction = 'INBOUND' AND content = 'hi'") == 1 })
	require.GreaterOrEqual(t, u.ask("POST", "/read", map[string]any{"chat": "6281234567890"}).ok(200)["marked"], 1.0)
	require.Equal(t, "Sari", u.ask("GET", "/contacts/6281234567890", nil).ok(200)["name"])
	resp, err := http.Get(phones + "/phones/6281234567890")
	require.NoError(t, err)
	phone := read(t, resp).body
	require.Equal(t, map[string]any{own: "composing"}, phone["presence"])
	require.Contains(t, phone["read"], "HI")

	u.passesAsDocumented(map[string]string{"own": strings.TrimPrefix(own, "+") + "@s.whatsapp.net"})

	u.ask("GET", "/labels", nil).refused(501, "unsupported")
	u.ask("PUT", "/labels/1/chats/6281234567890", nil).refused(501, "unsupported")
	u.ask("DELETE", "/labels/1/chats/6281234567890", nil).refused(501, "unsupported")
}
