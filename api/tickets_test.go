package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (t *tenant) ticket(path string, with headers) string {
	t.Helper()
	a := t.do("POST", path+"/ticket", with, nil)
	data := a.ok(201)
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	expires, err := time.Parse(time.RFC3339, str(data, "expiresAt"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Minute), expires, 10*time.Second)
	require.Regexp(t, `^kut_[A-Za-z0-9_-]{43}$`, str(data, "ticket"))
	return str(data, "ticket")
}

func TestTickets(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	other := startOn(t, w.db)
	key := u.session("third")
	ids := w.emit("shop", "message.sent", "message.read")

	ticket := u.ticket(shopEvents, u.auth())
	w.follow(shopEvents+"?lastEventId=0&ticket="+ticket, nil).has("by ticket", ids...)
	w.do("GET", shopEvents+"?ticket="+ticket, nil, nil).refused(401, "invalid_ticket")
	ticket = u.ticket(shopEvents, u.auth())
	require.Equal(t, map[int]int{200: 1, 401: 15}, parallel(16, func(i int) int {
		return []*world{w, other}[i%2].do("GET", shopEvents+"?ticket="+ticket, nil, nil).status
	}), "once, whichever process is asked")

	// A ticket opens what it was made for, and nothing else.
	w.do("GET", accountEvents+"?ticket="+u.ticket(shopEvents, u.auth()), nil, nil).refused(403, "forbidden")
	w.do("GET", "/api/v1/sessions/branch/events?ticket="+u.ticket(shopEvents, u.auth()), nil, nil).refused(404, "session_not_found")
	w.do("GET", "/api/v1/sessions/foreign/events?ticket="+u.ticket(accountEvents, u.auth()), nil, nil).refused(404, "session_not_found")
	w.follow(shopEvents+"?lastEventId=0&ticket="+u.ticket(accountEvents, bearer(u.key)), nil).has("an account's opens a session's", ids...)
	w.follow("/api/v1/sessions/third/events?ticket="+u.ticket("/api/v1/sessions/third/events", bearer(key)), nil).ready()
	spare := u.ticket(accountEvents, u.auth())
	for _, path := range []string{"/api/v1/auth/me", "/api/v1/sessions", "/api/v1/sessions/shop"} {
		w.do("GET", path+"?ticket="+spare, nil, nil).refused(401, "unauthenticated")
	}
	w.do("POST", accountEvents+"/ticket?ticket="+spare, nil, nil).refused(401, "unauthenticated")
	w.do("GET", accountEvents, bearer(spare), nil).refused(401, "invalid_token")
	for _, bad := range []string{"x", spare + "x", spare[:46], "kut_", key, u.key, u.token} {
		w.do("GET", accountEvents+"?ticket="+bad, nil, nil).refused(401, "invalid_ticket")
	}
	w.do("GET", accountEvents+"?ticket=", nil, nil).refused(401, "unauthenticated")
	w.follow(accountEvents+"?ticket="+spare, nil).ready()

	late := u.ticket(accountEvents, u.auth())
	w.exec(`UPDATE stream_tickets SET expires_at = now()`)
	w.do("GET", accountEvents+"?ticket="+late, nil, nil).refused(401, "invalid_ticket")
	require.NotZero(t, w.count("stream_tickets"))
	u.ticket(accountEvents, u.auth())
	require.EqualValues(t, 1, w.count("stream_tickets"), "those that nobody used go")
	for range 120 {
		u.ticket(accountEvents, u.auth())
	}
	require.EqualValues(t, 100, w.count("stream_tickets"))
	require.NotContains(t, w.log.String(), "kut_")
	require.Zero(t, w.count(`stream_tickets WHERE encode(hash, 'escape') LIKE '%kut%'`))
}

// A ticket is worth what the credential that made it is worth.
func TestTicketsOfRevokedCredentials(t *testing.T) {
	t.Parallel()
	w, u := streamWorld(t)
	key := u.session("third")
	const third = "/api/v1/sessions/third/events"
	byKey, unused := w.follow(third+"?ticket="+u.ticket(third, bearer(key)), nil).ready(), u.ticket(third, bearer(key))
	u.do("POST", "/api/v1/sessions/third/api-key/rotate", u.auth(), nil).ok(200)
	byKey.ends("another key")
	w.do("GET", third+"?ticket="+unused, nil, nil).refused(401, "invalid_ticket")

	byToken, unused := w.follow(accountEvents+"?ticket="+u.ticket(accountEvents, u.auth()), nil).ready(), u.ticket(accountEvents, u.auth())
	deleted := u.ticket(shopEvents, headers{"X-Api-Key", u.key})
	u.do("DELETE", "/api/v1/sessions/shop", u.auth(), nil).ok(202)
	w.do("GET", shopEvents+"?ticket="+deleted, nil, nil).refused(401, "invalid_ticket")
	u.do("POST", "/api/v1/auth/logout", u.auth(), nil).ok(200)
	byToken.ends("a logout")
	w.do("GET", accountEvents+"?ticket="+unused, nil, nil).refused(401, "invalid_ticket")
	w.eventually("the log", func() bool { return strings.Count(w.log.String(), `"why":"revoked"`) == 2 })
}
