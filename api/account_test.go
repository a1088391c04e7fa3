package api_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/models"
	"kurir/models/modelstest"
)

const chosen = "staple under the lamp"

// mailed makes a token as the job of a letter does.
func (t *tenant) mailed(purpose, address string) string {
	t.Helper()
	token, err := models.NewMailedToken(context.Background(), t.db.Pool, uuid.MustParse(t.id), purpose, address)
	require.NoError(t, err)
	return token
}

func (w *world) logsIn(email, password string) *answer {
	w.Helper()
	return w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": email, "password": password})
}

func (w *world) resets(token, password string) *answer {
	w.Helper()
	return w.do("POST", "/api/v1/auth/password/reset", nil, map[string]any{"token": token, "newPassword": password})
}

func (t *tenant) changes(current, next string) *answer {
	t.Helper()
	return t.do("PUT", "/api/v1/auth/password", t.auth(), map[string]any{"currentPassword": current, "newPassword": next})
}

func (w *world) letters(kind string) int64 {
	w.Helper()
	return w.count("jobs WHERE kind = 'mail:letter' AND params->>'letter' = $1", kind)
}

func verifying(_ *world, c *api.Config) { c.RequireEmailVerification = true }

func TestChangePassword(t *testing.T) {
	t.Parallel()
	w := start(t)
	beside := startOn(t, w.db)
	u := w.register("u")
	token := u.mailed(models.TokenReset, u.email)
	before := w.rows()
	u.changes("wrong", chosen).refused(403, "wrong_password")
	u.changes(strings.Repeat("x", 100), chosen).refused(403, "wrong_password")
	for _, weak := range []string{"short", "password", "Iloveyou1", u.email, strings.Repeat("x", 73)} {
		a := u.changes(password, weak).refused(422, "invalid_request")
		require.Contains(t, a.text, `"newPassword"`)
	}
	w.unchanged(before, "refused changes")
	beside.do("GET", "/api/v1/auth/me", u.auth(), nil).ok(200)

	fresh := str(u.changes(password, chosen).ok(200), "token")
	beside.eventually("the other process to hear", func() bool { return beside.do("GET", "/api/v1/auth/me", u.auth(), nil).status == 401 })
	w.do("GET", "/api/v1/auth/me", u.auth(), nil).refused(401, "invalid_token")
	for _, here := range []*world{w, beside} {
		here.do("GET", "/api/v1/auth/me", bearer(fresh), nil).ok(200)
		here.do("GET", "/api/v1/auth/me", bearer(u.key), nil).ok(200)
	}
	w.logsIn(u.email, password).refused(401, "invalid_credentials")
	w.logsIn(u.email, chosen).ok(200)
	w.resets(token, "another one altogether").refused(422, "invalid_mail_token")
	require.EqualValues(t, 1, w.letters("password_changed"))

	// Several at once: one of them, and nobody is left with a token of the former password.
	u.token = fresh
	statuses := parallel(6, func(i int) int { return u.changes(chosen, fmt.Sprintf("correct horse %d", i)).status })
	require.Equal(t, 1, statuses[200], "%v", statuses)
	require.Zero(t, statuses[500]+statuses[503], "%v", statuses)
	require.EqualValues(t, 2, w.letters("password_changed"))
}

// The weak are refused wherever a password is chosen.
func TestWeakPasswordsAreNotRegistered(t *testing.T) {
	t.Parallel()
	w := start(t)
	for _, weak := range []string{"password", "12345678", "PASSWORD1", "sari@example.com", "Sari@Example.com"} {
		w.open(map[string]any{"password": weak}).refused(422, "invalid_request")
	}
	require.Zero(t, w.count("users"))
}

func TestResetPassword(t *testing.T) {
	t.Parallel()
	w := start(t)
	u, other := w.register("u"), w.register("other")
	mint := func() string { return u.mailed(models.TokenReset, u.email) }

	first, second, foreign := mint(), mint(), other.mailed(models.TokenReset, other.email)
	proof := u.mailed(models.TokenVerify, u.email)
	for _, bad := range []string{"x", "kum_" + strings.Repeat("A", 43), first[:len(first)-1], strings.ToUpper(first), proof} {
		w.resets(bad, chosen).refused(422, "invalid_mail_token")
	}
	w.resets(first, "password").refused(422, "invalid_request") // and uses nothing up
	w.resets(first, u.email).refused(422, "invalid_request")

	// Twice at once: one wins, and its password is the one that holds.
	won := make([]int, 6)
	statuses := parallel(len(won), func(i int) int {
		won[i] = w.resets(first, fmt.Sprintf("correct horse %d", i)).status
		return won[i]
	})
	require.Equal(t, map[int]int{200: 1, 422: 5}, statuses)
	for i, status := range won {
		got := w.logsIn(u.email, fmt.Sprintf("correct horse %d", i)).status
		require.Equal(t, map[int]int{200: 200, 422: 401}[status], got)
	}
	w.do("GET", "/api/v1/auth/me", u.auth(), nil).refused(401, "invalid_token")
	w.do("GET", "/api/v1/auth/me", bearer(u.key), nil).refused(401, "invalid_api_key") // nobody had proved the address
	for _, dead := range []string{first, second} {
		w.resets(dead, chosen).refused(422, "invalid_mail_token")
	}
	w.do("POST", "/api/v1/auth/verify", nil, map[string]any{"token": proof}).refused(422, "invalid_mail_token")
	require.EqualValues(t, 1, w.letters("password_changed"))
	require.True(t, modelstest.Scalar[bool](t, w.db, `SELECT email_verified_at IS NOT NULL FROM users WHERE email = $1`, u.email), "he has the mailbox")
	w.logsIn(other.email, password).ok(200)
	w.resets(foreign, chosen).ok(200)
	w.logsIn(other.email, chosen).ok(200)
	require.EqualValues(t, 0, w.count("account_tokens"))

	// What ends one that nobody has used.
	for what, end := range map[string]string{
		"time":             `UPDATE account_tokens SET expires_at = now() - interval '1 second'`,
		"another address":  `UPDATE users SET email = 'new@example.com' WHERE email = $1`,
		"a closed account": `UPDATE users SET is_active = false WHERE email IN ($1, 'new@example.com')`,
	} {
		w.exec(`UPDATE users SET is_active = true, email = $2 WHERE id = $1`, u.id, u.email)
		token := mint()
		args := []any{u.email}
		if what == "time" {
			args = nil
		}
		w.exec(end, args...)
		w.resets(token, chosen).refused(422, "invalid_mail_token")
	}
}

// A change of the address ends what was mailed to the former one.
func TestProfile(t *testing.T) {
	t.Parallel()
	w := start(t)
	u, other := w.register("u"), w.register("other")
	const me = "/api/v1/users/me"
	user := func(a *answer) map[string]any { return a.ok(200)["user"].(map[string]any) }
	patch := func(fields map[string]any) *answer { return u.do("PATCH", me, u.auth(), fields) }
	require.Equal(t, []any{"u", u.email, false, nil}, func() []any {
		p := user(u.do("GET", me, headers{"X-Api-Key", u.key}, nil))
		return []any{p["name"], p["email"], p["emailVerified"], p["pendingEmail"]}
	}())
	before := w.rows()
	for _, fields := range []map[string]any{{"name": " "}, {"name": strings.Repeat("x", 201)}, {"email": "nobody", "currentPassword": password}, {"role": "administrator"}, {"tier": "max"}} {
		patch(fields).refused(422, "invalid_request")
	}
	require.Contains(t, patch(map[string]any{"email": "new@example.com"}).refused(422, "invalid_request").text, "currentPassword")
	patch(map[string]any{"email": "new@example.com", "currentPassword": "wrong"}).refused(403, "wrong_password")
	patch(map[string]any{"email": other.email, "currentPassword": password, "name": "not this either"}).refused(409, "email_taken")
	u.do("PATCH", me, headers{"X-Api-Key", u.key}, map[string]any{"name": "x"}).refused(403, "forbidden")
	w.unchanged(before, "refused changes")
	require.Equal(t, "u", user(u.do("GET", me, u.auth(), nil))["name"])

	require.Equal(t, strings.Repeat("é", 200), user(patch(map[string]any{"name": strings.Repeat("é", 200)}))["name"])
	token := u.mailed(models.TokenReset, u.email)
	moved := user(patch(map[string]any{"email": " New@Example.com", "currentPassword": password}))
	require.Equal(t, []any{"new@example.com", nil, false}, []any{moved["email"], moved["pendingEmail"], moved["emailVerified"]})
	w.resets(token, chosen).refused(422, "invalid_mail_token")
	w.logsIn(u.email, password).refused(401, "invalid_credentials")
	w.logsIn("new@example.com", password).ok(200)
	require.EqualValues(t, 1, w.count("jobs WHERE params->>'letter' = 'email_changed' AND params ? 'to'"), "the former address is told")
	require.Equal(t, map[int]int{200: 1, 409: 1}, parallel(2, func(i int) int {
		who := []*tenant{u, other}[i]
		return who.do("PATCH", me, who.auth(), map[string]any{"email": "both@example.com", "currentPassword": password}).status
	}))
}

// Asking for a mail is the same work and the same answer whether there is such a user or not, and at most three mails come of it.
func TestForgotTellsNothing(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	w.exec(`INSERT INTO users (id, name, email, password_hash, is_active) VALUES ($1, 'off', 'off@example.com', 'x', false)`, models.NewID())
	for path, letter := range map[string]string{"/api/v1/auth/password/forgot": "reset", "/api/v1/auth/verify/resend": "verify"} {
		ask := func(email string) *answer { return w.do("POST", path, nil, map[string]any{"email": email}) }
		for _, email := range []string{"nobody", "", "a@b@c", "Sari <s@example.com>"} {
			ask(email).refused(422, "invalid_request")
		}
		var first *answer
		for i, email := range []string{u.email, "nobody@example.com", "off@example.com", "U@example.COM "} {
			before := w.rows()
			a := ask(email)
			if first == nil {
				first = a
			}
			require.Equal(t, []any{200, first.text}, []any{a.status, a.text}, email)
			after := w.rows()
			require.Equal(t, before["jobs"]+1, after["jobs"], "the same work for %s", email)
			require.EqualValues(t, min(i+1, 3), w.count("letter_quotas"), "the same work for %s", email)
		}
		w.exec(`DELETE FROM letter_quotas`)
		for _, email := range []string{"flood@example.com", u.email} {
			w.exec(`DELETE FROM jobs`)
			require.Equal(t, map[int]int{200: 12}, parallel(12, func(int) int { return ask(email).status }))
			require.EqualValues(t, 3, w.letters(letter), "no more an hour")
		}
		w.exec(`UPDATE letter_quotas SET since = now() - interval '61 minutes'`)
		ask(u.email).ok(200)
		require.EqualValues(t, 4, w.letters(letter))
		w.exec(`DELETE FROM letter_quotas`)
	}
	require.Zero(t, w.count("jobs j WHERE j::text LIKE '%example%'"), "addresses are sealed")
}

func TestEmailVerification(t *testing.T) {
	t.Parallel()
	w := start(t, verifying)
	beside := startOn(t, w.db, verifying)
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	verify := func(token string) *answer {
		return w.do("POST", "/api/v1/auth/verify", nil, map[string]any{"token": token})
	}
	require.EqualValues(t, 1, w.letters("verify"))
	w.logsIn(u.email, password).refused(403, "email_not_verified")
	w.logsIn(u.email, "wrong").refused(401, "invalid_credentials")
	send := func(here *world, with headers) *answer {
		return here.do("POST", "/api/v1/sessions/shop/send", with, text("6281234567890", "hello"))
	}
	for _, with := range []headers{u.auth(), bearer(u.key), bearer(key)} {
		send(w, with).refused(403, "email_not_verified")
		send(beside, with).refused(403, "email_not_verified")
		w.do("POST", "/api/v1/sessions/shop/messages/batch", with, map[string]any{"messages": []any{text("6281234567890", "x")}}).refused(403, "email_not_verified")
	}
	w.do("POST", "/api/v1/messages", bearer(key), text("6281234567890", "hello")).refused(403, "email_not_verified")
	require.Zero(t, w.count("messages"))
	u.do("GET", "/api/v1/sessions", u.auth(), nil).ok(200)
	send(startOn(t, w.db), bearer(key)).ok(202) // where it is not demanded

	// Used twice at once, and one that is of no use.
	token := u.mailed(models.TokenVerify, u.email)
	verify(u.mailed(models.TokenReset, u.email)).refused(422, "invalid_mail_token")
	require.Equal(t, map[int]int{200: 1, 422: 3}, parallel(4, func(int) int { return verify(token).status }))
	w.logsIn(u.email, password).ok(200)
	send(w, bearer(key)).ok(202)
	beside.eventually("the other process to hear", func() bool { return send(beside, bearer(u.key)).status == 202 })

	// Another address is proved before it takes its place; the former one is good until then.
	move := func(email string) map[string]any {
		u.forgetsMoves()
		return u.do("PATCH", "/api/v1/users/me", u.auth(), map[string]any{"email": email, "currentPassword": password}).ok(200)["user"].(map[string]any)
	}
	pending := move("first@example.com")
	require.Equal(t, []any{u.email, "first@example.com", true}, []any{pending["email"], pending["pendingEmail"], pending["emailVerified"]})
	former := u.mailed(models.TokenVerify, "first@example.com")
	require.Equal(t, "second@example.com", move("second@example.com")["pendingEmail"])
	verify(former).refused(422, "invalid_mail_token")
	w.logsIn(u.email, password).ok(200)
	token, reset := u.mailed(models.TokenVerify, "second@example.com"), u.mailed(models.TokenReset, u.email)
	verify(token).ok(200)
	w.logsIn(u.email, password).refused(401, "invalid_credentials")
	w.logsIn("second@example.com", password).ok(200)
	w.resets(reset, chosen).refused(422, "invalid_mail_token")

	// Taken meanwhile; taken back; and expired.
	move("third@example.com")
	token = u.mailed(models.TokenVerify, "third@example.com")
	w.exec(`INSERT INTO users (id, name, email, password_hash) VALUES ($1, 'x', 'third@example.com', 'x')`, models.NewID())
	verify(token).refused(409, "email_taken")
	u.forgetsMoves()
	u.do("PATCH", "/api/v1/users/me", u.auth(), map[string]any{"email": "third@example.com", "currentPassword": password}).refused(409, "email_taken")
	require.Nil(t, move("second@example.com")["pendingEmail"])
	verify(token).refused(422, "invalid_mail_token")
	move("fourth@example.com")
	token = u.mailed(models.TokenVerify, "fourth@example.com")
	w.exec(`UPDATE account_tokens SET expires_at = now()`)
	verify(token).refused(422, "invalid_mail_token")

	// Nobody can have a stranger mailed without end by moving to his address again and again.
	for range 6 {
		move("stranger@example.org")
		move("second@example.com")
	}
	w.exec(`DELETE FROM jobs`)
	move("stranger@example.org")
	require.Zero(t, w.letters("verify"))

	// A reset gives the account back to whoever has its mailbox: what somebody else had begun is over.
	w.resets(u.mailed(models.TokenReset, "second@example.com"), chosen).ok(200)
	require.EqualValues(t, 0, w.count("users WHERE pending_email IS NOT NULL"))
	v := startOn(t, w.db).register("before") // accounts of the time before are not asked
	w.logsIn(v.email, password).ok(200)
}

// forgetsMoves takes back what was counted of his wishes for other addresses.
func (t *tenant) forgetsMoves() {
	t.exec(`DELETE FROM letter_quotas WHERE subject = sha256(convert_to('address of ' || $1, 'UTF8'))`, t.id)
}

func (t *tenant) closes(password string) *answer {
	t.Helper()
	a := t.do("DELETE", "/api/v1/users/me", t.auth(), map[string]any{"currentPassword": password})
	if a.status == 202 {
		require.Equal(t, "/api/v1/jobs/"+str(a.ok(202), "jobId"), a.header.Get("Location"))
	}
	return a
}

func TestCloseAccount(t *testing.T) {
	t.Parallel()
	w := start(t)
	beside := startOn(t, w.db)
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	other := w.register("other")
	otherKey := other.connected("theirs")
	before := w.rows()
	u.closes("wrong").refused(403, "wrong_password")
	u.do("DELETE", "/api/v1/users/me", headers{"X-Api-Key", u.key}, map[string]any{"currentPassword": password}).refused(403, "forbidden")
	u.do("DELETE", "/api/v1/users/me", u.auth(), nil).refused(422, "invalid_request")
	w.unchanged(before, "refused closings")
	for _, with := range []headers{u.auth(), bearer(u.key), bearer(key)} {
		beside.do("GET", "/api/v1/sessions/shop", with, nil).ok(200) // and is remembered
	}

	// Several at once, in the midst of sends.
	stop := make(chan struct{})
	sends := make(chan map[int]int)
	go func() {
		seen := map[int]int{}
		for {
			select {
			case <-stop:
				sends <- seen
				return
			default:
				seen[w.do("POST", "/api/v1/sessions/shop/send", bearer(key), text("6281234567890", "hello")).status]++
			}
		}
	}()
	statuses := parallel(5, func(int) int { return u.closes(password).status })
	require.Equal(t, 1, statuses[202], "%v", statuses)
	require.Zero(t, statuses[500]+statuses[503], "%v", statuses)
	w.eventually("the end of the key", func() bool { return w.do("GET", "/api/v1/auth/me", bearer(u.key), nil).status == 401 })
	close(stop)
	for status := range <-sends {
		require.Contains(t, []int{202, 401}, status)
	}
	require.EqualValues(t, 1, w.count("jobs WHERE kind = 'account:close'"))
	require.EqualValues(t, 1, w.count("system_logs WHERE message = 'account.closed' AND user_id = $1", u.id))

	for _, with := range []headers{u.auth(), bearer(u.key), bearer(key)} {
		w.do("GET", "/api/v1/sessions/shop", with, nil).isFailure()
		beside.eventually("the other process to hear", func() bool { return beside.do("GET", "/api/v1/sessions/shop", with, nil).status == 401 })
	}
	w.logsIn(u.email, password).refused(401, "invalid_credentials")
	require.Zero(t, w.count("users WHERE email = $1", u.email))
	again := w.register("u")
	require.NotEqual(t, u.id, again.id)
	w.do("GET", "/api/v1/sessions/theirs", bearer(otherKey), nil).ok(200)

	// Of two administrators one can go.
	admin, second := w.administrator(), w.register("second")
	admin.closes(password).refused(409, "last_administrator")
	w.exec(`UPDATE users SET role = 'ADMINISTRATOR' WHERE email = $1`, second.email)
	require.Equal(t, map[int]int{202: 1, 409: 1}, parallel(2, func(i int) int { return []*tenant{admin, second}[i].closes(password).status }))
	require.EqualValues(t, 1, w.count("users WHERE role = 'ADMINISTRATOR' AND is_active"))
}
