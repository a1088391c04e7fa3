package simnet

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"kurir/message"
	"kurir/wire"
)

const maxInjection = 32 << 20 // bytes of JSON; larger media go through POST /media first

// injecting serves an order to let something happen.
func injecting[T any](do func(T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in T
		if err := decodeUpTo(w, r, maxInjection, &in); err != nil {
			answerAs(w, nil, err)
			return
		}
		answer, err := do(in)
		answerAs(w, answer, err)
	}
}

// injection is the body of POST /inject/message.
type injection struct {
	SessionID  string `json:"sessionId"`
	From       string `json:"from"`       // number or JID of the author; with fromMe: of the recipient
	Chat       string `json:"chat"`       // JID of a group or channel; absent: the chat with "from"
	Type       string `json:"type"`       // absent: text
	Text       string `json:"text"`       // also of an edit; a reaction's emoji
	WhatsappID string `json:"whatsappId"` // made up where it is absent
	Name       string `json:"name"`
	Phone      string `json:"phone"`  // of an author under a LID
	LID        string `json:"lid"`    // of an author under a number
	FromMe     bool   `json:"fromMe"` // written on the linked phone itself, to the other side
	Caption    string `json:"caption"`
	Filename   string `json:"filename"`
	Media      *struct {
		Data     []byte `json:"data"`   // base64
		SHA256   string `json:"sha256"` // instead: of a medium that was uploaded
		MIMEType string `json:"mimetype"`
		Missing  bool   `json:"missing"` // nobody will be able to download it
	} `json:"media"`
	message.Details
}

type injected struct {
	WhatsappID string `json:"whatsappId"`
}

// linked finds a session that is linked and runs do under its lock.
func (n *Network) linked(id string, do func(*session)) error {
	s := n.session(id, false)
	if s == nil {
		return refusef(http.StatusNotFound, "no session %q has ever logged in", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.linked {
		return refusef(http.StatusConflict, "the session is not linked")
	}
	do(s)
	return nil
}

// sides reads chat and author of what comes in. An author without a chat writes to the session directly; a channel
// speaks for itself.
func sides(from, chat string) (chatJID, sender string, err error) {
	sender, err = normalNumber(cmp.Or(from, chat))
	if err != nil {
		return "", "", refusef(http.StatusUnprocessableEntity, "from: %v", err)
	}
	chatJID, err = normalNumber(cmp.Or(chat, from))
	if err != nil {
		return "", "", refusef(http.StatusUnprocessableEntity, "chat: %v", err)
	}
	return jidOf(chatJID), jidOf(sender), nil
}

// receive serves POST /inject/message.
func (n *Network) receive(in injection) (any, error) {
	chat, sender, err := sides(in.From, in.Chat)
	if err != nil {
		return nil, err
	}
	medium, err := n.injectMedium(&in)
	if err != nil {
		return nil, err
	}
	e := Event{
		Kind: KindMessage, WhatsappID: cmp.Or(in.WhatsappID, newID()), Chat: chat, Sender: sender, Name: in.Name, Phone: in.Phone, LID: in.LID,
		At: time.Now().UnixMilli(), Type: cmp.Or(in.Type, message.Text), Text: in.Text, Caption: in.Caption, Filename: in.Filename,
		Medium: medium, Details: in.Details, FromMe: in.FromMe,
	}
	n.people.identify(&e)
	err = n.linked(in.SessionID, func(s *session) {
		if from := phoneOf(sender); s.knows(from, in.Name) && in.Name != "" {
			n.journal.add(entry{Op: opContact, Session: s.id, Number: from, Name: in.Name})
		}
		if in.FromMe {
			e.Sender, e.Name, e.Phone, e.LID = jidOf(s.number), "", "", ""
		} else if p := n.phones.get(phoneOf(chat)); p.owner.Load() == nil {
			p.write(writtenOf(s, &e))
		}
		s.emitLocked(e)
	})
	return injected{e.WhatsappID}, err
}

func newID() string { return "3A" + rand.Text()[:18] }

// phoneOf is the number under which a JID's phone is kept.
func phoneOf(jid string) string { return strings.TrimSuffix(jid, userServer) }

// numberOf is a person's number with a leading +, if the JID tells it.
func numberOf(jid string) (string, bool) {
	number, ok := strings.CutSuffix(jid, userServer)
	return "+" + number, ok
}

func (n *Network) injectMedium(in *injection) (*Medium, error) {
	m := in.Media
	switch {
	case m == nil:
		return nil, nil
	case m.Missing:
		return &Medium{SHA256: strings.Repeat("0", 64), Size: int64(len(m.Data)), MIMEType: m.MIMEType}, nil
	case m.SHA256 == "":
		medium, err := n.media.put(bytes.NewReader(m.Data))
		medium.MIMEType = m.MIMEType
		return &medium, err
	}
	f, err := n.media.open(m.SHA256)
	if err != nil {
		return nil, refusef(http.StatusUnprocessableEntity, "media: nothing was uploaded under this sha256")
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return &Medium{SHA256: m.SHA256, Size: info.Size(), MIMEType: m.MIMEType}, nil
}

// receiptOrder is the body of POST /inject/receipt.
type receiptOrder struct {
	SessionID   string `json:"sessionId"`
	WhatsappID  string `json:"whatsappId"`
	Chat        string `json:"chat"`
	Participant string `json:"participant"` // of a group
	Status      string `json:"status"`      // delivered, read or played
}

func (n *Network) receipt(in receiptOrder) (any, error) {
	e := Event{Kind: "receipt." + in.Status, WhatsappID: in.WhatsappID, Chat: in.Chat, Sender: in.Participant, At: time.Now().UnixMilli()}
	if e.Kind != KindDelivered && e.Kind != KindRead && e.Kind != KindPlayed {
		return nil, refusef(http.StatusUnprocessableEntity, "status is delivered, read or played")
	}
	return ok{true}, n.linked(in.SessionID, func(s *session) { s.emitLocked(e) })
}

// presenceOrder is the body of POST /inject/presence.
type presenceOrder struct {
	SessionID string `json:"sessionId"`
	From      string `json:"from"`
	Chat      string `json:"chat"`
	Presence  string `json:"presence"` // wire.PresenceAvailable, ...
	LastSeen  int64  `json:"lastSeen"` // Unix time in milliseconds
}

// presence tells who is there. It is told once, to whoever is connected.
func (n *Network) presence(in presenceOrder) (any, error) {
	chat, sender, err := sides(in.From, in.Chat)
	if err != nil {
		return nil, err
	}
	e := Event{Kind: KindPresence, Chat: chat, Sender: sender, At: time.Now().UnixMilli(), Presence: in.Presence, LastSeen: in.LastSeen}
	n.people.identify(&e)
	return ok{true}, n.linked(in.SessionID, func(s *session) {
		if s.conn != nil && s.conn.ready {
			s.conn.queue(&Frame{Op: OpEvent, Event: &e})
			s.conn.kick()
		}
	})
}

// callOrder is the body of POST /inject/call.
type callOrder struct {
	SessionID string `json:"sessionId"`
	From      string `json:"from"`
	Chat      string `json:"chat"`   // JID of a group
	CallID    string `json:"callId"` // made up where it is absent
	Phone     string `json:"phone"`  // of a caller under a LID
	Video     bool   `json:"video"`
}

type called struct {
	CallID string `json:"callId"`
}

func (n *Network) call(in callOrder) (any, error) {
	chat, sender, err := sides(in.From, in.Chat)
	if err != nil {
		return nil, err
	}
	e := Event{Kind: KindCall, WhatsappID: cmp.Or(in.CallID, newID()), Chat: chat, Sender: sender, Phone: in.Phone, At: time.Now().UnixMilli(), Video: in.Video}
	n.people.identify(&e)
	return called{e.WhatsappID}, n.linked(in.SessionID, func(s *session) {
		p := n.phones.get(phoneOf(sender))
		p.mu.Lock()
		p.calls = append(p.calls, Called{CallID: e.WhatsappID, SessionID: s.id, Video: e.Video, At: time.UnixMilli(e.At).UTC()})
		p.mu.Unlock()
		if s.callers == nil {
			s.callers = map[string]string{}
		}
		s.callers[e.WhatsappID] = p.number
		s.emitLocked(e)
	})
}

// changeOrder is the body of POST /inject/group.
type changeOrder struct {
	SessionID string `json:"sessionId"`
	Group     string `json:"group"`    // JID
	By        string `json:"by"`       // number or JID; absent: nobody knows
	ChangeID  string `json:"changeId"` // made up where it is absent
	GroupChange
}

func (n *Network) changeGroup(in changeOrder) (any, error) {
	group, err := normalNumber(in.Group)
	if err != nil {
		return nil, refusef(http.StatusUnprocessableEntity, "group: %v", err)
	}
	e := Event{Kind: KindGroup, WhatsappID: cmp.Or(in.ChangeID, newID()), Chat: jidOf(group), At: time.Now().UnixMilli(), Change: &in.GroupChange}
	if in.By != "" {
		if _, e.Sender, err = sides(in.By, ""); err != nil {
			return nil, err
		}
		n.people.identify(&e)
	}
	for i, m := range in.Members {
		jid, err := normalNumber(m.JID)
		if err != nil {
			return nil, refusef(http.StatusUnprocessableEntity, "members: %v", err)
		}
		known := n.people.get(jidOf(jid))
		in.Members[i] = Person{JID: known.JID, Phone: cmp.Or(m.Phone, known.Phone), LID: cmp.Or(m.LID, known.LID), Name: cmp.Or(m.Name, known.Name)}
	}
	switch in.Action {
	case wire.GroupCreated, wire.GroupAdded, wire.GroupRemoved, wire.GroupLeft, wire.GroupPromoted, wire.GroupDemoted, wire.GroupChanged:
	default:
		return nil, refusef(http.StatusUnprocessableEntity, "action %q is not known", in.Action)
	}
	return ok{true}, n.linked(in.SessionID, func(s *session) { s.emitLocked(e) })
}
