package simnet

import (
	"cmp"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
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
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
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

// injection is the body of POST /inject/message.
type injection struct {
	SessionID  string `json:"sessionId"`
	From       string `json:"from"` // number or JID of the other side
	Text       string `json:"text"`
	WhatsappID string `json:"whatsappId"` // made up where it is absent
	Name       string `json:"name"`
	FromMe     bool   `json:"fromMe"` // written on the linked phone itself, to the other side
}

type injected struct {
	WhatsappID string `json:"whatsappId"`
}

func (n *Network) inject(w http.ResponseWriter, r *http.Request) {
	var in injection
	if err := decode(w, r, &in); err != nil {
		answerAs(w, nil, err)
		return
	}
	in.WhatsappID = cmp.Or(in.WhatsappID, "3A"+rand.Text()[:18])
	answerAs(w, injected{in.WhatsappID}, n.receive(in))
}

func (n *Network) receive(in injection) error {
	s := n.session(in.SessionID, false)
	if s == nil {
		return refusef(http.StatusNotFound, "no session %q has ever logged in", in.SessionID)
	}
	from, err := normalNumber(in.From)
	if err != nil {
		return refusef(http.StatusUnprocessableEntity, "from: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.linked {
		return refusef(http.StatusConflict, "the session is not linked")
	}
	e := Event{
		Kind: KindMessage, WhatsappID: in.WhatsappID, Chat: jidOf(from), Sender: jidOf(from), Name: in.Name,
		At: time.Now().UnixMilli(), Type: "text", Text: in.Text,
	}
	if s.knows(from, in.Name) && in.Name != "" {
		n.journal.add(entry{Op: opContact, Session: s.id, Number: from, Name: in.Name})
	}
	if in.FromMe {
		e.FromMe, e.Sender = true, jidOf(s.number)
	}
	s.emitLocked(e)
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
