package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// subscriber is a webhook receiver that verifies signatures with the official library and remembers what came.
type subscriber struct {
	url string

	mu     sync.Mutex
	seen   map[string]map[int64]string  // by session, or account: type by sequence
	told   map[telling]int              // each sequence once
	kept   map[string][]json.RawMessage // by type and session, of the types that happen rarely: data, each sequence once
	all    bool                         // keep those of every type
	bad    []string
	answer func(session string) int
}

// account is where the webhook of the whole account leads to; those of sessions lead to their names.
const account = "account"

// telling is an event of a message, as the webhooks of sessions or that of the account heard it.
type telling struct {
	account        bool
	event, message string
}

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func newSubscriber(t *testing.T) *subscriber {
	s := &subscriber{seen: map[string]map[int64]string{}, told: map[telling]int{}, kept: map[string][]json.RawMessage{},
		answer: func(string) int { return http.StatusNoContent }}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// answering has the subscriber answer what f says, by session, from now on.
func (s *subscriber) answering(f func(session string) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	verifier, werr := standard.NewWebhook(hookSecret)
	if err = errors.Join(err, werr); err == nil {
		err = verifier.Verify(body, r.Header)
	}
	var e struct {
		Type, SessionID string
		Sequence        int64
		Data            json.RawMessage
	}
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	session := strings.TrimPrefix(r.URL.Path, "/")
	if err == nil && e.SessionID != session && session != account {
		err = fmt.Errorf("event of %s came to %s", e.SessionID, session)
	}
	if err != nil {
		s.bad = append(s.bad, err.Error())
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	status := s.answer(session)
	w.WriteHeader(status)
	if status >= 300 {
		return
	}
	if s.seen[session] == nil {
		s.seen[session] = map[int64]string{}
	}
	if known, again := s.seen[session][e.Sequence]; again && known != e.Type {
		s.bad = append(s.bad, fmt.Sprintf("%s: sequence %d is %s and %s", session, e.Sequence, known, e.Type))
	} else if !again {
		s.seen[session][e.Sequence] = e.Type
		if strings.HasPrefix(e.Type, "message.") {
			var message struct{ ID string }
			if err := json.Unmarshal(e.Data, &message); err != nil {
				s.bad = append(s.bad, err.Error())
			}
			s.told[telling{session == account, e.Type, message.ID}]++
		}
		if s.all || e.Type == "message.received" || e.Type == "session.migrated" {
			s.kept[e.Type+" "+session] = append(s.kept[e.Type+" "+session], e.Data)
		}
	}
}

// keepAll has the subscriber keep the data of every event from now on.
func (s *subscriber) keepAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = true
}

// of returns the data of a session's events of a type that is kept.
func (s *subscriber) of(event, session string) []json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]json.RawMessage(nil), s.kept[event+" "+session]...)
}

// complete reports whether each session's sequence has come without gaps up to the webhook's counter.
func (s *subscriber) complete(want map[string]int64) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session, next := range want {
		for seq := int64(1); seq < next; seq++ {
			if _, ok := s.seen[session][seq]; !ok {
				return false, fmt.Sprintf("%s: sequence %d of %d is missing", session, seq, next-1)
			}
		}
		if int64(len(s.seen[session])) != next-1 {
			return false, fmt.Sprintf("%s: %d events, expected %d", session, len(s.seen[session]), next-1)
		}
	}
	return true, ""
}
