package api_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

const keysPath = "/api/v1/api-keys"

// accountKey is a key of an account.
type accountKey struct{ id, secret string }

// newKey makes a key with some scopes. It expires if there is a time.
func (t *tenant) newKey(expires *time.Time, scopes ...string) accountKey {
	t.Helper()
	fields := map[string]any{"name": "Key", "scopes": scopes}
	if expires != nil {
		fields["expiresAt"] = expires
	}
	made := t.do("POST", keysPath, t.auth(), fields).ok(201)
	return accountKey{str(made, "id"), str(made, "apiKey")}
}

// keys lists a tenant's keys by ID.
func (t *tenant) keys() map[string]map[string]any {
	t.Helper()
	list := map[string]map[string]any{}
	for _, k := range t.do("GET", keysPath, t.auth(), nil).ok(200)["apiKeys"].([]any) {
		key := k.(map[string]any)
		list[str(key, "id")] = key
	}
	return list
}

func (t *tenant) rotate(id string, body any) *answer {
	t.Helper()
	return t.do("POST", keysPath+"/"+id+"/rotate", t.auth(), body)
}

const me = "/api/v1/auth/me"

func (w *world) good(secret string) {
	w.Helper()
	w.do("GET", me, headers{"X-Api-Key", secret}, nil).ok(200)
}

func (w *world) bad(secret string) {
	w.Helper()
	w.do("GET", me, headers{"X-Api-Key", secret}, nil).refused(401, "invalid_api_key")
}

func TestAccountKeys(t *testing.T) {
	t.Parallel()
	w := start(t)
	u, other := w.register("u"), w.register("other")
	first := u.keys()
	require.Len(t, first, 1, "the one of the registration")
	for id, key := range first {
		require.Equal(t, []any{"Account key", []any{"send", "read", "manage"}, nil, false, u.key[:10]}, []any{key["name"], key["scopes"], key["expiresAt"], key["expired"], key["prefix"]})
		other.do("PATCH", keysPath+"/"+id, other.auth(), map[string]any{"name": "mine"}).refused(404, "api_key_not_found")
	}

	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	a := u.do("POST", keysPath, u.auth(), map[string]any{"name": "  Shop  ", "scopes": []string{"manage", "send"}, "expiresAt": until})
	made := a.ok(201)
	secret := str(made, "apiKey")
	require.Regexp(t, `^kur_[A-Za-z0-9_-]{43}$`, secret)
	require.Equal(t, []any{"Shop", []any{"send", "manage"}, until.Format(time.RFC3339), nil, nil}, []any{made["name"], made["scopes"], made["expiresAt"], made["lastUsedAt"], made["previousUntil"]})
	w.good(secret)
	listed := u.keys()[str(made, "id")]
	require.NotNil(t, listed["lastUsedAt"])
	require.NotContains(t, listed, "apiKey")
	require.Empty(t, other.keys()[str(made, "id")])
	row := modelstest.Scalar[string](t, w.db, `SELECT row_to_json(k)::text FROM api_keys k WHERE id = $1`, str(made, "id"))
	require.NotContains(t, row, secret[10:])

	// The last use is written to the minute, not with each request.
	w.exec(`UPDATE api_keys SET last_used = now() - interval '30 seconds', name = name || '.' WHERE id = $1`, str(made, "id"))
	w.exec(`UPDATE users SET name = name || '.' WHERE id = $1`, u.id) // so that it is looked up anew
	before := modelstest.Scalar[time.Time](t, w.db, `SELECT last_used FROM api_keys WHERE id = $1`, str(made, "id"))
	w.eventually("the change to be heard", func() bool {
		return w.do("GET", me, headers{"X-Api-Key", secret}, nil).ok(200)["user"].(map[string]any)["name"] == "u."
	})
	require.Equal(t, before, modelstest.Scalar[time.Time](t, w.db, `SELECT last_used FROM api_keys WHERE id = $1`, str(made, "id")))

	untouched := w.rows()
	for what, body := range map[string]any{
		"no scopes": map[string]any{"name": "x"}, "null": map[string]any{"name": "x", "scopes": nil}, "a scope that is null": map[string]any{"name": "x", "scopes": []any{nil}}, "empty": map[string]any{"name": "x", "scopes": []string{}}, "unknown": map[string]any{"name": "x", "scopes": []string{"admin"}},
		"twice": map[string]any{"name": "x", "scopes": []string{"read", "read"}}, "case": map[string]any{"name": "x", "scopes": []string{"READ"}}, "text": map[string]any{"name": "x", "scopes": "read"},
		"no name": map[string]any{"scopes": []string{"read"}}, "blank": map[string]any{"name": " \t", "scopes": []string{"read"}}, "long": map[string]any{"name": strings.Repeat("x", 101), "scopes": []string{"read"}},
		"past": map[string]any{"name": "x", "scopes": []string{"read"}, "expiresAt": time.Now().Add(-time.Second)}, "now": map[string]any{"name": "x", "scopes": []string{"read"}, "expiresAt": time.Now()},
		"no time": map[string]any{"name": "x", "scopes": []string{"read"}, "expiresAt": "tomorrow"}, "a key of its own": map[string]any{"name": "x", "scopes": []string{"read"}, "apiKey": "kur_mine"},
	} {
		require.Equal(t, 422, u.do("POST", keysPath, u.auth(), body).status, what)
	}
	for _, body := range []any{map[string]any{"scopes": []string{}}, map[string]any{"scopes": []string{"root"}}, map[string]any{"name": ""}, map[string]any{"expiresAt": until}} {
		u.do("PATCH", keysPath+"/"+str(made, "id"), u.auth(), body).refused(422, "invalid_request")
	}
	for _, body := range []any{map[string]any{"overlap": -1}, map[string]any{"overlap": 604801}, map[string]any{"overlap": "1h"}, map[string]any{"overlap": 1.5}} {
		u.rotate(str(made, "id"), body).refused(422, "invalid_request")
	}
	sessionKeyID := func() string {
		w.worker()
		u.session("shop")
		return modelstest.Scalar[uuid.UUID](t, w.db, `SELECT id FROM api_keys WHERE session_uid IS NOT NULL`).String()
	}
	w.unchanged(untouched, "refused keys")
	for _, id := range []string{"x", uuid.NewString(), strings.ToUpper(uuid.NewString()), "%00", sessionKeyID()} {
		for _, call := range []struct{ method, path string }{{"DELETE", ""}, {"PATCH", ""}, {"POST", "/rotate"}} {
			require.Contains(t, []int{404, 422}, u.do(call.method, keysPath+"/"+id+call.path, u.auth(), map[string]any{}).status, id)
		}
	}
	require.Len(t, u.keys(), 2, "not the session's")

	renamed := u.do("PATCH", keysPath+"/"+str(made, "id"), u.auth(), map[string]any{"name": " Other "}).ok(200)
	require.Equal(t, []any{"Other", []any{"send", "manage"}}, []any{renamed["name"], renamed["scopes"]})
	u.do("DELETE", keysPath+"/"+str(made, "id"), u.auth(), nil).ok(200)
	w.bad(secret)
	u.do("DELETE", keysPath+"/"+str(made, "id"), u.auth(), nil).refused(404, "api_key_not_found")
	u.rotate(str(made, "id"), nil).refused(404, "api_key_not_found")
	require.EqualValues(t, 1, w.count("api_keys WHERE id = $1 AND NOT is_active AND deactivated_at IS NOT NULL", str(made, "id")), "usage refers to it")
	require.EqualValues(t, 3, w.count(`system_logs WHERE message LIKE 'api_key.%' AND user_id = $1 AND details->>'keyId' = $2`, u.id, str(made, "id")), "made, changed, deleted")
	require.NotContains(t, w.log.String(), "kur_")
}

// However many ask at once, there are never more than 50.
func TestNumberOfAccountKeys(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	w.exec(`INSERT INTO api_keys (id, key_hash, prefix, user_id, name) SELECT kurir_uuid_v7(), sha256(n::text::bytea), 'kur_', $1, 'x' FROM generate_series(1, 45) n`, u.id)
	body := map[string]any{"name": "x", "scopes": []string{"read"}}
	require.Equal(t, map[int]int{201: 4, 403: 8}, parallel(12, func(int) int { return u.do("POST", keysPath, u.auth(), body).status }))
	u.do("POST", keysPath, u.auth(), body).refused(403, "api_key_limit")
	all := u.keys()
	require.Len(t, all, 50)
	for id := range all {
		u.do("DELETE", keysPath+"/"+id, u.auth(), nil).ok(200)
		break
	}
	once := append(u.auth(), "Idempotency-Key", "one")
	for status := range parallel(4, func(int) int { return u.do("POST", keysPath, once, body).status }) {
		require.Contains(t, []int{201, 409}, status, "one key, in progress or made")
	}
	again := u.do("POST", keysPath, once, body)
	require.Equal(t, "true", again.header.Get("Idempotency-Replayed"))
	require.NotContains(t, again.ok(201), "apiKey", "a secret is shown once")
	require.Len(t, u.keys(), 50)
}

// An API key gets no further than its scopes, whatever it asks for.
func TestKeysMakeNoKeys(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	session := u.connected("shop")
	limited := u.newKey(nil, "read")
	for _, secret := range []string{u.key, limited.secret, session, u.newKey(nil, "manage").secret} {
		before := w.rows()
		for _, with := range []headers{{"X-Api-Key", secret}, bearer(secret)} {
			w.do("GET", keysPath, with, nil).refused(403, "forbidden")
			w.do("POST", keysPath, with, map[string]any{"name": "x", "scopes": []string{"send", "read", "manage"}}).refused(403, "forbidden")
			w.do("PATCH", keysPath+"/"+limited.id, with, map[string]any{"scopes": []string{"send", "read", "manage"}}).refused(403, "forbidden")
			w.do("POST", keysPath+"/"+limited.id+"/rotate", with, nil).refused(403, "forbidden")
			w.do("DELETE", keysPath+"/"+limited.id, with, nil).refused(403, "forbidden")
		}
		w.do("GET", keysPath+"?apiKey="+secret, nil, nil).refused(403, "forbidden")
		w.unchanged(before, "keys that ask for keys")
	}

	// Each scope by what it is for; the other way round is the matrix.
	send, read, manage := u.newKey(nil, "send"), limited, u.newKey(nil, "manage")
	sent := w.do("POST", "/api/v1/sessions/shop/send", bearer(send.secret), text("6281234567890", "hello")).ok(202)
	w.do("GET", "/api/v1/jobs/"+str(sent, "jobId"), bearer(send.secret), nil).ok(200)
	refused := w.do("GET", "/api/v1/sessions/shop/messages", bearer(send.secret), nil).refused(403, "missing_scope")
	require.Contains(t, refused.body["error"], "read")
	w.do("GET", "/api/v1/sessions/shop/messages", bearer(read.secret), nil).ok(200)
	w.do("POST", "/api/v1/sessions/shop/send", bearer(manage.secret), text("6281234567890", "hello")).refused(403, "missing_scope")
	w.do("PATCH", "/api/v1/sessions/shop", bearer(manage.secret), map[string]any{"name": "New"}).ok(200)
	// A media body is not even read for a key that may not send it.
	w.do("POST", "/api/v1/sessions/shop/media", bearer(read.secret), strings.Repeat("x", 1<<20)).refused(403, "missing_scope")

	// What the owner changes counts at once, here and on other processes.
	b := startOn(t, w.db)
	b.good(read.secret)
	u.do("PATCH", keysPath+"/"+read.id, u.auth(), map[string]any{"scopes": []string{"send"}}).ok(200)
	w.do("GET", "/api/v1/sessions", bearer(read.secret), nil).refused(403, "missing_scope")
	b.eventually("the other process to hear of it", func() bool { return b.do("GET", "/api/v1/sessions", bearer(read.secret), nil).status == 403 })
	w.do("POST", "/api/v1/sessions/shop/send", bearer(read.secret), text("6281234567890", "hello")).ok(202)
}

func TestRotation(t *testing.T) {
	t.Parallel()
	w := start(t)
	b := startOn(t, w.db)
	u := w.register("u")
	k := u.newKey(nil, "read", "manage")
	one := k.secret
	next := u.rotate(k.id, nil).ok(200)
	two := str(next, "apiKey")
	require.Equal(t, k.id, next["id"])
	require.Equal(t, []any{"read", "manage"}, next["scopes"])
	until, err := time.Parse(time.RFC3339, str(next, "previousUntil"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(24*time.Hour), until, time.Minute)
	require.NotEqual(t, one[:10], str(next, "prefix"))
	for _, p := range []*world{w, b} {
		p.good(one)
		p.good(two)
	}
	w.do("POST", "/api/v1/sessions/x/send", bearer(one), text("6281234567890", "x")).refused(403, "missing_scope") // the former one has no more rights

	three := str(u.rotate(k.id, map[string]any{"overlap": 604800}).ok(200), "apiKey")
	w.bad(one) // never more than two
	w.good(two)
	w.good(three)
	b.eventually("the other process to hear of it", func() bool { return b.do("GET", me, bearer(one), nil).status == 401 })

	// The overlap's end counts, also for what is remembered.
	w.exec(`UPDATE api_keys SET former_until = now() + interval '1 second' WHERE id = $1`, k.id)
	w.eventually("the former secret to end", func() bool { return w.do("GET", me, bearer(two), nil).status == 401 })
	require.True(t, modelstest.Scalar[bool](t, w.db, `SELECT former_until <= now() FROM api_keys WHERE id = $1`, k.id), "not before its time")
	require.Nil(t, u.keys()[k.id]["previousUntil"])
	w.good(three)

	four := str(u.rotate(k.id, map[string]any{"overlap": 0}).ok(200), "apiKey")
	w.bad(three)
	w.good(four)

	// Twice at once: each answer is a secret that was the key's, and at the end two of them are good at most.
	statuses, secrets := make([]int, 8), make([]string, 8)
	parallel(8, func(i int) bool {
		a := u.rotate(k.id, nil)
		if statuses[i] = a.status; a.status == 200 {
			secrets[i] = str(a.ok(200), "apiKey")
		} else {
			a.refused(409, "rotation_in_progress")
		}
		return true
	})
	good := 0
	for _, secret := range append(secrets, four) {
		if secret != "" && w.do("GET", me, bearer(secret), nil).status == 200 {
			good++
		}
	}
	require.Equal(t, 2, good, "the last and the one before, of %v", statuses)

	u.do("DELETE", keysPath+"/"+k.id, u.auth(), nil).ok(200)
	for _, secret := range append(secrets, four) {
		if secret != "" {
			w.bad(secret)
		}
	}
	late := u.newKey(nil, "read")
	w.exec(`UPDATE api_keys SET expires_at = now() WHERE id = $1`, late.id)
	u.rotate(late.id, nil).refused(409, "api_key_expired")
	require.Equal(t, true, u.keys()[late.id]["expired"])
}

// A key that expires while it is remembered is refused on the second, on every process.
func TestKeysExpireToTheSecond(t *testing.T) {
	t.Parallel()
	w := start(t)
	b := startOn(t, w.db)
	u := w.register("u")
	u.do("GET", me, u.auth(), nil).ok(200)
	expires := time.Now().Add(2 * time.Second)
	k := u.newKey(&expires, "read")
	f := w.follow(accountEvents, bearer(k.secret)).ready()
	ticket := u.ticket(accountEvents, bearer(k.secret))
	ended := map[*world]time.Time{}
	w.eventually("both to refuse it", func() bool {
		for _, p := range []*world{w, b} {
			asked := time.Now()
			if p.do("GET", me, bearer(k.secret), nil).status == 401 && ended[p].IsZero() {
				ended[p] = asked
			}
		}
		return len(ended) == 2
	})
	for _, at := range ended {
		require.False(t, at.Before(expires.Add(-time.Second)), "refused at %s, expires at %s", at, expires)
	}
	f.ends("the key's end")
	w.do("GET", accountEvents+"?ticket="+ticket, nil, nil).refused(401, "invalid_ticket")
}

// What ends a key's right ends its streams, and shows no QR code to a key that may not link phones.
func TestStreamsOfKeys(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	read, manager := u.newKey(nil, "read"), u.newKey(nil, "read", "manage")
	w.do("GET", accountEvents, bearer(u.newKey(nil, "send", "manage").secret), nil).refused(403, "missing_scope")
	w.do("POST", accountEvents+"/ticket", bearer(u.newKey(nil, "manage").secret), nil).refused(403, "missing_scope")
	plain := w.follow(accountEvents, bearer(read.secret)).ready()
	full := w.follow(accountEvents, bearer(manager.secret)).ready()
	byTicket := w.follow(shopEvents+"?ticket="+u.ticket(shopEvents, bearer(read.secret)), nil).ready()
	fullTicket := w.follow(shopEvents+"?ticket="+u.ticket(shopEvents, bearer(manager.secret)), nil).ready()
	ids := w.emit("shop", "message.sent", "session.qr", "message.read")
	full.has("all", ids...)
	fullTicket.has("all", ids...)
	plain.has("no QR code", ids[0], ids[2])
	byTicket.has("no QR code", ids[0], ids[2])
	again := w.follow(accountEvents+"?lastEventId=0", bearer(read.secret))
	again.has("no QR code of before", ids[0], ids[2])
	w.do("GET", "/api/v1/sessions/shop/qr", bearer(read.secret), nil).refused(403, "missing_scope")

	u.do("PATCH", keysPath+"/"+manager.id, u.auth(), map[string]any{"scopes": []string{"read"}}).ok(200)
	full.ends("the end of manage")
	fullTicket.ends("the end of manage")
	second := str(u.rotate(read.id, nil).ok(200), "apiKey")
	byNew := w.follow(accountEvents, bearer(second)).ready()
	unused := u.ticket(accountEvents, bearer(read.secret))
	require.False(t, plain.hasEnded(), "the former secret is good still")
	third := str(u.rotate(read.id, nil).ok(200), "apiKey")
	plain.ends("a secret that is good no more")
	byTicket.ends("a secret that is good no more")
	w.do("GET", accountEvents+"?ticket="+unused, nil, nil).refused(401, "invalid_ticket")
	require.False(t, byNew.hasEnded())
	byThird := w.follow(accountEvents, bearer(third)).ready()
	w.exec(`UPDATE api_keys SET former_until = now() WHERE id = $1`, read.id)
	byNew.ends("the overlap's end")
	u.do("PATCH", keysPath+"/"+read.id, u.auth(), map[string]any{"scopes": []string{"send"}}).ok(200)
	byThird.ends("the end of read")
	whole := w.follow(accountEvents, bearer(u.key)).ready()
	for id, key := range u.keys() {
		if key["name"] == "Account key" {
			u.do("DELETE", keysPath+"/"+id, u.auth(), nil).ok(200)
		}
	}
	whole.ends("its deletion")
}

// Requests that are under way when their key is deleted end as they began or are refused; when the deletion has been
// answered, nothing begins.
func TestDeletionAmongRequests(t *testing.T) {
	t.Parallel()
	w := start(t)
	b := startOn(t, w.db)
	u := w.register("u")
	k := u.newKey(nil, "read")
	counts := parallel(32, func(i int) string {
		if i == 16 {
			u.do("DELETE", keysPath+"/"+k.id, u.auth(), nil).ok(200)
			w.bad(k.secret)
			return "deleted"
		}
		return fmt.Sprint([]*world{w, b}[i%2].do("GET", me, bearer(k.secret), nil).status)
	})
	require.Equal(t, 32, counts["200"]+counts["401"]+counts["deleted"], "%v", counts)
	w.bad(k.secret)
	b.eventually("the other process to hear of it", func() bool { return b.do("GET", me, bearer(k.secret), nil).status == 401 })
}

func TestOddKeys(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	for _, key := range []string{"kur_", "kus_" + u.key[4:], "KUR_" + u.key[4:], u.key + "=", u.key[:46], " " + u.key[:46], u.key + u.key, strings.Repeat("k", 8000), "kur_" + strings.Repeat("é", 43), "kur_" + strings.Repeat("\t", 43),
		"null", "undefined", "kur_" + strings.Repeat("%00", 14) + "a", u.token, workerToken} {
		w.do("GET", me, headers{"X-Api-Key", key}, nil).refused(401, "invalid_api_key")
	}
	w.do("GET", me, headers{"X-Api-Key", ""}, nil).refused(401, "unauthenticated")
	w.do("GET", me+"?apiKey=", nil, nil).refused(401, "unauthenticated")
	w.do("GET", me+"?apiKey="+strings.Repeat("x", 4000), nil, nil).refused(401, "invalid_api_key")
	w.do("GET", me, headers{"X-Api-Key", strings.Repeat("k", 20_000)}, nil).refused(431, "headers_too_large")
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} { // never in the address of what changes something
		path := map[string]string{"POST": "/api/v1/sessions", "PUT": "/api/v1/webhook", "PATCH": "/api/v1/sessions/x", "DELETE": "/api/v1/sessions/x"}[method]
		w.do(method, path+"?apiKey="+u.key, nil, map[string]any{"name": "x"}).refused(401, "unauthenticated")
	}
	w.do("GET", me, headers{"X-Api-Key", u.key, "Authorization", "Bearer " + u.token}, nil).ok(200)
	w.do("GET", me, headers{"X-Api-Key", "kur_wrong", "Authorization", "Bearer " + u.token}, nil).refused(401, "invalid_api_key")
}
