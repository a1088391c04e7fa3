package simnet

import (
	"bytes"
	"hash/fnv"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"kurir/wire"
)

// social is what phones see of each other beside messages. It is forgotten at the end.
type social struct {
	mu    sync.Mutex
	sides map[string]*side
}

// side is what one number sees.
type side struct {
	presence   map[string]string // by number: what that shows to everybody, or in the chat with this one
	read       []string          // WhatsApp IDs of this one's messages that were read
	subscribed map[string]bool   // numbers whose presence it wants to see
}

const maxRead = 1000 // of one number that are remembered

// at runs do with what a number sees.
func (o *social) at(number string, do func(*side)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sides == nil {
		o.sides = map[string]*side{}
	}
	v := o.sides[number]
	if v == nil {
		v = &side{presence: map[string]string{}, subscribed: map[string]bool{}}
		o.sides[number] = v
	}
	do(v)
}

// setPresence shows a state in a chat, or to everybody: as what the session's own number sees of itself.
func (n *Network) setPresence(s *session, in wire.Presence) (wire.Done, error) {
	to := s.number
	if in.Chat != "" {
		number, err := normalNumber(in.Chat)
		if err != nil {
			return wire.Done{}, wire.Refuse(wire.CodeInvalidRequest, err.Error())
		}
		to = number
	}
	n.social.at(to, func(v *side) { v.presence[s.number] = in.State })
	return wire.Done{}, nil
}

func (n *Network) subscribe(s *session, in wire.Address) (wire.Done, error) {
	number, err := personAt(in.JID)
	if err != nil {
		return wire.Done{}, err
	}
	n.social.at(s.number, func(v *side) { v.subscribed[number] = true })
	return wire.Done{}, nil
}

func (n *Network) markRead(_ *session, in wire.ReadMarks) (wire.Done, error) {
	for _, m := range in.Messages {
		author, err := normalNumber(m.Sender)
		if err != nil {
			return wire.Done{}, wire.Refuse(wire.CodeInvalidRequest, err.Error())
		}
		n.social.at(author, func(v *side) {
			v.read = append(v.read, m.WhatsappIDs...)
			v.read = v.read[max(0, len(v.read)-maxRead):]
		})
	}
	return wire.Done{}, nil
}

// PhoneState is GET /phones/{number}: what the person at this phone sees.
type PhoneState struct {
	Number     string            `json:"number"`
	Exists     bool              `json:"exists"`
	Session    string            `json:"session,omitempty"` // that is linked to it, or was
	Presence   map[string]string `json:"presence"`          // by number: available, composing, ...; its own is what it shows to everybody
	Read       []string          `json:"read"`              // WhatsApp IDs of its messages that were marked as read
	Subscribed []string          `json:"subscribed"`        // numbers whose presence it asked to see
	Groups     []string          `json:"groups"`
}

func (n *Network) getPhoneState(w http.ResponseWriter, r *http.Request) {
	number, err := normalNumber(r.PathValue("number"))
	if err != nil {
		answerAs(w, nil, err)
		return
	}
	state := PhoneState{Number: "+" + number, Exists: exists(number), Presence: map[string]string{}, Read: []string{}, Subscribed: []string{}, Groups: n.groups.of(number)}
	if p := n.phones.find(number); p != nil && p.owner.Load() != nil {
		state.Session = p.owner.Load().id
	}
	n.social.at(number, func(v *side) {
		for other, shown := range v.presence {
			state.Presence["+"+other] = shown
		}
		state.Read = append(state.Read, v.read...)
		for other := range v.subscribed {
			state.Subscribed = append(state.Subscribed, "+"+other)
		}
	})
	slices.Sort(state.Subscribed)
	reply(w, http.StatusOK, state)
}

// getPicture draws a profile picture: a square in the number's colour.
func (n *Network) getPicture(w http.ResponseWriter, r *http.Request) {
	number, err := personAt(r.PathValue("number"))
	if err != nil || strings.HasSuffix(number, "9") {
		answerAs(w, nil, refusef(http.StatusNotFound, "there is no picture"))
		return
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(number)) // never fails
	sum := h.Sum32()
	img := image.NewRGBA(image.Rect(0, 0, 64, 64))
	draw.Draw(img, img.Bounds(), image.NewUniform(color.RGBA{byte(sum), byte(sum >> 8), byte(sum >> 16), 255}), image.Point{}, draw.Src)
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		answerAs(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(out.Bytes())
}

// postPair enters a pairing code on a phone: the session that asked for it is linked to this number.
func (n *Network) postPair(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Code string `json:"code"`
	}
	number, err := normalNumber(r.PathValue("number"))
	if err == nil {
		err = decode(w, r, &in)
	}
	if err == nil {
		err = n.pair(number, in.Code)
	}
	answerAs(w, ok{true}, err)
}

func (n *Network) pair(number, code string) error {
	for _, s := range n.all() {
		s.mu.Lock()
		p := s.pairing
		if p != nil && p.number == number && p.code == code && p.expires.After(time.Now()) && s.conn != nil && !s.linked {
			s.paired, s.pairing = number, nil
			err := n.scan(s)
			s.mu.Unlock()
			return err
		}
		s.mu.Unlock()
	}
	return refusef(http.StatusConflict, "no session waits for this code from this phone")
}
