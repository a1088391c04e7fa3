package api_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

const usersPath = "/api/v1/admin/users"

// found lists the names of a page of users, and how many fit.
func (t *tenant) found(query string) (names []string, pagination map[string]any) {
	t.Helper()
	data := t.do("GET", usersPath+"?"+query, t.auth(), nil).ok(200)
	for _, u := range data["users"].([]any) {
		names = append(names, str(u.(map[string]any), "name"))
	}
	return names, data["pagination"].(map[string]any)
}

func (t *tenant) change(user string, fields map[string]any) *answer {
	t.Helper()
	return t.do("PATCH", usersPath+"/"+user, t.auth(), fields)
}

func TestAdministratorsFindUsers(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin := w.administrator()
	for i, name := range []string{"John Doe", "Little John", "Ĵōhanna", "O'Brien 100%", "zoe"} {
		w.exec(`INSERT INTO users (id, name, email, password_hash, tier, is_active) VALUES ($5, $1, $2, 'x', $3, $4)`,
			name, fmt.Sprintf("mail%d@johnson-%d.example", i, i), []string{"BASIC", "PRO"}[i%2], i != 4, models.NewID())
	}
	names, pages := admin.found("search=john&sort=name&limit=2")
	require.Equal(t, []string{"John Doe", "Little John"}, names)
	require.Equal(t, map[string]any{"total": 5.0, "page": 1.0, "limit": 2.0, "totalPages": 3.0}, pages, "the addresses have it too")
	names, _ = admin.found("search=john&sort=name&limit=2&page=3")
	require.Equal(t, []string{"Ĵōhanna"}, names)
	names, pages = admin.found("search=john&page=4&limit=2")
	require.Empty(t, names)
	require.Equal(t, 5.0, pages["total"])
	for query, want := range map[string][]string{
		"search=johan": {"Ĵōhanna"}, "search=JOHN+doe": {"John Doe"}, "search=brien": {"O'Brien 100%"}, "search=" + url.QueryEscape("o'brien"): {"O'Brien 100%"},
		"search=" + url.QueryEscape("mail3@johnson-3.example"): {"O'Brien 100%"}, "search=" + url.QueryEscape("%"): nil, "search=_": nil, "search=" + url.QueryEscape("' | 'x':* & !"): nil,
		"search=ohn": nil, "tier=pro&sort=-name": {"O'Brien 100%", "Little John"}, "role=administrator": {"admin"}, "active=false": {"zoe"},
		"active=true&tier=basic&sort=createdAt": {"John Doe", "Ĵōhanna"}, "sort=-email&limit=1": {"zoe"}, "sort=createdAt&limit=1": {"admin"}, "limit=1": {"zoe"},
	} {
		names, _ := admin.found(query)
		require.Equal(t, want, names, query)
	}
	for _, marks := range []string{"\u0301", "\u034f", "\u0301\u0300 \u034f", "\ufe0f", "\u20dd", "\u200d"} { // none is a word
		names, _ := admin.found("search=" + url.QueryEscape(marks))
		require.Empty(t, names, "%q", marks)
		require.Empty(t, admin.read("/admin/sessions?search=" + url.QueryEscape(marks)).ok(200)["sessions"], "%q", marks)
		names, _ = admin.found("search=" + url.QueryEscape("doe "+marks))
		require.Equal(t, []string{"John Doe"}, names, "%q", marks)
	}
	w.exec(`UPDATE users SET last_login_at = now() WHERE name = 'zoe'`)
	names, _ = admin.found("sort=-lastLoginAt&limit=1")
	require.Equal(t, []string{"zoe"}, names)
	w.exec(`INSERT INTO users (id, name, email, password_hash) SELECT kurir_uuid_v7(), 'n' || n, n || '@n.example', 'x' FROM generate_series(1, 500) n`)
	seen := map[string]bool{}
	for page := 1; page <= 6; page++ {
		names, _ := admin.found(fmt.Sprintf("limit=100&page=%d&sort=-lastLoginAt", page))
		for _, name := range names {
			require.False(t, seen[name], name)
			seen[name] = true
		}
	}
	require.Len(t, seen, 506, "pages neither repeat nor miss anybody")
}

func TestAdministratorsManageUsers(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	admin := w.administrator()
	made := admin.do("POST", usersPath, admin.auth(), map[string]any{"email": "John@Example.com", "tier": "pro"}).ok(201)
	user := made["user"].(map[string]any)
	require.Equal(t, []any{"john", "john@example.com", "pro", "user", true}, []any{user["name"], user["email"], user["tier"], user["role"], user["isActive"]})
	local := strings.Repeat("j", 220)
	long := admin.do("POST", usersPath, admin.auth(), map[string]any{"email": local + "@example.com"}).ok(201)
	require.Equal(t, local[:200], long["user"].(map[string]any)["name"], "as long as a name may be")
	logIn := func(secret string) *answer {
		return w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": "john@example.com", "password": secret})
	}
	john := &tenant{world: w, id: str(user, "id"), email: "john@example.com", token: str(logIn(str(made, "password")).ok(200), "token")}
	admin.do("POST", usersPath, admin.auth(), map[string]any{"email": "john@example.com"}).refused(409, "email_taken")
	require.Empty(t, str(admin.do("POST", usersPath, admin.auth(), map[string]any{"email": "ann@example.com", "password": "a password of hers", "role": "administrator"}).ok(201), "password"))
	admin.do("POST", usersPath, admin.auth(), map[string]any{"email": "nobody", "tier": "pro"}).refused(422, "invalid_request")
	admin.do("POST", usersPath, admin.auth(), map[string]any{"email": "x@example.com", "password": strings.Repeat("ü", 40)}).refused(422, "invalid_request")

	for _, s := range []string{"one", "two", "three"} {
		john.session(s)
	}
	got := admin.change(john.id, map[string]any{"tier": "basic", "name": "Mr. John", "limits": map[string]any{"sessions": 7}}).ok(200)["user"].(map[string]any)
	require.Equal(t, []any{"basic", "Mr. John", 3.0}, []any{got["tier"], got["name"], got["sessions"]}, "sessions beyond the tier stay")
	require.Equal(t, map[string]any{"sessions": 7.0, "messagesPerHour": 100.0}, got["limits"])
	require.Equal(t, map[string]any{"sessions": 7.0, "messagesPerHour": nil}, got["overrides"])
	got = admin.change(john.id, map[string]any{"limits": map[string]any{"sessions": nil, "messagesPerHour": 0}}).ok(200)["user"].(map[string]any)
	require.Equal(t, map[string]any{"sessions": nil, "messagesPerHour": 0.0}, got["overrides"])
	require.Equal(t, map[string]any{"sessions": 1.0, "messagesPerHour": 0.0}, got["limits"])
	admin.change(john.id, map[string]any{}).refused(422, "invalid_request")
	admin.change(john.id, map[string]any{"name": "  "}).refused(422, "invalid_request")
	admin.change(john.id, map[string]any{"limits": map[string]any{"sessions": -1}}).refused(422, "invalid_request")
	admin.change(models.NewID().String(), map[string]any{"tier": "pro"}).refused(404, "user_not_found")

	reset := admin.do("POST", usersPath+"/"+john.id+"/reset-password", admin.auth(), nil).ok(200)
	w.do("GET", "/api/v1/auth/me", john.auth(), nil).refused(401, "invalid_token")
	logIn(str(made, "password")).refused(401, "invalid_credentials")
	logIn(str(reset, "password")).ok(200)
	require.NotContains(t, admin.do("POST", usersPath+"/"+john.id+"/reset-password", admin.auth(), map[string]any{"password": "chosen by him"}).ok(200), "password")
	john.token = str(logIn("chosen by him").ok(200), "token")

	ending := admin.do("DELETE", usersPath+"/"+john.id, admin.auth(), nil)
	job := str(ending.ok(202), "jobId")
	require.Equal(t, "/api/v1/jobs/"+job, ending.header.Get("Location"))
	require.Equal(t, "account:close", admin.do("GET", "/api/v1/jobs/"+job, admin.auth(), nil).ok(200)["type"])
	logIn("chosen by him").refused(401, "invalid_credentials")
	w.do("GET", "/api/v1/auth/me", john.auth(), nil).refused(401, "invalid_token")
	admin.do("DELETE", usersPath+"/"+models.NewID().String(), admin.auth(), nil).refused(404, "user_not_found")
	admin.do("POST", usersPath, admin.auth(), map[string]any{"email": "john@example.com"}).ok(201)

	for _, secret := range []string{str(made, "password"), str(reset, "password"), "chosen by him", "john@example.com", "Mr. John"} {
		require.Zero(t, w.count(`system_logs l WHERE l::text LIKE '%' || $1 || '%'`, secret), secret)
		require.NotContains(t, w.log.String(), secret)
	}
	require.EqualValues(t, 2, w.count(`system_logs WHERE message = 'user.changed' AND actor = 'administrator' AND user_id = $1 AND target_user_id = $2 AND ip = '127.0.0.1'`, admin.id, john.id))
}

// Somebody stays who can administer, whatever is done at once.
func TestTheLastAdministratorStays(t *testing.T) {
	t.Parallel()
	w := start(t)
	a := w.administrator()
	takes := []func(by *tenant, of string) *answer{
		func(by *tenant, of string) *answer { return by.change(of, map[string]any{"role": "user"}) },
		func(by *tenant, of string) *answer { return by.change(of, map[string]any{"isActive": false}) },
		func(by *tenant, of string) *answer { return by.do("DELETE", usersPath+"/"+of, by.auth(), nil) },
	}
	for _, take := range takes {
		take(a, a.id).refused(409, "last_administrator")
	}
	a.change(a.id, map[string]any{"role": "administrator", "isActive": true, "tier": "basic"}).ok(200)
	b := w.register("b")
	w.exec(`UPDATE users SET role = 'ADMINISTRATOR', must_verify_email = true WHERE id = $1`, b.id)
	for _, take := range takes {
		take(a, a.id).refused(409, "last_administrator") // who has to prove his address first can't log in
	}
	w.exec(`UPDATE users SET email_verified_at = now() WHERE id = $1`, b.id)
	for i := range 9 {
		w.exec(`UPDATE users SET role = 'ADMINISTRATOR', is_active = true, closed_at = NULL, token_version = 1 WHERE id IN ($1, $2)`, a.id, b.id)
		w.eventually("both to be administrators", func() bool {
			return w.do("GET", usersPath, a.auth(), nil).status == 200 && w.do("GET", usersPath, b.auth(), nil).status == 200
		})
		both := []*tenant{a, b}
		got := parallel(2, func(n int) int { return takes[(i+n*(i/3))%3](both[n], both[1-n].id).status })
		require.EqualValues(t, 1, w.count(`users WHERE role = 'ADMINISTRATOR' AND is_active`), "%v", got)
		require.Less(t, got[200]+got[202], 2, "%v", got)
		w.exec(`UPDATE users SET email = CASE id WHEN $1 THEN 'admin@example.com' ELSE 'b@example.com' END WHERE id IN ($1, $2)`, a.id, b.id)
	}
}

// A deactivated user is locked out of every process at once, and his sessions stop; those that ran come back with him.
func TestDeactivatedUser(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	other := startOn(t, w.db)
	w.runner()
	w.clockwork()
	w.phones(simnet.Config{})
	admin, u := w.administrator(), w.register("u")
	key := u.session("shop")
	u.session("stopped")
	u.becomes("connected", "")
	u.do("POST", "/api/v1/sessions/stopped/stop", u.auth(), nil).ok(202)
	stream := other.follow(accountEvents, bearer(u.key)).ready()
	other.do("GET", "/api/v1/auth/me", u.auth(), nil).ok(200)
	other.do("GET", "/api/v1/sessions/shop", bearer(key), nil).ok(200)

	admin.change(u.id, map[string]any{"isActive": false}).ok(200)
	for _, with := range []headers{u.auth(), bearer(u.key), bearer(key)} {
		require.Equal(t, 401, w.do("GET", "/api/v1/sessions/shop", with, nil).status)
		other.eventually("a refusal", func() bool { return other.do("GET", "/api/v1/sessions/shop", with, nil).status == 401 })
	}
	stream.ends("deactivated")
	state := func(id string) string {
		return modelstest.Scalar[string](t, w.db, `SELECT concat_ws(' ', desired, status, reason, worker_id) FROM sessions WHERE id = $1`, id)
	}
	for _, id := range []string{"shop", "stopped"} {
		w.eventually(id+" to stop", func() bool { return state(id) == "STOPPED DISCONNECTED stopped" })
	}
	// One that slipped through while he was being locked out is stopped too.
	w.exec(`UPDATE sessions SET desired = 'RUNNING', status = 'RECONNECTING', suspended_at = NULL WHERE id = 'shop'`)
	w.eventually("the late one to stop", func() bool { return state("shop") == "STOPPED DISCONNECTED stopped" })

	admin.change(u.id, map[string]any{"isActive": true}).ok(200)
	require.Equal(t, 401, w.do("GET", "/api/v1/auth/me", u.auth(), nil).status, "tokens are gone for good")
	u.token = str(w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": password}).ok(200), "token")
	u.becomes("connected", "")
	require.Equal(t, "STOPPED DISCONNECTED stopped", state("stopped"), "it did not run")
	u.do("POST", "/api/v1/sessions/shop/send", append(bearer(key), "Prefer", "wait=20"), text("6281234567890", "again")).ok(200)
}
