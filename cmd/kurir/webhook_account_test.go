package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

// accountant subscribes to a whole account. It holds one secret at a time, refuses what the official library does not
// verify with that, and remembers what came.
type accountant struct {
	url string

	mu       sync.Mutex
	holds    string
	watched  string // another secret, to see whether it verifies too
	both     bool   // the last delivery was good under both
	refused  []string
	sessions map[string]int
	seen     map[int64]string
}

func newAccountant(t *testing.T) *accountant {
	a := &accountant{holds: hookSecret, sessions: map[string]int{}, seen: map[int64]string{}}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	a.url = server.URL
	return a
}

func verify(secret string, body []byte, h http.Header) error {
	verifier, err := standard.NewWebhook(secret)
	if err != nil {
		return err
	}
	return verifier.Verify(body, h)
}

func (a *accountant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var e struct {
		Type, SessionID string
		Sequence        int64
		Data            struct{ Reason *string }
	}
	err := json.Unmarshal(body, &e)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		err = verify(a.holds, body, r.Header)
	}
	if err != nil {
		a.refused = append(a.refused, fmt.Sprintf("%d %s: %v", e.Sequence, e.Type, err))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	a.both = a.watched != "" && verify(a.watched, body, r.Header) == nil
	what := e.Type
	if e.Data.Reason != nil {
		what += " " + *e.Data.Reason
	}
	if _, again := a.seen[e.Sequence]; !again {
		a.sessions[e.SessionID]++
	}
	a.seen[e.Sequence] = what
	w.WriteHeader(http.StatusNoContent)
}

// switchTo has the subscriber hold a secret, and watch another one.
func (a *accountant) switchTo(holds, watched string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.holds, a.watched, a.both = holds, watched, false
}

func (a *accountant) verifiesBoth() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.both
}

func (a *accountant) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.seen)
}

// TestAccountWebhookThroughRotation streams messages of several sessions to one subscriber while its secret is replaced:
// none is refused, whichever of the two secrets it holds, and its sequence has no gap.
func TestAccountWebhookThroughRotation(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "WEBHOOK_RETRY_SCHEDULE=0s,1s,1s,2s,2s,3s,10s")
	a := newAccountant(t)
	c.call(http.MethodPut, "/webhook", map[string]any{"url": a.url, "secret": hookSecret}, nil, http.StatusOK)
	names := c.linkedSessions(3)

	stop := make(chan struct{})
	sent := make(chan int)
	go func() {
		n := 0
		defer func() { sent <- n }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			status, _, err := c.request(c.t.Context(), http.MethodPost, c.entries[n%2]+"/api/v1/sessions/"+names[n%3]+"/send",
				map[string]any{"to": fmt.Sprintf("62812345%05d", n%7+1), "message": fmt.Sprint(n)})
			if err != nil || status != http.StatusAccepted {
				t.Errorf("send: %d %v", status, err)
				return
			}
			n++
		}
	}()
	more := func(what string) {
		before := a.count()
		c.eventually(60*time.Second, what, func() (bool, string) { return a.count() >= before+20, fmt.Sprint(a.count()) })
	}
	more("events come before the rotation")
	var rotated struct{ Secret string }
	c.call(http.MethodPost, "/webhook/rotate-secret", struct{}{}, &rotated, http.StatusOK)
	require.NotEqual(t, hookSecret, rotated.Secret)
	a.switchTo(hookSecret, rotated.Secret)
	c.eventually(60*time.Second, "deliveries are signed with both", func() (bool, string) { return a.verifiesBoth(), "" })
	more("events come to the former secret")
	a.switchTo(rotated.Secret, hookSecret)
	c.eventually(60*time.Second, "deliveries are good under the former secret too", func() (bool, string) { return a.verifiesBoth(), "" })
	more("events come to the new secret")
	_, err := c.db.Pool.Exec(t.Context(), `UPDATE webhooks SET previous_until = now() WHERE session_uid IS NULL`)
	require.NoError(t, err)
	c.eventually(60*time.Second, "the former secret signs no longer", func() (bool, string) { return !a.verifiesBoth(), "" })
	more("events come when the rotation is over")
	close(stop)
	n := <-sent
	c.call(http.MethodDelete, "/sessions/"+names[2], nil, nil, http.StatusAccepted)

	next := int64(0)
	c.eventually(60*time.Second, "everything has come", func() (bool, string) {
		next = modelstest.Scalar[int64](t, c.db, `SELECT next_seq FROM lanes l JOIN webhooks w ON w.id = l.id WHERE w.session_uid IS NULL`)
		settled := modelstest.Scalar[bool](t, c.db, `SELECT NOT EXISTS (SELECT 1 FROM messages WHERE status IN ('PENDING', 'SENDING'))`)
		return settled && int64(a.count()) == next-1, fmt.Sprintf("%d of %d", a.count(), next-1)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Empty(t, a.refused)
	deleted := false
	for seq := int64(1); seq < next; seq++ {
		require.Contains(t, a.seen, seq, "a gap")
		deleted = deleted || a.seen[seq] == "session.status deleted"
	}
	require.True(t, deleted, "the account's webhook should hear that the session is gone")
	for _, name := range names {
		require.Positive(t, a.sessions[name], "%s of %v", name, a.sessions)
	}
	require.Len(t, a.sessions, len(names))
	require.Greater(t, len(a.seen), n)
	t.Logf("%d messages, %d events", n, len(a.seen))
}
