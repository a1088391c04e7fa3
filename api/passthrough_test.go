package api_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/models"
	"kurir/wire"
)

const aGroupPath = "/groups/120363012345678901@g.us"

// What a worker refuses, and what that means to a client; for what reads, and for what changes something.
func TestWhatAWorkerRefuses(t *testing.T) {
	t.Parallel()
	w, u, s := passing(t)
	for code, want := range map[string]struct {
		status  int
		code    string
		wstatus int // of what changes something; 0: the same
		wcode   string
	}{
		wire.CodeNotConnected:    {503, "not_connected", 0, ""},
		wire.CodeLeaseLost:       {503, "session_migrating", 0, ""},
		wire.CodeStaleEpoch:      {503, "session_migrating", 0, ""},
		wire.CodeSessionNotFound: {503, "session_migrating", 0, ""},
		wire.CodeStaleTerm:       {503, "session_migrating", 0, ""},
		wire.CodeUnauthenticated: {503, "session_migrating", 0, ""},
		wire.CodeUnsupported:     {501, "unsupported", 0, ""},
		wire.CodeNotFound:        {501, "unsupported", 0, ""},
		wire.CodeRateLimited:     {429, "rate_limited", 0, ""},
		wire.CodeContactNotFound: {404, "contact_not_found", 0, ""},
		wire.CodeGroupNotFound:   {404, "group_not_found", 0, ""},
		wire.CodeNotGroupAdmin:   {403, "not_group_admin", 0, ""},
		wire.CodeInviteInvalid:   {409, "invite_invalid", 0, ""},
		wire.CodeInvalidRequest:  {422, "invalid_request", 0, ""},
		wire.CodeEngineFailed:    {502, "engine_failed", 504, "outcome_unknown"},
		wire.CodeInternal:        {502, "engine_failed", 504, "outcome_unknown"},
		wire.CodeEngineTimeout:   {504, "worker_timeout", 504, "outcome_unknown"},
		wire.CodeFull:            {502, "bad_worker_answer", 0, ""},
		"something_new":          {502, "bad_worker_answer", 0, ""},
	} {
		s.answers(func(context.Context, string, string, wire.Passed) (any, error) {
			return nil, wire.Refuse(code, "talks of SQLSTATE and +6281234567890")
		})
		a := u.ask("GET", aGroupPath, nil).refused(want.status, want.code)
		require.NotContains(t, a.text, "6281234567890", "what a worker says is for the log")
		if want.wstatus == 0 {
			want.wstatus, want.wcode = want.status, want.code
		}
		u.ask("POST", aGroupPath+"/leave", nil).refused(want.wstatus, want.wcode)
		require.Equal(t, 2, s.asked(), "%s: a refusal is not asked again", code)
	}
	require.NotContains(t, w.log.String(), "6281234567890")
}

// What a worker answers is not believed.
func TestWhatAWorkerMakesUp(t *testing.T) {
	t.Parallel()
	_, u, s := passing(t)
	numbers := map[string]any{"numbers": []string{"6281234567890"}}
	text := func(v string) *string { return &v }
	for what, answer := range map[string]any{
		"another form": []int{1}, "nothing": nil, "a text": "x", "no numbers": wire.Checked{}, "another number": wire.Checked{Numbers: []wire.CheckedNumber{{Number: "1"}}},
		"too many":                wire.Checked{Numbers: make([]wire.CheckedNumber, 2)},
		"it exists without a JID": wire.Checked{Numbers: []wire.CheckedNumber{{Number: "6281234567890", Exists: true}}},
		"over 1 MB":               map[string]string{"x": strings.Repeat("x", 2<<20)},
	} {
		s.answers(func(context.Context, string, string, wire.Passed) (any, error) { return answer, nil })
		a := u.ask("POST", "/contacts/check", numbers)
		a.refused(502, "bad_worker_answer")
		require.NotContains(t, a.text, "xxxx", what)
	}
	for _, raw := range []string{"file:///etc/passwd", "javascript:alert(1)", "//host/x", "/path", "x", "", "https://", "https://" + strings.Repeat("x", 3000), "http://[::1"} {
		s.answers(func(context.Context, string, string, wire.Passed) (any, error) { return wire.Picture{URL: &raw}, nil })
		u.ask("GET", "/contacts/6281234567890/picture", nil).refused(502, "bad_worker_answer")
	}
	s.answers(func(context.Context, string, string, wire.Passed) (any, error) { return wire.Picture{}, nil })
	require.Nil(t, u.ask("GET", "/contacts/6281234567890/picture", nil).ok(200)["url"])
	s.answers(func(context.Context, string, string, wire.Passed) (any, error) {
		return wire.Picture{URL: text("https://pps.whatsapp.net/x?y=z"), ID: text("1")}, nil
	})
	require.Equal(t, "https://pps.whatsapp.net/x?y=z", u.ask("GET", "/contacts/6281234567890/picture", nil).ok(200)["url"])
	// More than was asked for is cut off, and the rest is another page.
	s.answers(func(context.Context, string, string, wire.Passed) (any, error) {
		list := wire.Groups{}
		for i := range 500 {
			list.Groups = append(list.Groups, wire.Group{ID: fmt.Sprintf("120363%012d@g.us", i), Participants: make([]wire.Participant, 3)})
		}
		return list, nil
	})
	page := u.ask("GET", "/groups?limit=7", nil)
	require.Len(t, page.ok(200)["groups"], 7)
	require.NotEmpty(t, page.ok(200)["nextCursor"])
	require.NotContains(t, page.text, "participants")
}

// A call of what is not connected is refused here, and the worker is not asked.
func TestPassingNeedsAConnectedSession(t *testing.T) {
	t.Parallel()
	w, u, s := passing(t)
	for _, x := range []struct {
		change string
		status int
		code   string
	}{
		{`status = 'RECONNECTING', reason = 'connection_lost'`, 503, "not_connected"},
		{`status = 'DISCONNECTED', reason = 'replaced'`, 503, "not_connected"},
		{`status = 'RECONNECTING', reason = 'migrating'`, 503, "session_migrating"},
		{`status = 'RECONNECTING', reason = 'no_worker_available', worker_id = NULL`, 503, "session_migrating"},
		{`worker_id = 'w1', status = 'QR_REQUIRED', reason = NULL, linked_at = NULL`, 409, "session_not_linked"},
		{`desired = 'STOPPED', status = 'DISCONNECTED', reason = 'stopped', worker_id = NULL, linked_at = now()`, 409, "session_not_linked"},
		{`desired = 'LOGGED_OUT', reason = 'logged_out'`, 409, "session_not_linked"},
	} {
		w.exec(`UPDATE sessions SET ` + x.change)
		u.ask("GET", "/groups", nil).refused(x.status, x.code)
		u.ask("POST", "/presence", map[string]any{"state": "available"}).refused(x.status, x.code)
		u.ask("POST", "/read", map[string]any{"chat": "6281234567890"}).refused(x.status, x.code)
	}
	require.Zero(t, s.asked())
	metrics := w.do("GET", "/metrics", nil, nil).text // by which alerts tell what is a fault of ours
	for _, line := range []string{`{code="not_connected"} 6`, `{code="session_migrating"} 6`, `{code="internal"} 0`, `{code="worker_timeout"} 0`} {
		require.Contains(t, metrics, "\nkurir_http_failures_total"+line+"\n")
	}
	require.NotContains(t, metrics, `{code="session_not_linked"}`)
}

// A worker that cannot be reached is 503: nothing was sent.
func TestAWorkerThatCannotBeReached(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	w.exec(`UPDATE workers SET endpoint = 'http://127.0.0.1:1'`)
	for range 6 { // with the breaker closed, and open
		a := u.ask("GET", aGroupPath, nil).refused(503, "worker_unavailable")
		require.NotEmpty(t, a.header.Get("Retry-After"))
		u.ask("POST", aGroupPath+"/leave", nil).refused(503, "worker_unavailable")
	}
}

// One that hangs is 504 in time; its own sessions wait, and have no more of the API than their share.
func TestAWorkerThatHangs(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) { c.CallTimeout = 300 * time.Millisecond })
	w.worker()
	u := w.register("u")
	u.connected("shop")
	u.connected("second")
	s, over := w.scripted(), make(chan struct{})
	w.Cleanup(func() { close(over) })
	hang := func(ctx context.Context, session, call string, p wire.Passed) (any, error) {
		<-over
		return plausible(ctx, session, call, p)
	}
	s.answers(hang)
	u.ask("GET", aGroupPath, nil).refused(504, "worker_timeout")
	u.ask("POST", aGroupPath+"/leave", nil).refused(504, "outcome_unknown")
	require.Equal(t, 2, s.asked(), "asked twice")
	seen := parallel(40, func(int) string { return str(u.ask("GET", aGroupPath, nil).body, "code") })
	for code := range seen {
		require.Contains(t, []string{"worker_timeout", "too_many_calls", "worker_unavailable"}, code)
	}
	require.Less(t, seen["worker_timeout"], 40, seen)
	// Others are served while one session's calls hang.
	shop := w.uidOf("shop")
	s.answers(func(ctx context.Context, session, call string, p wire.Passed) (any, error) {
		if session == shop {
			return hang(ctx, session, call, p)
		}
		return plausible(ctx, session, call, p)
	})
	second := func() int { return u.do("GET", "/api/v1/sessions/second"+aGroupPath, u.auth(), nil).status }
	require.Eventually(t, func() bool { return second() == 200 }, patience, 20*time.Millisecond, "the breaker closes again")
}

func (w *world) uidOf(id string) string {
	w.Helper()
	var uid string
	require.NoError(w, w.db.Pool.QueryRow(context.Background(), `SELECT uid::text FROM sessions WHERE id = $1`, id).Scan(&uid))
	return uid
}

// No session has more than its share of calls in hand.
func TestCallsOfOneSessionAreBounded(t *testing.T) {
	t.Parallel()
	_, u, s := passing(t)
	began, over := make(chan struct{}, 100), make(chan struct{})
	s.answers(func(ctx context.Context, session, call string, p wire.Passed) (any, error) {
		began <- struct{}{}
		<-over
		return plausible(ctx, session, call, p)
	})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() { u.ask("GET", aGroupPath, nil).ok(200) })
	}
	for range 4 {
		<-began
	}
	u.ask("GET", aGroupPath, nil).refused(429, "too_many_calls")
	close(over)
	group.Wait()
	require.EqualValues(t, 4, s.most.Load())
	u.ask("GET", aGroupPath, nil).ok(200)
}

// A connection that breaks: what reads is asked once more, what changes something is not.
func TestABrokenConnection(t *testing.T) {
	t.Parallel()
	w, u, _ := passing(t)
	var mu sync.Mutex
	accepted := 0
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			accepted++
			mu.Unlock()
			_, _ = c.Read(make([]byte, 1)) // the request has begun to arrive
			_ = c.Close()
		}
	}()
	w.exec(`UPDATE workers SET endpoint = $1`, "http://"+l.Addr().String())
	count := func(ask func() *answer) (int, *answer) {
		mu.Lock()
		before := accepted
		mu.Unlock()
		a := ask()
		mu.Lock()
		defer mu.Unlock()
		return accepted - before, a
	}
	n, a := count(func() *answer { return u.ask("GET", aGroupPath, nil) })
	a.refused(503, "worker_unavailable")
	require.Equal(t, 2, n)
	n, a = count(func() *answer { return u.ask("POST", aGroupPath+"/leave", nil) })
	a.refused(504, "outcome_unknown")
	require.Equal(t, 1, n)
}

// The calls carry the session's epoch; a worker of another term refuses them.
func TestCallsCarryTermAndEpoch(t *testing.T) {
	t.Parallel()
	w, u, s := passing(t)
	var epoch int64
	s.answers(func(ctx context.Context, session, call string, p wire.Passed) (any, error) {
		s.with(func() { epoch = p.Epoch })
		return plausible(ctx, session, call, p)
	})
	w.exec(`UPDATE sessions SET epoch = 7`)
	u.ask("GET", aGroupPath, nil).ok(200)
	s.with(func() { require.EqualValues(t, 7, epoch) })
	s.with(func() { s.term = 2 })
	u.ask("GET", aGroupPath, nil).refused(503, "session_migrating")
}

// A group is made once for an Idempotency-Key, as far as the network can tell, though its first answer was lost.
func TestCreateGroupOnce(t *testing.T) {
	t.Parallel()
	_, u, s := passing(t)
	var keys []string
	lost := true
	s.answers(func(ctx context.Context, session, call string, p wire.Passed) (any, error) {
		var in wire.NewGroup
		mustDecode(t, p.Data, &in)
		s.with(func() { keys = append(keys, in.Key) })
		if lost {
			return nil, wire.Refuse(wire.CodeEngineTimeout, "")
		}
		return plausible(ctx, session, call, p)
	})
	body := map[string]any{"subject": "x", "participants": []string{"+62 812-3456-7890"}}
	make := func(key string) *answer {
		return u.do("POST", "/api/v1/sessions/shop/groups", keyed(u.auth(), key), body)
	}
	make("k").refused(504, "outcome_unknown")
	lost = false
	first := make("k").ok(201)
	require.True(t, replayed(make("k")))
	require.Equal(t, "120363012345678901@g.us", first["id"])
	require.Len(t, keys, 2)
	require.Equal(t, keys[0], keys[1])
	make("other").ok(201)
	require.NotEqual(t, keys[0], keys[2])
}

// Addresses and links that make no sense are refused here.
func TestAddressesOfCalls(t *testing.T) {
	t.Parallel()
	_, u, s := passing(t)
	for path, body := range map[string]any{
		"/contacts/check":             map[string]any{"numbers": []string{"6281234567890", "12"}},
		"/groups":                     map[string]any{"subject": "x", "participants": []string{"120363012345678901@g.us"}},
		"/groups/join":                map[string]any{"link": "https://evil.example/AbCdEfGhIjKlMnOpQrStUv"},
		"/presence":                   map[string]any{"state": "composing"},
		"/presence/subscribe":         map[string]any{"contact": "1@newsletter"},
		"/read":                       map[string]any{},
		aGroupPath + "/participants":  map[string]any{"participants": []string{"x"}},
		"/pairing-code":               map[string]any{"phoneNumber": "12345@lid"},
		"/presence?":                  map[string]any{"state": "available", "chat": "6281234567890"},
		"/read?":                      map[string]any{"chat": "6281234567890", "messageIds": []string{"x"}},
		"/read?&":                     map[string]any{"messageIds": []string{"01920e3c-5f5b-7c3a-9d2e-1f2a3b4c5d6e"}},
		"/contacts/check?":            map[string]any{"numbers": []string{"12345678@lid"}},
		"/groups?":                    map[string]any{"subject": "   ", "participants": []string{"6281234567890"}},
		"/groups/join?":               map[string]any{"link": "https://chat.whatsapp.com/"},
		"/groups/join?&":              map[string]any{"link": "file:///etc/passwd"},
		"/groups/join?&&":             map[string]any{"link": "http://127.0.0.1/chat.whatsapp.com/AbCdEfGhIjKl"},
		"/contacts/check?&":           map[string]any{"numbers": []string{"120363012345678901@g.us"}},
		aGroupPath + "/participants?": map[string]any{"participants": []string{"1@g.us", "6281234567890"}},
		"/presence/subscribe?":        map[string]any{"contact": "120363012345678901@g.us"},
	} {
		a := u.ask("POST", path, body).refused(422, "invalid_request")
		require.NotEmpty(t, a.body["details"], path)
	}
	for _, id := range []string{"x", "6281234567890@s.whatsapp.net", "1@g.us", "..", "120363012345678901@g.us@g.us"} {
		u.ask("GET", "/groups/"+id, nil).refused(404, "group_not_found")
	}
	u.ask("GET", "/contacts/120363012345678901@g.us", nil).refused(422, "invalid_request")
	u.ask("PUT", "/labels/x/chats/6281234567890", nil).refused(404, "label_not_found")
	u.ask("PUT", "/labels/1/chats/x", nil).refused(422, "invalid_request")
	require.Zero(t, s.asked())
	for _, link := range []string{"https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv", "chat.whatsapp.com/invite/AbCdEfGhIjKlMnOpQrStUv?mode=x", "AbCdEfGhIjKlMnOpQrStUv"} {
		s.answers(func(_ context.Context, _, _ string, p wire.Passed) (any, error) {
			var in wire.Invite
			mustDecode(t, p.Data, &in)
			require.Equal(t, "AbCdEfGhIjKlMnOpQrStUv", in.Code)
			return wire.Joined{Group: "120363012345678901@g.us"}, nil
		})
		u.ask("POST", "/groups/join", map[string]any{"link": link}).ok(200)
	}
}

// What came in is marked as read by chat and author, once.
func TestMarkRead(t *testing.T) {
	t.Parallel()
	w, u, s := passing(t)
	u.connected("second")
	shop := w.uidOf("shop")
	insert := func(session, direction, chat, from, whatsappID string) string {
		id := models.NewID()
		w.exec(`INSERT INTO messages (id, session_uid, direction, chat, from_number, to_number, message_type, status, whatsapp_id)
			VALUES ($1, $2::text::uuid, $3, $4, nullif($5, ''), 't', 'TEXT', 'DELIVERED', $6)`, id, session, direction, chat, from, whatsappID)
		return id.String()
	}
	const chat, group = "6281234567890@s.whatsapp.net", "120363012345678901@g.us"
	one, two := insert(shop, "INBOUND", chat, "+6281234567890", "A"), insert(shop, "INBOUND", group, "+62811111111", "B")
	three, sent := insert(shop, "INBOUND", group, "+62811111111", "C"), insert(shop, "OUTBOUND", chat, "", "D")
	foreign := insert(w.uidOf("second"), "INBOUND", chat, "+6281234567890", "E")
	insert(shop, "INBOUND", chat, "+6281234567890", "F")
	var marks wire.ReadMarks
	s.answers(func(ctx context.Context, session, call string, p wire.Passed) (any, error) {
		marks = wire.ReadMarks{}
		mustDecode(t, p.Data, &marks)
		return plausible(ctx, session, call, p)
	})
	for _, id := range []string{sent, foreign, "x", strings.ToUpper(models.NewID().String())} {
		a := u.ask("POST", "/read", map[string]any{"messageIds": []string{one, id}}).refused(422, "invalid_request")
		require.Contains(t, a.text, `"field":"messageIds[1]"`)
	}
	require.Zero(t, s.asked())
	require.Equal(t, 3.0, u.ask("POST", "/read", map[string]any{"messageIds": []string{one, two, three, two}}).ok(200)["marked"])
	require.Equal(t, wire.ReadMarks{Messages: []wire.ReadMark{{Chat: chat, Sender: chat, WhatsappIDs: []string{"A"}},
		{Chat: group, Sender: "62811111111@s.whatsapp.net", WhatsappIDs: []string{"B", "C"}}}}, marks)
	require.NotEmpty(t, u.read("/messages/" + one).ok(200)["readAt"])
	require.Equal(t, 1.0, u.ask("POST", "/read", map[string]any{"chat": "+6281234567890"}).ok(200)["marked"])
	require.Equal(t, []string{"F"}, marks.Messages[0].WhatsappIDs)
	asked := s.asked()
	require.Equal(t, 0.0, u.ask("POST", "/read", map[string]any{"chat": "+6281234567890"}).ok(200)["marked"])
	require.Equal(t, asked, s.asked())
	s.answers(func(context.Context, string, string, wire.Passed) (any, error) {
		return nil, wire.Refuse(wire.CodeEngineTimeout, "")
	})
	w.exec(`UPDATE messages SET read_at = NULL`)
	u.ask("POST", "/read", map[string]any{"chat": "+6281234567890"}).refused(504, "outcome_unknown")
	require.EqualValues(t, 0, w.count("messages WHERE read_at IS NOT NULL"), "nobody knows")
}

// Addresses in paths may be written as clients write them.
func TestAddressesInPathsMayBeEscaped(t *testing.T) {
	t.Parallel()
	_, u, _ := passing(t)
	for _, path := range []string{"/groups/120363012345678901%40g.us", "/groups/120363012345678901", "/contacts/6281234567890%40s.whatsapp.net", "/contacts/%2B6281234567890", "/contacts/+6281234567890",
		"/contacts/%2B62%20812-3456-7890/picture"} {
		require.Equal(t, 200, u.ask("GET", path, nil).status, path)
	}
	u.ask("PUT", "/labels/1/chats/120363012345678901%40g.us", nil).ok(200)
	u.ask("DELETE", "/contacts/%2B6281234567890/data", nil).ok(202)
	require.Equal(t, "shop", u.do("GET", "/api/v1/sessions/sho%70", u.auth(), nil).ok(200)["id"])
	u.ask("GET", "/contacts/%252B6281234567890", nil).refused(422, "invalid_request")
	for _, list := range []string{"/contacts", "/groups"} {
		u.ask("GET", list+"?cursor=nonsense", nil).refused(422, "invalid_cursor")
	}
}
