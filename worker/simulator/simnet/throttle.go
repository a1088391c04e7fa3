package simnet

import (
	"cmp"
	"net/http"
	"time"

	"kurir/wire"
)

// throttle is how the network asks a session to pause: its next sends are not taken.
type throttle struct {
	Next         int64  `json:"throttleNext"`
	RetryAfterMs int64  `json:"retryAfterMs"`
	Code         string `json:"code"` // wire.CodeRateLimited, which is the default, or wire.CodeTemporaryBan
}

// throttle serves POST /sessions/{id}/throttle.
func (n *Network) throttle(w http.ResponseWriter, r *http.Request) {
	var t throttle
	if err := decode(w, r, &t); err != nil {
		answerAs(w, nil, err)
		return
	}
	t.Code = cmp.Or(t.Code, wire.CodeRateLimited)
	if t.Next < 0 || t.RetryAfterMs < 0 || t.Code != wire.CodeRateLimited && t.Code != wire.CodeTemporaryBan {
		answerAs(w, nil, refusef(http.StatusUnprocessableEntity, "throttleNext and retryAfterMs are not negative, and code is %s or %s",
			wire.CodeRateLimited, wire.CodeTemporaryBan))
		return
	}
	n.onSession(func(s *session) error {
		s.throttle = t
		return nil
	})(w, r)
}

// throttled answers a send that has to wait, nil for one that is taken.
func (s *session) throttled(now time.Time) *wire.SendResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.throttle.Next == 0 {
		return nil
	}
	s.throttle.Next--
	return &wire.SendResult{
		Outcome: wire.OutcomeThrottled, Code: s.throttle.Code, Error: "the simulated network asks for a pause",
		RetryAfterMs: s.throttle.RetryAfterMs, Timestamp: now,
	}
}
