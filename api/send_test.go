package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/models/modelstest"
)

// sendSchema is the documented schema of a message to send, for any JSON Schema validator.
func (w *world) sendSchema() *jsonschema.Schema {
	w.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(w.do("GET", "/openapi.json", nil, nil).text))
	require.NoError(w, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	require.NoError(w, c.AddResource("openapi.json", doc))
	s, err := c.Compile("openapi.json#/components/schemas/Send")
	require.NoError(w, err)
	return s
}

// sender is a session with one message that was sent, and one medium.
type sender struct {
	*tenant
	target, media string
}

func (u *tenant) sender(id string) *sender {
	u.Helper()
	u.connected(id)
	target := str(u.do("POST", "/api/v1/sessions/"+id+"/send", u.auth(), text("6281234567890", "target")).ok(202), "messageId")
	u.sentNow(target)
	medium, err := u.media.Put(context.Background(), uuid.MustParse(u.id), "", strings.NewReader("a medium"))
	require.NoError(u, err)
	return &sender{u, target, medium.ID.String()}
}

func (w *world) sentNow(id string) {
	w.exec(`UPDATE messages SET status = 'SENT', sent_at = now() WHERE id = $1`, id)
}

func (w *world) get(u *tenant, id string) map[string]any {
	w.Helper()
	return u.do("GET", "/api/v1/messages/"+id, u.auth(), nil).ok(200)
}

// The schema and the API take and refuse the same: each type with each field that any type takes, and without each that
// it has.
func TestSchemaOfSendsIsTrue(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u").sender("shop")
	schema, d := w.sendSchema(), w.document()
	values := map[string]any{"to": "6281234567890", "message": "👍", "linkPreview": false, "replyTo": u.target, "mentions": []string{"6281234567890"}, "forwarded": true,
		"mediaUrl": "https://example.com/x", "mediaBase64": "aGk=", "mediaId": u.media, "mimetype": "image/jpeg", "caption": "c", "filename": "f.txt",
		"location": map[string]any{"latitude": 1.5, "longitude": -2}, "contact": map[string]any{"name": "S", "phone": "6281234567890"},
		"contacts": []any{map[string]any{"name": "S", "phone": "6281234567890"}}, "poll": map[string]any{"question": "q", "options": []string{"a", "b"}},
		"messageId": u.target, "sendAt": time.Now().Add(5 * time.Minute), "ttl": 60, "priority": "high", "metadata": map[string]any{"a": []any{1, nil}}, "surprise": 1}
	branches := d.all["components"].(map[string]any)["schemas"].(map[string]any)["Send"].(map[string]any)["oneOf"].([]any)
	require.Len(t, branches, len(message.Types()))
	taken := 0
	try := func(what string, body map[string]any) {
		raw, err := json.Marshal(body)
		require.NoError(t, err)
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
		require.NoError(t, err)
		refusal := schema.Validate(instance)
		a := u.do("POST", "/api/v1/sessions/shop/send", u.auth(), string(raw))
		require.Contains(t, []int{202, 422}, a.status, "%s: %s", what, a.text)
		require.Equal(t, refusal == nil, a.status == 202, "%s: %s\nschema: %v\nAPI: %s", what, raw, refusal, a.text)
		if a.status == 202 {
			taken++
			got := w.get(u.tenant, str(a.ok(202), "messageId"))
			for name, value := range body {
				if slices.Contains([]string{"message", "caption", "filename", "mediaUrl", "forwarded", "priority", "type", "linkPreview"}, name) {
					require.Equal(t, value, got[name], "%s: %s", what, name)
				}
			}
		} else {
			require.NotEmpty(t, a.body["details"], "%s: %s", what, a.text)
		}
	}
	for _, branch := range branches {
		one := d.resolve(branch.(map[string]any))
		kind := one["title"].(string)
		example := func() map[string]any {
			body := d.example(one).(map[string]any)
			if body["messageId"] != nil {
				body["messageId"] = u.target
			}
			return body
		}
		try(kind, example())
		for name := range example() {
			body := example()
			delete(body, name)
			try(kind+" without "+name, body)
		}
		for name, value := range values {
			body := example()
			if _, has := body[name]; !has {
				body[name] = value
				try(kind+" with "+name, body)
			}
		}
	}
	require.Greater(t, taken, 60)
	body := map[string]any{"to": "6281234567890", "type": "document", "mediaId": u.media, "filename": "x.txt"}
	try("a medium by its ID", body)
	body["mediaId"] = uuid.NewString()
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), body).refused(404, "media_not_found")
	body["mediaId"], body["type"] = u.media, "image"
	delete(body, "filename")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), body).refused(422, "media_type_not_allowed")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), map[string]any{"to": "6281234567890", "type": "image", "mediaUrl": "http://169.254.169.254/"}).refused(422, "invalid_request")
	other := w.register("other")
	other.connected("others")
	body["type"] = "document"
	other.do("POST", "/api/v1/sessions/others/send", other.auth(), body).refused(404, "media_not_found")
}

func TestRepliesAndTargetsAreOfTheSession(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u").sender("shop")
	other := w.register("other").sender("others")
	send := func(body map[string]any) *answer {
		return u.do("POST", "/api/v1/sessions/shop/send", u.auth(), body)
	}
	target := w.get(u.tenant, u.target)
	reply := send(map[string]any{"to": "6281234567890", "message": "x", "replyTo": target["whatsappId"]}).ok(202)
	require.Equal(t, map[string]any{"messageId": u.target, "whatsappId": target["whatsappId"], "fromMe": true}, w.get(u.tenant, str(reply, "messageId"))["replyTo"])
	for _, name := range []string{other.target, str(w.get(other.tenant, other.target), "whatsappId"), uuid.NewString(), "3EB0C0FFEE"} {
		a := send(map[string]any{"to": "6281234567890", "message": "x", "replyTo": name}).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"replyTo"`)
		a = send(map[string]any{"type": "reaction", "messageId": name, "message": "👍"}).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"messageId"`)
	}
	require.Contains(t, send(map[string]any{"to": "6289999999999", "message": "x", "replyTo": u.target}).refused(422, "invalid_request").text, `"field":"replyTo"`)

	// A person's LID is their chat too, until the session knows that it is somebody else's.
	send(map[string]any{"to": "99887766554433@lid", "message": "x", "replyTo": u.target}).ok(202)
	w.exec(`INSERT INTO chats (session_uid, chat, phone, lid) SELECT uid, '99887766554433@lid', '+6289999999999', '99887766554433@lid' FROM sessions`)
	require.Contains(t, send(map[string]any{"to": "99887766554433@lid", "message": "x", "replyTo": u.target}).refused(422, "invalid_request").text, `"field":"replyTo"`)
	require.Contains(t, send(map[string]any{"to": "99887766554433@lid", "type": "reaction", "message": "👍", "messageId": u.target}).refused(422, "invalid_request").text, `"field":"to"`)
	require.Contains(t, send(map[string]any{"to": "6289999999999", "type": "reaction", "messageId": u.target, "message": "👍"}).refused(422, "invalid_request").text, `"field":"to"`)
	reaction := send(map[string]any{"type": "reaction", "messageId": target["whatsappId"], "message": "👍"}).ok(202)
	require.Equal(t, target["chat"], w.get(u.tenant, str(reaction, "messageId"))["chat"])
}

func TestEditRevokeReactForward(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u").sender("shop")
	call := func(id, what string, body any) *answer {
		return u.do("POST", "/api/v1/messages/"+id+"/"+what, u.auth(), body)
	}
	send := func(body map[string]any) string {
		return str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), body).ok(202), "messageId")
	}
	hello := map[string]any{"message": "hello"}

	// What waits is changed or cancelled where it is.
	pending := send(text("6281234567890", "helo"))
	require.Equal(t, pending, call(pending, "edit", hello).ok(200)["messageId"])
	require.Equal(t, "hello", w.get(u.tenant, pending)["message"])
	call(pending, "reaction", map[string]any{"emoji": "👍"}).refused(409, "not_sent")
	require.Equal(t, "cancelled", call(pending, "revoke", nil).ok(200)["status"])
	call(pending, "edit", hello).refused(409, "not_sent")
	call(pending, "revoke", nil).refused(409, "not_sent")

	// What was sent gets a message about it.
	for what, body := range map[string]any{"edit": hello, "revoke": nil, "reaction": map[string]any{"emoji": "👍🏽"}} {
		a := call(u.target, what, body)
		about := w.get(u.tenant, str(a.ok(202), "messageId"))
		require.NotEqual(t, u.target, about["id"])
		require.Equal(t, u.target, about["target"].(map[string]any)["messageId"], what)
		require.Equal(t, "/api/v1/jobs/"+str(about, "id"), a.header.Get("Location"))
		key := append(u.auth(), "Idempotency-Key", what)
		first := u.do("POST", "/api/v1/messages/"+u.target+"/"+what, key, body).ok(202)
		require.Equal(t, first, u.do("POST", "/api/v1/messages/"+u.target+"/"+what, key, body).ok(202))
		u.do("POST", "/api/v1/messages/"+pending+"/"+what, key, body).refused(409, "idempotency_mismatch")
	}
	require.Contains(t, call(u.target, "reaction", map[string]any{"emoji": "hi"}).refused(422, "invalid_request").text, `"field":"emoji"`)
	call(u.target, "reaction", map[string]any{"emoji": ""}).ok(202)

	// WhatsApp's windows.
	w.exec(`UPDATE messages SET sent_at = now() - interval '14 minutes' WHERE id = $1`, u.target)
	edit := w.get(u.tenant, str(call(u.target, "edit", hello).ok(202), "messageId"))
	ends, err := time.Parse(time.RFC3339, str(edit, "expiresAt"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Minute), ends, 20*time.Second, "an edit that waits too long is given up")
	u.do("POST", "/api/v1/sessions/shop/send", u.auth(), map[string]any{"type": "edit", "messageId": u.target, "message": "x", "sendAt": time.Now().Add(2 * time.Minute)}).refused(409, "too_late")
	w.exec(`UPDATE messages SET sent_at = now() - interval '16 minutes' WHERE id = $1`, u.target)
	call(u.target, "edit", hello).refused(409, "too_late")
	call(u.target, "revoke", nil).ok(202)
	w.exec(`UPDATE messages SET sent_at = now() - interval '61 hours' WHERE id = $1`, u.target)
	call(u.target, "revoke", nil).refused(409, "too_late")

	// Theirs, and what was deleted.
	theirs := send(text("6281234567890", "theirs"))
	w.exec(`UPDATE messages SET direction = 'INBOUND', seq = 0, status = 'DELIVERED', sent_at = now(), from_number = '+6281234567890' WHERE id = $1`, theirs)
	call(theirs, "edit", hello).refused(409, "not_editable")
	call(theirs, "revoke", nil).refused(409, "not_revocable")
	call(theirs, "retry", nil).refused(409, "not_retryable")
	reaction := w.get(u.tenant, str(call(theirs, "reaction", map[string]any{"emoji": "👍"}).ok(202), "messageId"))
	require.Equal(t, "6281234567890@s.whatsapp.net", reaction["target"].(map[string]any)["sender"])
	w.sentNow(str(reaction, "id"))
	call(str(reaction, "id"), "reaction", map[string]any{"emoji": "👍"}).refused(409, "no_reaction")
	call(str(reaction, "id"), "edit", hello).refused(409, "not_editable")
	call(str(reaction, "id"), "forward", map[string]any{"to": "6281234567890"}).refused(409, "not_forwardable")

	forwarded := w.get(u.tenant, str(call(theirs, "forward", map[string]any{"to": "+62 812 3456 7899"}).ok(202), "messageId"))
	require.Equal(t, []any{"theirs", "6281234567899@s.whatsapp.net", true, "text"}, []any{forwarded["message"], forwarded["to"], forwarded["forwarded"], forwarded["type"]})
	document := send(map[string]any{"to": "6281234567890", "type": "document", "mediaId": u.media, "filename": "x.txt", "caption": "c", "replyTo": u.target})
	copied := w.get(u.tenant, str(call(document, "forward", map[string]any{"to": "120363012345678901@g.us"}).ok(202), "messageId"))
	require.Equal(t, []any{"x.txt", "c", nil}, []any{copied["filename"], copied["caption"], copied["replyTo"]})
	require.Equal(t, u.media, copied["media"].(map[string]any)["id"])
	call(document, "forward", map[string]any{"to": "0812"}).refused(422, "invalid_request")
	w.exec(`UPDATE messages SET deleted_at = now(), status = 'SENT', sent_at = now() WHERE id = $1`, document)
	call(document, "forward", map[string]any{"to": "6281234567890"}).refused(409, "not_forwardable")
	call(document, "edit", hello).refused(409, "not_editable")
	call(document, "revoke", nil).refused(409, "not_revocable")
	call(document, "reaction", map[string]any{"emoji": "👍"}).refused(409, "no_reaction")
}

func TestRetryOverHTTP(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u").sender("shop")
	path := "/api/v1/messages/" + u.target + "/retry"
	u.do("POST", path, u.auth(), nil).refused(409, "not_retryable")
	for _, status := range []string{"FAILED", "EXPIRED", "CANCELLED"} {
		w.exec(`UPDATE messages SET status = $2, error_code = 'x', error_message = 'x', finished_at = now() WHERE id = $1`, u.target, status)
		require.Equal(t, map[int]int{202: 1, 409: 7}, parallel(8, func(int) int { return u.do("POST", path, u.auth(), nil).status }), status)
		got := w.get(u.tenant, u.target)
		require.Equal(t, []any{"pending", nil, nil}, []any{got["status"], got["errorCode"], got["finishedAt"]})
	}
	w.exec(`UPDATE messages SET status = 'UNKNOWN' WHERE id = $1`, u.target)
	u.do("POST", path, u.auth(), map[string]any{"force": false}).refused(409, "not_retryable")
	require.Equal(t, u.target, u.do("POST", path, u.auth(), map[string]any{"force": true}).ok(202)["messageId"])
	require.Equal(t, "sending", w.get(u.tenant, u.target)["status"])
}

// What is about another message is sent again only while WhatsApp allows it, and expires when it does not any more.
func TestRetryWithinTheWindow(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u").sender("shop")
	about := func(what string, body any) (id, path string) {
		id = str(u.do("POST", "/api/v1/messages/"+u.target+"/"+what, u.auth(), body).ok(202), "messageId")
		w.exec(`UPDATE messages SET status = 'EXPIRED', finished_at = now() WHERE id = $1`, id)
		return id, "/api/v1/messages/" + id + "/retry"
	}
	sent := func(ago string) {
		w.exec(`UPDATE messages SET sent_at = now() - $2::interval WHERE id = $1`, u.target, ago)
	}
	expires := func(id string) time.Time {
		at, err := time.Parse(time.RFC3339, str(w.get(u.tenant, id), "expiresAt"))
		require.NoError(t, err)
		return at
	}
	edit, retryEdit := about("edit", map[string]any{"message": "hello"})
	removal, retryRemoval := about("revoke", nil)
	reaction, retryReaction := about("reaction", map[string]any{"emoji": "👍"})

	sent("16 minutes")
	u.do("POST", retryEdit, u.auth(), nil).refused(409, "too_late")
	require.Equal(t, "expired", w.get(u.tenant, edit)["status"])
	sent("10 minutes")
	u.do("POST", retryEdit, u.auth(), nil).ok(202)
	require.WithinDuration(t, time.Now().Add(5*time.Minute), expires(edit), time.Minute)
	u.do("POST", retryEdit, u.auth(), nil).refused(409, "not_retryable")

	sent("61 hours")
	u.do("POST", retryEdit, u.auth(), nil).refused(409, "not_retryable")
	u.do("POST", retryRemoval, u.auth(), nil).refused(409, "too_late")
	u.do("POST", retryReaction, u.auth(), nil).ok(202)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), expires(reaction), time.Minute)
	sent("59 hours")
	u.do("POST", retryRemoval, u.auth(), nil).ok(202)
	require.WithinDuration(t, time.Now().Add(time.Hour), expires(removal), time.Minute)

	// The target was deleted, or is not there any more.
	w.exec(`UPDATE messages SET status = 'EXPIRED' WHERE id = ANY($1)`, []string{edit, removal, reaction})
	sent("1 minute")
	w.exec(`UPDATE messages SET deleted_at = now() WHERE id = $1`, u.target)
	u.do("POST", retryEdit, u.auth(), nil).refused(409, "not_editable")
	u.do("POST", retryRemoval, u.auth(), nil).refused(409, "not_revocable")
	u.do("POST", retryReaction, u.auth(), nil).refused(409, "no_reaction")
	w.exec(`DELETE FROM messages WHERE id = $1`, u.target)
	u.do("POST", retryRemoval, u.auth(), nil).refused(409, "not_retryable")
}

func TestBatch(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u").sender("shop")
	const path = "/api/v1/sessions/shop/messages/batch"
	batch := func(n int, change func(list []map[string]any)) map[string]any {
		var list []map[string]any
		for i := range n {
			list = append(list, text(fmt.Sprintf("62812345678%02d", i%50), fmt.Sprint(i)))
		}
		if change != nil {
			change(list)
		}
		return map[string]any{"messages": list}
	}
	before := w.rows()
	for field, change := range map[string]func([]map[string]any){
		"messages[3].to":       func(l []map[string]any) { l[3]["to"] = "0812" },
		"messages[4].message":  func(l []map[string]any) { l[4]["message"] = 5 },
		"messages[5].surprise": func(l []map[string]any) { l[5]["surprise"] = 5 },
		"messages[6].replyTo":  func(l []map[string]any) { l[6]["replyTo"] = "3EB0" },
		"messages[7].mediaUrl": func(l []map[string]any) { l[7] = map[string]any{"to": "6281234567890", "type": "image"} },
		"messages[8].location.latitude": func(l []map[string]any) {
			l[8] = map[string]any{"to": "6281234567890", "type": "location", "location": map[string]any{"latitude": 91, "longitude": 0}}
		},
		"messages[9].mediaBase64": func(l []map[string]any) {
			l[9] = map[string]any{"to": "6281234567890", "type": "image", "mediaBase64": "aGk="}
		},
	} {
		a := u.do("POST", path, u.auth(), batch(10, change)).refused(422, "invalid_request")
		require.Equal(t, field, a.body["details"].([]any)[0].(map[string]any)["field"], a.text)
	}
	a := u.do("POST", path, u.auth(), batch(10, func(l []map[string]any) {
		l[2] = map[string]any{"type": "edit", "messageId": u.target, "message": "x", "sendAt": time.Now().Add(time.Hour)}
	})).refused(409, "too_late")
	require.Contains(t, a.text, "messages[2]: ")
	a = u.do("POST", path, u.auth(), batch(10, func(l []map[string]any) {
		l[1] = map[string]any{"to": "6281234567890", "type": "sticker", "mediaId": u.media}
	})).refused(422, "media_type_not_allowed")
	require.Contains(t, a.text, "messages[1]: ")
	require.Len(t, u.do("POST", path, u.auth(), batch(100, func(l []map[string]any) {
		for i := range l {
			l[i]["to"] = "x"
		}
	})).refused(422, "invalid_request").body["details"], 20)
	u.do("POST", path, u.auth(), batch(1001, nil)).refused(422, "invalid_request")
	u.do("POST", path, u.auth(), batch(0, nil)).refused(422, "invalid_request")
	long := strings.Repeat("x", 60_000)
	u.do("POST", path, u.auth(), batch(150, func(l []map[string]any) {
		for i := range l {
			l[i]["message"] = long
		}
	})).refused(413, "too_large")
	u.do("POST", path, nil, batch(100, func(l []map[string]any) { maps.Copy(l[0], map[string]any{"message": long}) })).refused(401, "unauthenticated")
	w.unchanged(before, "refused batches")

	key := append(u.auth(), "Idempotency-Key", "k")
	body := batch(1000, func(l []map[string]any) {
		for i := range 30 {
			l[i]["message"] = long // more than other bodies may have
		}
	})
	first := u.do("POST", path, key, body)
	ids := first.ok(202)["messages"].([]any)
	require.Len(t, ids, 1000)
	again := u.do("POST", path, key, body)
	require.Equal(t, first.body["data"], again.body["data"])
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	require.EqualValues(t, 1001, w.count("messages"))
	require.Equal(t, "999", w.get(u.tenant, str(ids[999].(map[string]any), "messageId"))["message"])
	u.do("POST", "/api/v1/sessions/shop/messages/cancel", u.auth(), map[string]any{"chat": "0812"}).refused(422, "invalid_request")
	u.do("POST", "/api/v1/sessions/shop/messages/cancel", u.auth(), map[string]any{"metadata": 1}).refused(422, "invalid_request")
	require.Equal(t, map[string]any{"cancelled": 20.0, "more": false}, u.do("POST", "/api/v1/sessions/shop/messages/cancel", u.auth(), map[string]any{"chat": "+62 812345 67801"}).ok(200))
	require.Equal(t, map[string]any{"cancelled": 980.0, "more": false}, u.do("POST", "/api/v1/sessions/shop/messages/cancel", u.auth(), map[string]any{}).ok(200))
	require.EqualValues(t, 1000, w.count("events WHERE type = 'message.cancelled'"))
	require.EqualValues(t, 1000, modelstest.Scalar[int64](t, w.db, `SELECT count(DISTINCT data->>'id') FROM events WHERE type = 'message.cancelled'`))
	u.session("unlinked")
	u.do("POST", "/api/v1/sessions/unlinked/messages/batch", u.auth(), batch(2, nil)).refused(409, "session_not_linked")
}
