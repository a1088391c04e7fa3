package api_test

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/models"
	"kurir/wire"
)

// signedAs is a token of a user's with a kid of a test's choice; nil for none.
func signedAs(t *testing.T, user string, secret []byte, kid any) headers {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": "kurir", "aud": "kurir-api", "exp": time.Now().Add(time.Hour).Unix(), "ver": 1, "sub": user})
	if kid != nil {
		token.Header["kid"] = kid
	}
	text, err := token.SignedString(secret)
	require.NoError(t, err)
	return bearer(text)
}

// A JWT_SECRET is replaced in three steps, and nobody is signed out at any of them.
func TestRotationOfJWTSecret(t *testing.T) {
	t.Parallel()
	next := []byte("another secret of 32 bytes or so")
	with := func(secrets ...[]byte) setting {
		return func(_ *world, c *api.Config) { c.JWTSecret, c.MoreJWTSecrets = secrets[0], secrets[1:] }
	}
	before := start(t)
	first, second, third := startOn(t, before.db, with(jwtSecret, next)), startOn(t, before.db, with(next, jwtSecret)), startOn(t, before.db, with(next))
	u := before.register("u")
	login := func(w *world) headers {
		return bearer(str(w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": password}).ok(200), "token"))
	}
	tokens := map[string]headers{"before": login(before), "first": login(first), "second": login(second), "third": login(third)}
	for _, c := range []struct {
		name string
		of   *world
		ok   []string
	}{{"before", before, []string{"before", "first"}}, {"first", first, []string{"before", "first", "second", "third"}},
		{"second", second, []string{"before", "first", "second", "third"}}, {"third", third, []string{"second", "third"}}} {
		for name, token := range tokens {
			status := c.of.do("GET", me, token, nil).status
			require.Equal(t, map[bool]int{true: 200, false: 401}[slices.Contains(c.ok, name)], status, "a token of %s shown to %s", name, c.name)
		}
	}

	kid := func(token headers) any {
		parsed, _, err := jwt.NewParser().ParseUnverified(token[1][len("Bearer "):], jwt.MapClaims{})
		require.NoError(t, err)
		return parsed.Header["kid"]
	}
	require.Regexp(t, `^[0-9a-f]{8}$`, kid(tokens["second"]))
	require.NotEqual(t, kid(tokens["first"]), kid(tokens["second"]))
	for what, token := range map[string]headers{"without a name": signedAs(t, u.id, jwtSecret, nil), "without a name, by the next": signedAs(t, u.id, next, nil), "by its name": signedAs(t, u.id, next, kid(tokens["third"]))} {
		require.Equal(t, 200, second.do("GET", me, token, nil).status, what)
	}
	for what, token := range map[string]headers{"the other's name": signedAs(t, u.id, next, kid(tokens["first"])), "an unknown name": signedAs(t, u.id, next, "00000000"), "an empty name": signedAs(t, u.id, next, ""),
		"a number": signedAs(t, u.id, next, 1), "a path": signedAs(t, u.id, next, "../../dev/null"), "null": signedAs(t, u.id, []byte{}, "null"), "no secret": signedAs(t, u.id, []byte{}, nil)} {
		second.do("GET", me, token, nil).refused(401, "invalid_token")
		require.NotEmpty(t, what)
	}
}

// Workers come in with either token, and keep the secrets of their terms while ENCRYPTION_KEY is replaced.
func TestRotationOfWhatWorkersShow(t *testing.T) {
	t.Parallel()
	old, next := bytes.Repeat([]byte("k"), 32), bytes.Repeat([]byte("n"), 32)
	vaultOf := func(keys ...[]byte) setting {
		return func(w *world, c *api.Config) {
			var err error
			w.vault, err = models.NewVault(keys...)
			require.NoError(t, err)
			c.MoreWorkerTokens = []string{"the next token of all workers"}
		}
	}
	w := start(t, vaultOf(old, next))
	b := startOn(t, w.db, vaultOf(next, old))
	require.NoError(t, models.CheckEncryption(t.Context(), w.db, w.vault))

	register := func(at *world, id, token string) *answer {
		return at.do("POST", "/api/v1/admin/workers/register", bearer(token), map[string]any{"workerId": id, "endpoint": "http://" + id, "engine": "simulator"})
	}
	former := register(w, "w1", workerToken).ok(200)
	fresh := register(b, "w2", "the next token of all workers").ok(200)
	register(b, "w3", "another token").refused(401, "unauthenticated")
	register(b, "w3", "").refused(401, "unauthenticated")
	for _, at := range []*world{w, b} {
		for id, registered := range map[string]map[string]any{"w1": former, "w2": fresh} {
			beat := map[string]any{"status": "online", "term": registered["term"], "metrics": wire.Metrics{}}
			at.do("PUT", "/api/v1/admin/workers/"+id+"/heartbeat", append(bearer(workerToken), "X-Worker-Secret", str(registered, "secret")), beat).ok(200)
			at.do("PUT", "/api/v1/admin/workers/"+id+"/heartbeat", append(bearer(workerToken), "X-Worker-Secret", "wrong"), beat).refused(401, "unauthenticated")
		}
	}

	// The gateway shows a worker the secret of its term, whichever key is the first by now.
	w.scripted() // it is w1, and knows the secret under the old key
	w.exec(`UPDATE workers SET maintenance = true, status = 'MAINTENANCE' WHERE id = 'w2'`)
	u := w.register("u")
	u.connected("shop")
	for _, at := range []*world{w, b} {
		a := at.do("GET", "/api/v1/sessions/shop/groups", u.auth(), nil)
		require.Equal(t, http.StatusOK, a.status, "%s, the secret of %v", a.text, at.vault.KeyIDs())
	}
}
