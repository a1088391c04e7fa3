package api_test

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/models/modelstest"
)

// Kinds of callers, in the order of the matrix.
var callers = []string{"nobody", "token", "account key", "session key", "other session's key", "other tenant", "admin", "admin's key", "worker"}

// scopedKeys are account keys with one scope each, in the order of the three columns behind. A row without them is of an
// operation that no account key may use.
var scopedKeys = []string{"send key", "read key", "manage key"}

// severalScopes is opened by all scopes together alone, see TestKeysThatHandOutKeys.
const severalScopes = "rotate-session-key"

// matrix says what each kind of caller gets: + is let in, 4 is 404, and the rest are 401, 403 (1, 3). An operation that
// is missing here fails the test. What has ended, see endedCredentials, gets what nobody gets.
var matrix = map[string]string{
	//                    nobody, token, key, session, other session, other tenant, admin, admin's key, worker; keys that may: send, read, manage
	"register":           "+++++++++",
	"login":              "+++++++++",
	"logout":             "1+333++31",
	"me":                 "1++33+++1 +++",
	"create-session":     "1++33+++1 33+",
	"list-sessions":      "1++33+++1 3+3",
	"get-session":        "1+++44441 3+3",
	"update-session":     "1++334441 33+",
	"delete-session":     "1++334441 33+",
	"get-session-status": "1+++44441 3+3",
	"get-session-qr":     "1+++44441 33+",
	"create-link":        "1++334441 33+",
	"delete-link":        "1++334441 33+",
	"rotate-session-key": "1++334441 333",
	"start-session":      "1++334441 33+",
	"stop-session":       "1++334441 33+",
	"restart-session":    "1++334441 33+",
	"logout-session":     "1++334441 33+",
	"send":               "1+++44441 +33",
	"send-message":       "1+++44441 +33",
	"send-by-key":        "133++3331",
	"list-messages":      "1+++44441 3+3",
	"get-message":        "1+++44441 3+3",
	"export-messages":    "1+++44441 3+3",
	"cancel-message":     "1+++44441 +33",
	"send-batch":         "1+++44441 +33",
	"cancel-messages":    "1+++44441 +33",
	"retry-message":      "1+++44441 +33",
	"edit-message":       "1+++44441 +33",
	"revoke-message":     "1+++44441 +33",
	"react":              "1+++44441 +33",
	"forward-message":    "1+++44441 +33",
	"upload-media":       "1+++44441 +33",
	"get-media":          "1+++44441 3+3",
	"put-webhook":        "1++334441 33+",
	"get-webhook":        "1++334441 3+3",
	"delete-webhook":     "1++334441 33+",
	"list-deliveries":    "1++334441 3+3",
	"get-delivery":       "1++334441 3+3",
	"account-events":     "1++33+++1 3+3",
	"account-ticket":     "1++33+++1 3+3",
	"session-events":     "1+++44441 3+3",
	"session-ticket":     "1+++44441 3+3",
	"list-jobs":          "1++33+++1 3+3",
	"get-job":            "1+++44441 +++",
	"announce-worker":    "133333+31",
	"list-workers":       "133333+31",
	"get-worker":         "133333+31",
	"update-worker":      "133333+31",
	"remove-worker":      "133333+31",
	"drain-worker":       "133333+31",
	"broadcast":          "133333+31",
	"worker-metrics":     "133333+31",
	"rebalance":          "133333+31",
	"migrate-session":    "133333+31",
	"get-scaling":        "133333+31",
	"register-worker":    "11111111+",
	"worker-heartbeat":   "11111111+",
	"worker-events":      "11111111+",
	"worker-put-media":   "11111111+",
	"worker-get-media":   "11111111+",

	"rotate-webhook-secret":         "1++334441 33+",
	"test-webhook":                  "1++334441 33+",
	"replay-webhook":                "1++334441 33+",
	"replay-delivery":               "1++334441 33+",
	"put-account-webhook":           "1++33+++1 33+",
	"get-account-webhook":           "1++33+++1 3+3",
	"delete-account-webhook":        "1++33+++1 33+",
	"list-account-deliveries":       "1++33+++1 3+3",
	"rotate-account-webhook-secret": "1++33+++1 33+",
	"test-account-webhook":          "1++33+++1 33+",
	"replay-account-webhook":        "1++33+++1 33+",

	"get-pairing-code":      "1+++44441 33+",
	"check-contacts":        "1+++44441 +33",
	"list-contacts":         "1+++44441 3+3",
	"get-contact":           "1+++44441 3+3",
	"get-contact-picture":   "1+++44441 3+3",
	"list-groups":           "1+++44441 3+3",
	"create-group":          "1+++44441 33+",
	"join-group":            "1+++44441 33+",
	"get-group":             "1+++44441 3+3",
	"add-participants":      "1+++44441 33+",
	"remove-participants":   "1+++44441 33+",
	"set-participant-roles": "1+++44441 33+",
	"get-group-invite":      "1+++44441 33+",
	"revoke-group-invite":   "1+++44441 33+",
	"leave-group":           "1+++44441 33+",
	"set-presence":          "1+++44441 +33",
	"subscribe-presence":    "1+++44441 +33",
	"mark-read":             "1+++44441 +33",
	"list-labels":           "1+++44441 3+3",
	"label-chat":            "1+++44441 33+",
	"unlabel-chat":          "1+++44441 33+",

	"list-api-keys":  "1+333++31",
	"create-api-key": "1+333++31",
	"update-api-key": "1+3334431",
	"rotate-api-key": "1+3334431",
	"delete-api-key": "1+3334431",

	"get-retention":               "1++33+++1 3+3",
	"put-retention":               "1++33+++1 33+",
	"delete-contact-data":         "1++33+++1 33+",
	"delete-session-contact-data": "1++334441 33+",

	"change-password":      "1+333++31",
	"forgot-password":      "+++++++++",
	"reset-password":       "+++++++++",
	"verify-email":         "+++++++++",
	"resend-verification":  "+++++++++",
	"get-profile":          "1++33+++1 +++",
	"update-profile":       "1+333++31",
	"close-account":        "1+333++31",
	"list-users":           "133333+31",
	"create-user":          "133333+31",
	"get-user":             "133333+31",
	"update-user":          "133333+31",
	"delete-user":          "133333+31",
	"reset-user-password":  "133333+31",
	"pause-user":           "133333+31",
	"resume-user":          "133333+31",
	"list-all-sessions":    "133333+31",
	"pause-session":        "133333+31",
	"resume-session":       "133333+31",
	"pause-platform":       "133333+31",
	"resume-platform":      "133333+31",
	"get-settings":         "133333+31",
	"list-logs":            "133333+31",
	"list-own-logs":        "1+333++31",
	"my-usage":             "1++33+++1 3+3",
	"list-usage":           "133333+31",
	"list-billing-periods": "133333+31",

	"get-analytics":    "133333+31",
	"analyse-messages": "133333+31",
	"analyse-users":    "133333+31",
	"analyse-workers":  "133333+31",
}

// harmful are the operations of which one success would take away what the others need; they come last, and in this order.
var harmful = []string{"stop-session", "logout-session", "update-worker", "drain-worker", "remove-worker", "edit-message", "revoke-message", "cancel-messages", "cancel-message", "retry-message", "delete-contact-data", "delete-session-contact-data", "rotate-session-key", "delete-webhook", "delete-api-key", "logout", "delete-session"}

// rowOf is what each caller gets, with those whose columns follow from others: who has nothing but what has ended is nobody,
// and keys with a scope get what the account's own gets where that gets nothing.
func rowOf(t *testing.T, id string) (names []string, gets string) {
	t.Helper()
	row, ok := matrix[id]
	require.True(t, ok, "%s stands in no row of the matrix", id)
	row, scopes, scoped := strings.Cut(row, " ")
	require.Len(t, row, len(callers), id)
	byKey := row[slices.Index(callers, "account key"):][:1]
	if byKey == "+" && row[0] != '+' {
		require.True(t, scoped, "%s: say what keys with one scope get", id)
		require.Equal(t, id != severalScopes, strings.Contains(scopes, "+"), "%s: some scope opens it", id)
	} else {
		require.False(t, scoped, "%s: no account key is let in", id)
		scopes = strings.Repeat(byKey, len(scopedKeys))
	}
	require.Len(t, scopes, len(scopedKeys), id)
	return slices.Concat(callers, scopedKeys, endedCredentials), row + scopes + strings.Repeat(row[:1], len(endedCredentials))
}

// endedCredentials were good once.
var endedCredentials = []string{"deactivated user's token", "deactivated user's key", "expired token", "expired key", "revoked token", "revoked key", "replaced secret", "deleted session's key"}

// ended makes credentials that have ended.
func (s *stage) ended() map[string]headers {
	s.Helper()
	gone, left := s.register("gone"), s.register("left")
	s.exec(`UPDATE users SET is_active = false WHERE id = $1`, gone.id)
	left.do("POST", "/api/v1/auth/logout", left.auth(), nil).ok(200)
	late, deleted, rotated := s.owner.newKey(nil, "send", "read", "manage"), s.owner.newKey(nil, "send", "read", "manage"), s.owner.newKey(nil, "send", "read", "manage")
	s.exec(`UPDATE api_keys SET expires_at = now() WHERE id = $1`, late.id)
	s.owner.do("DELETE", keysPath+"/"+deleted.id, s.owner.auth(), nil).ok(200)
	s.owner.do("POST", keysPath+"/"+rotated.id+"/rotate", s.owner.auth(), map[string]any{"overlap": 0}).ok(200)
	sessionKey := s.owner.session("third")
	s.owner.do("DELETE", "/api/v1/sessions/third", s.owner.auth(), nil).ok(202)
	expired := sign(s, jwt.SigningMethodHS256, jwtSecret, func(c jwt.MapClaims) { c["sub"], c["exp"] = s.owner.id, time.Now().Add(-time.Second).Unix() })
	return map[string]headers{"deactivated user's token": gone.auth(), "deactivated user's key": bearer(gone.key), "expired token": bearer(expired), "expired key": {"X-Api-Key", late.secret},
		"revoked token": left.auth(), "revoked key": {"X-Api-Key", deleted.secret}, "replaced secret": {"X-Api-Key", rotated.secret}, "deleted session's key": bearer(sessionKey)}
}

func TestWhoMayDoWhat(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	other := s.register("other")
	otherKey := s.owner.connected("second")
	adminKey := s.admin.key
	credentials := map[string]headers{"nobody": nil, "token": s.owner.auth(), "account key": {"X-Api-Key", s.owner.key}, "session key": bearer(s.sessionKey),
		"other session's key": {"X-Api-Key", otherKey}, "other tenant": other.auth(), "admin": s.admin.auth(), "admin's key": bearer(adminKey),
		"worker": append(headers{"Authorization", "Bearer " + workerToken, "X-Worker-Secret", s.secret}, s.holds...)}
	for _, name := range scopedKeys {
		credentials[name] = headers{"X-Api-Key", s.owner.newKey(nil, strings.TrimSuffix(name, " key")).secret}
	}
	maps.Copy(credentials, s.ended())
	s.exec(`UPDATE workers SET lease_expires_at = now() - interval '1 second'`) // so that it can be registered once
	d := s.document()
	operations := d.operations()
	slices.SortStableFunc(operations, func(a, b operation) int { return slices.Index(harmful, a.id) - slices.Index(harmful, b.id) })
	seen := map[string]bool{}
	absent := map[string]string{"id": "nothing", "messageId": uuid.NewString(), "jobId": uuid.NewString(), "deliveryId": uuid.NewString(), "workerId": "nothing", "mediaId": uuid.NewString(),
		"address": "6281234567890", "groupId": "120363012345678901@g.us", "labelId": "1", "chat": "6281234567890", "keyId": uuid.NewString(), "userId": uuid.NewString()}
	for _, op := range operations {
		names, gets := rowOf(t, op.id)
		seen[op.id] = true
		var body any
		if op.body != nil {
			body = d.example(op.body)
		}
		before := s.rows()
		for _, letIn := range []bool{false, true} { // refusals first: they must leave everything as it is
			for i, caller := range names {
				if (gets[i] == '+') != letIn {
					continue
				}
				a := s.do(op.method, s.pathOf(op, nil), credentials[caller], body)
				what := fmt.Sprintf("%s by %s: %s", op.id, caller, a.text)
				switch gets[i] {
				case '1':
					require.Equal(t, 401, a.status, what)
					require.NotEmpty(t, a.header.Get("WWW-Authenticate"))
					a.isFailure()
				case '3':
					require.Equal(t, 403, a.status, what)
					a.isFailure()
					if slices.Contains(scopedKeys, caller) && op.id != severalScopes && strings.Contains(matrix[op.id], " ") {
						require.Equal(t, "missing_scope", a.body["code"], what)
						needed := scopedKeys[strings.Index(matrix[op.id][len(callers)+1:], "+")]
						require.Equal(t, []any{map[string]any{"field": "scope", "message": strings.TrimSuffix(needed, " key")}}, a.body["details"], what)
					}
				case '4':
					require.Equal(t, 404, a.status, what)
					nothing := s.do(op.method, s.pathOf(op, absent), credentials[caller], body)
					require.Equal(t, 404, nothing.status, what)
					delete(nothing.body, "requestId")
					delete(a.body, "requestId")
					require.Equal(t, nothing.body, a.body, "what is another's should look as what is not")
				default:
					require.NotContains(t, []any{"unauthenticated", "invalid_token", "invalid_api_key", "forbidden", "missing_scope", "internal"}, a.body["code"], what)
					switch op.id {
					case "rotate-session-key":
						credentials["session key"] = bearer(str(a.ok(200), "apiKey"))
					case "logout":
						u := map[string]*tenant{"token": s.owner, "other tenant": other, "admin": s.admin}[caller]
						login := s.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": password})
						credentials[caller] = bearer(str(login.ok(200), "token"))
					}
				}
			}
			if !letIn {
				s.unchanged(before, "refused %s", op.id)
			}
		}
	}
	for id := range matrix {
		require.True(t, seen[id], "%s is no operation", id)
	}
}

func sign(t testing.TB, method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
	t.Helper()
	claims := jwt.MapClaims{"iss": "kurir", "aud": "kurir-api", "exp": time.Now().Add(time.Hour).Unix(), "ver": 1}
	change(claims)
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return token
}

func TestTokensThatAreNotOurs(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	as := func(change func(jwt.MapClaims)) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) {
			c["sub"] = u.id
			if change != nil {
				change(c)
			}
		}
	}
	w.do("GET", "/api/v1/auth/me", bearer(sign(t, jwt.SigningMethodHS256, jwtSecret, as(nil))), nil).ok(200)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	head, rest, _ := strings.Cut(u.token, ".")
	for what, token := range map[string]string{
		"another secret": sign(t, jwt.SigningMethodHS256, []byte("another secret"), as(nil)),
		"no algorithm":   sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, as(nil)),
		"HS512":          sign(t, jwt.SigningMethodHS512, jwtSecret, as(nil)),
		"RS256":          sign(t, jwt.SigningMethodRS256, rsaKey, as(nil)),
		"expired":        sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Second).Unix() })),
		"no expiry":      sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { delete(c, "exp") })),
		"another issuer": sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { c["iss"] = "other" })),
		"the dashboard":  sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { c["aud"] = "kurir-queues" })),
		"no audience":    sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { delete(c, "aud") })),
		"revoked":        sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { c["ver"] = 0 })),
		"nobody":         sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { c["sub"] = uuid.NewString() })),
		"no ID":          sign(t, jwt.SigningMethodHS256, jwtSecret, as(func(c jwt.MapClaims) { c["sub"] = "root" })),
		"garbage":        "garbage", "half": head, "no head": rest, "the worker's": workerToken,
	} {
		a := w.do("GET", "/api/v1/auth/me", bearer(token), nil).refused(401, "invalid_token")
		require.Contains(t, a.header.Get("WWW-Authenticate"), "Bearer", what)
	}
	for _, header := range []string{"", "Bearer", "Bearer ", "Basic dTpw", "Token " + u.token, u.token} {
		w.do("GET", "/api/v1/auth/me", headers{"Authorization", header}, nil).refused(401, "unauthenticated")
	}
	for _, header := range []string{"bearer " + u.token, "BEARER  " + u.token} {
		w.do("GET", "/api/v1/auth/me", headers{"Authorization", header}, nil).ok(200)
	}
}

func TestWaysToSendAKey(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	for _, with := range []headers{{"X-Api-Key", u.key}, bearer(u.key)} {
		w.do("GET", "/api/v1/auth/me", with, nil).ok(200)
		w.do("POST", "/api/v1/sessions", with, map[string]any{"name": "x"}).ok(202)
	}
	w.do("GET", "/api/v1/auth/me?apiKey="+u.key, nil, nil).ok(200)
	w.do("POST", "/api/v1/sessions?apiKey="+u.key, nil, map[string]any{"name": "x"}).refused(401, "unauthenticated")
	w.do("DELETE", "/api/v1/sessions/x?apiKey="+u.key, nil, nil).refused(401, "unauthenticated")
	w.do("GET", "/api/v1/auth/me?apiKey="+u.token, nil, nil).refused(401, "invalid_api_key")
	for _, key := range []string{"kur_wrong", "kus_wrong", u.key + "x", u.key[:len(u.key)-1], strings.ToUpper(u.key), "kur_"} {
		w.do("GET", "/api/v1/auth/me", headers{"X-Api-Key", key}, nil).refused(401, "invalid_api_key")
	}
	w.exec(`UPDATE api_keys SET expires_at = now() - interval '1 second'`)
	w.eventually("the key to expire", func() bool { return w.do("GET", "/api/v1/auth/me", headers{"X-Api-Key", u.key}, nil).status == 401 })

	closed := startOn(t, w.db, func(_ *world, c *api.Config) { c.AllowQueryAPIKey = false })
	v := closed.register("v")
	closed.do("GET", "/api/v1/auth/me?apiKey="+v.key, nil, nil).refused(401, "unauthenticated")
}

// What one process changes, another one knows at once: well before what it remembers would be forgotten by itself.
func TestProcessesHearOfEachOther(t *testing.T) {
	t.Parallel()
	a := start(t)
	b := startOn(t, a.db)
	a.worker()
	u := a.register("u")
	key := u.session("shop")
	soon := func(what, path string, with headers, status int) {
		t.Helper()
		began := time.Now()
		require.Eventually(t, func() bool { return b.do("GET", path, with, nil).status == status }, patience, time.Millisecond, what)
		require.Less(t, time.Since(began), time.Second, what)
	}
	session, me := "/api/v1/sessions/shop", "/api/v1/auth/me"
	b.do("GET", session, bearer(key), nil).ok(200)
	rotated := str(a.do("POST", session+"/api-key/rotate", u.auth(), nil).ok(200), "apiKey")
	a.do("GET", session, bearer(key), nil).refused(401, "invalid_api_key")
	soon("a replaced key", session, bearer(key), 401)
	b.do("GET", session, bearer(rotated), nil).ok(200)

	b.do("GET", me, u.auth(), nil).ok(200)
	a.do("POST", "/api/v1/auth/logout", u.auth(), nil).ok(200)
	a.do("GET", me, u.auth(), nil).refused(401, "invalid_token")
	soon("a logout", me, u.auth(), 401)
	b.do("GET", me, bearer(u.key), nil).ok(200)

	token := str(a.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": password}).ok(200), "token")
	b.do("GET", me, bearer(token), nil).ok(200)
	a.do("DELETE", session, bearer(token), nil).ok(202)
	soon("a deleted session's key", session, bearer(rotated), 401)

	soonRole := func(role string, status int) {
		a.exec(`UPDATE users SET role = $1`, role)
		soon("a role", "/api/v1/admin/workers", bearer(token), status)
	}
	soonRole("ADMINISTRATOR", 200)
	soonRole("USER", 403)

	a.exec(`UPDATE users SET is_active = false`)
	soon("a deactivated user's token", me, bearer(token), 401)
	soon("a deactivated user's key", me, bearer(u.key), 401)
	a.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": password}).refused(401, "invalid_credentials")
}

func TestLogHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	key := u.connected("shop")
	w.do("GET", "/api/v1/sessions/shop?apiKey="+key, nil, nil).ok(200)
	w.do("GET", "/api/v1/sessions/secretname?x=secretquery", u.auth(), nil).refused(422, "invalid_request")
	w.do("GET", "/api/v1/sessions/secretname?apiKey=secretquery", u.auth(), nil).refused(401, "invalid_api_key")
	w.do("POST", "/api/v1/sessions/shop/send", append(bearer(key), "Idempotency-Key", "secretkey"), text("6281234567890", "secretword")).ok(202)
	w.do("POST", "/api/v1/auth/login", nil, map[string]any{"email": u.email, "password": "secretpassword"}).refused(401, "invalid_credentials")
	w.do("PUT", "/api/v1/sessions/shop/webhook", u.auth(), map[string]any{"url": "https://example.com/secretpath", "headers": map[string]string{"X-Token": "secretvalue"}}).ok(200)
	w.do("GET", "/secretroute", nil, nil).refused(404, "route_not_found")
	w.eventually("the log", func() bool { return strings.Contains(w.log.String(), "(none)") })
	log := w.log.String()
	for _, secret := range []string{key, u.key, u.token, password, "secret", "6281234567890", u.email, "apiKey"} {
		require.NotContains(t, log, secret)
	}
	require.Contains(t, log, u.id, "the line should name the user")
}

// What belongs to operators and workers is not on the public port, however its path is spelled, and nothing else is on
// the internal one.
func TestInternalPort(t *testing.T) {
	t.Parallel()
	internal, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, _ := net.SplitHostPort(internal.Addr().String())
	var inner *api.API
	db := modelstest.DB(t)
	w := startOn(t, db, func(w *world, c *api.Config) {
		c.InternalPort, _ = strconv.Atoi(port)
		w.made = func(a *api.API) { inner = a }
	})
	go func() { _ = inner.Listen(internal) }()
	inside := w.in(t)
	inside.url = "http://" + internal.Addr().String()
	for _, path := range []string{"/metrics", "/metrics/", "/metrics//", "/METRICS", "/Metrics/", "/admin/queues", "/admin/queues/", "/ADMIN/queues", "/admin/login", "/admin/login/"} {
		w.do("GET", path, headers{"Accept", "text/html"}, nil).refused(404, "route_not_found")
	}
	for _, base := range []string{"/api/v1", "/api"} {
		for _, slash := range []string{"", "/", "//"} {
			w.do("POST", base+"/admin/workers/register"+slash, bearer(workerToken), map[string]any{"workerId": "w", "endpoint": "http://x"}).refused(404, "route_not_found")
			w.do("PUT", base+"/admin/workers/w/heartbeat"+slash, bearer(workerToken), nil).refused(404, "route_not_found")
			w.do("POST", base+"/admin/workers/w/events"+slash, bearer(workerToken), nil).refused(404, "route_not_found")
		}
	}
	require.EqualValues(t, 0, w.count("workers"))
	require.Equal(t, 200, inside.do("GET", "/metrics", nil, nil).status)
	require.Equal(t, 200, inside.do("GET", "/admin/login", nil, nil).status)
	inside.do("POST", "/api/admin/workers/register", bearer(workerToken), map[string]any{"workerId": "w", "endpoint": "http://x"}).ok(200)
	inside.do("POST", "/api/v1/auth/login", nil, nil).refused(404, "route_not_found")
	for _, here := range []*world{w, inside} {
		require.Equal(t, 200, here.do("GET", "/health", nil, nil).status)
		require.Equal(t, 200, here.do("GET", "/health/live", nil, nil).status)
	}
}

func TestBrowsersOfOtherSites(t *testing.T) {
	t.Parallel()
	w := start(t)
	a := w.do("OPTIONS", "/api/v1/sessions", headers{"Origin", "https://app.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-api-key"}, nil)
	require.Equal(t, http.StatusNoContent, a.status)
	require.Equal(t, "*", a.header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, a.header.Get("Access-Control-Allow-Headers"), "X-Api-Key")
	a = w.do("GET", "/api/v1/auth/me", headers{"Origin", "https://app.example.com"}, nil).refused(401, "unauthenticated")
	require.Equal(t, "*", a.header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, a.header.Get("Access-Control-Expose-Headers"), "Retry-After")
	require.Empty(t, a.header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
}
