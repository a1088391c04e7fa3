package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/limits"
	"kurir/models"
)

// What an account that is anybody's may try, and does not get.

func (t *tenant) moves(current, email string) *answer {
	t.Helper()
	return t.do("PATCH", "/api/v1/users/me", t.auth(), map[string]any{"currentPassword": current, "email": email})
}

// Guesses at once are no more than guesses one after the other, and each is written down.
func TestParallelGuessesWithAToken(t *testing.T) {
	t.Parallel()
	w := start(t, strict(func(r *limits.Requests) { r.Logins = limits.Logins{Failures: 5, PerAddress: 50, PerAccount: 50} }))
	u := w.register("u")
	got := parallel(200, func(i int) int { return u.moves(fmt.Sprint("wrong", i), "thief@example.com").status })
	require.Equal(t, map[int]int{403: 5, 429: 195}, got)
	require.EqualValues(t, 5, w.count("system_logs WHERE message = 'user.login_failed' AND target_user_id = $1", u.id))
	u.moves(password, "thief@example.com").refused(429, "login_throttled")
}

// The key of a session is for who may send and read himself.
func TestKeysThatHandOutKeys(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.exec(`UPDATE users SET max_sessions = 100 WHERE id = $1`, u.id)
	former := u.session("shop")
	create := func(key string) map[string]any {
		return u.do("POST", "/api/v1/sessions", bearer(key), map[string]any{"name": "x"}).ok(202)
	}
	rotate := func(key string) *answer {
		return u.do("POST", "/api/v1/sessions/shop/api-key/rotate", bearer(key), nil)
	}
	for _, scopes := range [][]string{{"manage"}, {"manage", "send"}, {"manage", "read"}} {
		key := u.newKey(nil, scopes...).secret
		require.NotContains(t, create(key), "apiKey", "%v", scopes)
		lacks := map[bool]string{true: "read", false: "send"}[len(scopes) > 1 && scopes[1] == "send"]
		require.Contains(t, rotate(key).refused(403, "missing_scope").text, lacks)
	}
	w.do("GET", "/api/v1/sessions/shop", bearer(former), nil).ok(200)
	key := u.newKey(nil, "manage", "send", "read").secret
	require.NotEmpty(t, create(key)["apiKey"])
	require.NotEmpty(t, rotate(key).ok(200)["apiKey"])
	w.do("GET", "/api/v1/sessions/shop", bearer(former), nil).refused(401, "invalid_api_key")
}

// Pages of mails are limited by who asks, not by the proxy that he comes through.
func TestVisitsOfAccountPagesBehindAProxy(t *testing.T) {
	t.Parallel()
	w := start(t, behind)
	got := parallel(200, func(int) int { return w.do("GET", models.ResetPage, from("203.0.113.1"), nil).status })
	require.Positive(t, got[429])
	require.Equal(t, 200, w.do("GET", models.ResetPage, from("203.0.113.2"), nil).status)
}

// Nobody asks about many addresses, and nobody has letters sent without end.
func TestAddressesAndLettersAreFew(t *testing.T) {
	t.Parallel()
	for _, proving := range []bool{false, true} {
		w := start(t, func(_ *world, c *api.Config) { c.RequireEmailVerification = proving })
		u, other := w.register("u"), w.register("other")
		w.exec(`UPDATE users SET email_verified_at = now()`)
		for range 3 {
			u.moves("wrong", other.email).refused(403, "wrong_password")
		}
		for i := range 5 {
			if i%2 == 0 {
				u.moves(password, other.email).refused(409, "email_taken")
			} else {
				u.moves(password, fmt.Sprintf("new%d@example.com", i)).ok(200)
			}
		}
		letters := w.count("jobs WHERE kind = 'mail:letter'")
		for _, email := range []string{other.email, "free@example.com", u.email} {
			a := u.moves(password, email).refused(429, "address_change_limit")
			require.Regexp(t, `^3[56]\d\d$`, a.header.Get("Retry-After"))
		}
		require.Equal(t, letters, w.count("jobs WHERE kind = 'mail:letter'"))
		other.moves(password, "others@example.com").ok(200)
		w.exec(`UPDATE letter_quotas SET since = now() - interval '61 minutes'`)
		u.moves(password, "free@example.com").ok(200)
	}
}

func TestLettersOfChangesAreFew(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	current := password
	for i := range 5 {
		next := fmt.Sprint(chosen, i)
		u.token = str(u.changes(current, next).ok(200), "token")
		current = next
	}
	require.EqualValues(t, 3, w.letters("password_changed"))
	for i := range 4 {
		u.moves(current, fmt.Sprintf("away%d@example.com", i)).ok(200)
		u.exec(`UPDATE users SET email = $2 WHERE id = $1`, u.id, u.email)
	}
	require.EqualValues(t, 3, w.letters("email_changed"))
}

// Who opened an account with an address of somebody else's has nothing of it once that one has shown that it is his.
func TestResetOfAnUnprovedAccount(t *testing.T) {
	t.Parallel()
	w := start(t, allowLoopback)
	w.worker()
	beside := startOn(t, w.db)
	for _, c := range []struct {
		what, set string
		ends      bool
	}{
		{"never proved", `SELECT $1::uuid`, true},
		{"proved", `UPDATE users SET email_verified_at = now() WHERE id = $1`, false},
		{"an administrator", `UPDATE users SET role = 'ADMINISTRATOR' WHERE id = $1`, false},
	} {
		u := w.register(strings.ReplaceAll(c.what, " ", "-"))
		u.exec(c.set, u.id)
		name := "s-" + u.id[24:]
		session, further := u.session(name), u.newKey(nil, "read").secret
		u.do("PUT", "/api/v1/webhook", u.auth(), map[string]any{"url": "https://example.com/"}).ok(200)
		keys := []string{u.key, session, further}
		for _, key := range keys {
			beside.do("GET", "/api/v1/sessions/"+name, bearer(key), nil).ok(200)
		}
		w.resets(u.mailed(models.TokenReset, u.email), chosen).ok(200)
		u.token = str(w.logsIn(u.email, chosen).ok(200), "token")
		for _, key := range keys {
			want := map[bool]int{true: 401, false: 200}[c.ends]
			require.Equal(t, want, w.do("GET", "/api/v1/sessions/"+name, bearer(key), nil).status, c.what)
			beside.eventually(c.what, func() bool { return beside.do("GET", "/api/v1/sessions/"+name, bearer(key), nil).status == want })
		}
		require.EqualValues(t, !c.ends, u.do("GET", "/api/v1/webhook", u.auth(), nil).ok(200)["isActive"], c.what)
		open := w.count("lanes l JOIN webhooks h ON h.id = l.id WHERE h.user_id = $1 AND l.open", u.id)
		require.EqualValues(t, map[bool]int{true: 0, false: 1}[c.ends], open, c.what)
		require.EqualValues(t, map[bool]int{true: 1, false: 0}[c.ends],
			w.count("jobs WHERE kind = 'mail:letter' AND params->>'user' = $1 AND (params->'about'->>'keysEnded')::bool", u.id), c.what)

		require.EqualValues(t, 1, w.count("system_logs WHERE message = 'password.reset' AND target_user_id = $1 AND (details->>'keysEnded')::bool = $2", u.id, c.ends), c.what)

		// A second one ends nothing more: the address is proved.
		key := u.newKey(nil, "read").secret
		w.resets(u.mailed(models.TokenReset, u.email), "another "+chosen).ok(200)
		w.do("GET", "/api/v1/sessions/"+name, bearer(key), nil).ok(200)
	}
}

// Sends that are refused count as requests; a client that has no messages left costs no looks into the database.
func TestRefusedSends(t *testing.T) {
	t.Parallel()
	w := fleetOf(t, 1, strict(func(r *limits.Requests) { r.PerCredential = 3 }))[0]
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	send := func(key string, body any) *answer {
		return u.do("POST", fmt.Sprintf(sendPath, "shop"), bearer(key), body)
	}
	batch := func(messages ...any) *answer {
		return u.do("POST", "/api/v1/sessions/shop/messages/batch", bearer(key), map[string]any{"messages": messages})
	}
	reply := map[string]any{"to": "6281234567890", "message": "x", "replyTo": "01890000-0000-7000-8000-000000000000"}
	for range 2 {
		send(key, text("6281234567890", "x")).ok(202)
		send(key, reply).refused(422, "invalid_request")
	}
	batch(reply, reply).refused(422, "invalid_request")
	send(key, text("6281234567890", "x")).ok(202)
	send(key, reply).refused(422, "invalid_request") // the fourth is one too many
	for _, a := range []*answer{send(key, text("6281234567890", "x")), batch(reply)} {
		require.Equal(t, "10", a.refused(429, "request_limit").header.Get("Retry-After"))
	}
	send(u.key, text("6281234567890", "x")).ok(202)

	w.exec(`UPDATE users SET max_messages_per_hour = 4`)
	w.eventually("the limit", func() bool { return send(u.key, text("6281234567890", "x")).status == 429 })
	send(u.key, reply).refused(429, "message_limit")
	key = u.key
	batch(reply, reply).refused(429, "message_limit")
	send(u.key, map[string]any{"to": "6281234567890"}).refused(422, "invalid_request") // costs nothing, and is told
}

// The form of the dashboard takes what the route for logging in takes.
func TestLoginFormIsBounded(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, form := range []url.Values{
		{"email": {"\x00"}, "password": {password}}, {"email": {"a\x00@example.com"}, "password": {password}}, {"email": {"\xff@example.com"}, "password": {password}},
		{"email": {strings.Repeat("x", 300) + "@example.com"}, "password": {password}}, {"email": {"a@example.com"}, "password": {strings.Repeat("x", 100_000)}},
		{"email": {""}, "password": {""}}, {"email": {"a@example.com"}, "password": {"\x00\xff"}},
	} {
		a := w.do("POST", "/admin/login", headers{"Content-Type", "application/x-www-form-urlencoded"}, form.Encode())
		require.Equal(t, 401, a.status, a.text)
		require.Contains(t, a.text, "Mail address or password is wrong.")
	}
}
