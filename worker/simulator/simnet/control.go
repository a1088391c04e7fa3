package simnet

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

//go:embed help.txt
var helpText []byte

func help(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(helpText)
}

func health(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{"status": "ok", "engine": "simulator"})
}

// refusal is an error with its HTTP status.
type refusal struct {
	status   int
	sentence string
}

func (r *refusal) Error() string { return r.sentence }

func refusef(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// answerAs writes v, or what went wrong.
func answerAs(w http.ResponseWriter, v any, err error) {
	var r *refusal
	switch {
	case err == nil:
		reply(w, http.StatusOK, v)
	case errors.As(err, &r):
		reply(w, r.status, map[string]string{"error": r.sentence})
	default:
		reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the caller is gone if this fails
}

func decode(w http.ResponseWriter, r *http.Request, into any) error {
	return decodeUpTo(w, r, 1<<20, into)
}

func decodeUpTo(w http.ResponseWriter, r *http.Request, most int64, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, most))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return refusef(http.StatusBadRequest, "read the body: %v", err)
	}
	return nil
}

type ok struct {
	OK bool `json:"ok"`
}

// onSession serves an order to one session. The order runs under the session's lock.
func (n *Network) onSession(do func(*session) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := n.session(r.PathValue("id"), false)
		if s == nil {
			answerAs(w, nil, refusef(http.StatusNotFound, "no session %q has ever logged in", r.PathValue("id")))
			return
		}
		s.mu.Lock()
		err := do(s)
		s.mu.Unlock()
		answerAs(w, ok{true}, err)
	}
}

func (n *Network) scan(s *session) error {
	if s.conn == nil || s.linked {
		return refusef(http.StatusConflict, "the session shows no QR code now")
	}
	select {
	case s.conn.scan <- struct{}{}:
	default: // being scanned already
	}
	return nil
}

func (n *Network) drop(s *session) error {
	if s.conn == nil {
		return refusef(http.StatusConflict, "nobody holds the session now")
	}
	s.conn.cancel()
	return nil
}

func (n *Network) unlink(s *session) error {
	if !s.linked && !s.banned {
		return refusef(http.StatusConflict, "the session is not linked")
	}
	n.forget(s)
	return nil
}

func (n *Network) ban(s *session) error {
	if !s.linked {
		return refusef(http.StatusConflict, "the session is not linked")
	}
	s.linked, s.banned = false, true
	s.events.forget()
	n.journal.add(entry{Op: opBan, Session: s.id})
	s.hangUp(OpBanned)
	return nil
}

// faultOrders are the counters that POST /config sets; absent ones stay.
type faultOrders struct {
	FailNext       *int64 `json:"failNext,omitempty"`
	LoseSendNext   *int64 `json:"loseSendNext,omitempty"`
	LoseAnswerNext *int64 `json:"loseAnswerNext,omitempty"`
	IgnoreAskNext  *int64 `json:"ignoreAskNext,omitempty"`
}

type configBody struct {
	settings
	faultOrders
}

func (n *Network) getConfig(w http.ResponseWriter, _ *http.Request) {
	fail, loseSend, loseAnswer, ignoreAsk := n.faults.fail.Load(), n.faults.loseSend.Load(), n.faults.loseAnswer.Load(), n.faults.ignoreAsk.Load()
	reply(w, http.StatusOK, configBody{*n.settings.Load(), faultOrders{&fail, &loseSend, &loseAnswer, &ignoreAsk}})
}

func (n *Network) postConfig(w http.ResponseWriter, r *http.Request) {
	n.change.Lock()
	defer n.change.Unlock()
	body := configBody{settings: *n.settings.Load()}
	err := decode(w, r, &body)
	if err == nil {
		err = body.check()
	}
	if err != nil {
		answerAs(w, nil, err)
		return
	}
	n.settings.Store(&body.settings)
	if body.FailNext != nil {
		n.faults.fail.Store(*body.FailNext)
	}
	if body.LoseSendNext != nil {
		n.faults.loseSend.Store(*body.LoseSendNext)
	}
	if body.LoseAnswerNext != nil {
		n.faults.loseAnswer.Store(*body.LoseAnswerNext)
	}
	if body.IgnoreAskNext != nil {
		n.faults.ignoreAsk.Store(*body.IgnoreAskNext)
	}
	n.getConfig(w, r)
}
