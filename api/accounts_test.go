package api_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/limits"
	"kurir/models/modelstest"
)

func (w *world) open(fields map[string]any) *answer {
	w.Helper()
	body := map[string]any{"email": "sari@example.com", "password": password}
	for name, value := range fields {
		body[name] = value
	}
	return w.do("POST", "/api/v1/auth/register", nil, body)
}

func TestRegister(t *testing.T) {
	t.Parallel()
	w := start(t)
	data := w.open(map[string]any{"email": " Sari@Example.COM "}).ok(201)
	user := data["user"].(map[string]any)
	require.Equal(t, []any{"sari@example.com", "sari", "user", "basic", true}, []any{user["email"], user["name"], user["role"], user["tier"], user["isActive"]})
	w.do("GET", "/api/v1/auth/me", bearer(str(data, "token")), nil).ok(200)
	w.do("GET", "/api/v1/auth/me", bearer(str(data, "apiKey")), nil).ok(200)
	require.NotContains(t, modelstest.Scalar[string](t, w.db, `SELECT row_to_json(u)::text || row_to_json(k)::text FROM users u, api_keys k`), str(data, "apiKey"))

	before := w.rows()
	for _, email := range []string{"sari@example.com", "SARI@EXAMPLE.COM", "Sari@example.com"} {
		w.open(map[string]any{"email": email}).refused(409, "email_taken")
	}
	for _, email := range []string{"nobody", "a@", "@b", "a b@c.de", "a@b@c", "Sari <sari@example.com>", "a@b.de, c@d.de", "ä@example.com", "a@b.de\r\nBcc: x@y.z", "<a@b.de>"} {
		w.open(map[string]any{"email": email}).refused(422, "invalid_request")
	}
	for _, password := range []string{"short", "1234567", strings.Repeat("x", 73), strings.Repeat("é", 37)} {
		w.open(map[string]any{"email": "other@example.com", "password": password}).refused(422, "invalid_request")
	}
	for tier, code := range map[string]string{"max": "tier_not_allowed", "MAX": "tier_not_allowed"} {
		w.open(map[string]any{"email": "other@example.com", "tier": tier}).refused(403, code)
	}
	w.open(map[string]any{"email": "other@example.com", "tier": "gold"}).refused(422, "invalid_request")
	w.unchanged(before, "refused registrations")

	long := strings.Repeat("a", 240) + "@example.com"
	for i, fields := range []map[string]any{
		{"email": "pro@example.com", "tier": "pro"}, {"email": "bytes@example.com", "password": strings.Repeat("é", 4)},
		{"email": "bytes72@example.com", "password": strings.Repeat("é", 36)}, {"email": long}, {"email": "name@example.com", "name": "  "},
		{"email": "o'brien+x@example.com", "name": strings.Repeat("é", 200)},
	} {
		data := w.open(fields).ok(201)
		if password, ok := fields["password"]; ok {
			w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": fields["email"], "password": password}).ok(200)
			w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": fields["email"], "password": password.(string) + "x"}).refused(401, "invalid_credentials")
		}
		if i == 0 {
			require.Equal(t, "pro", data["user"].(map[string]any)["tier"])
		}
	}
}

func TestRegistrationIsTheOperatorsChoice(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) { c.Registration, c.SelfServiceTier = "closed", limits.Max })
	w.open(nil).refused(403, "registration_closed")
	require.EqualValues(t, 0, w.count("users"))
	w = startOn(t, w.db, func(_ *world, c *api.Config) { c.SelfServiceTier = limits.Max })
	require.Equal(t, "max", w.open(map[string]any{"tier": "max"}).ok(201)["user"].(map[string]any)["tier"])
	w = startOn(t, w.db, func(_ *world, c *api.Config) { c.SelfServiceTier = limits.Basic })
	w.open(map[string]any{"tier": "pro", "email": "b@example.com"}).refused(403, "tier_not_allowed")
}

func TestParallelRegistrationsMakeOneAccount(t *testing.T) {
	t.Parallel()
	w := start(t)
	made := parallel(8, func(int) int { return w.open(nil).status })
	require.Equal(t, map[int]int{201: 1, 409: 7}, made)
	require.EqualValues(t, 1, w.count("users"))
	require.EqualValues(t, 1, w.count("api_keys"))
}

func TestLogin(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("sari")
	login := func(email, password string) *answer {
		return w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": email, "password": password})
	}
	wrong, unknown := login(u.email, "wrong").refused(401, "invalid_credentials"), login("nobody@example.com", password).refused(401, "invalid_credentials")
	require.Equal(t, wrong.body["error"], unknown.body["error"], "nobody should learn which addresses have accounts")
	data := login(" SARI@example.com ", password).ok(200)
	require.NotNil(t, data["user"].(map[string]any)["lastLoginAt"])
	require.NotContains(t, data, "apiKey")
	w.do("POST", "/api/v1/auth/logout", bearer(str(data, "token")), nil).ok(200)
	for _, token := range []string{str(data, "token"), u.token} {
		w.do("GET", "/api/v1/auth/me", bearer(token), nil).refused(401, "invalid_token")
	}
	w.do("GET", "/api/v1/auth/me", bearer(str(login(u.email, password).ok(200), "token")), nil).ok(200)
}
