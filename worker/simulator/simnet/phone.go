package simnet

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kurir/message"
)

const userServer = "@s.whatsapp.net"

// phone is a person's phone, or the one that a session is linked to, or a group.
type phone struct {
	number string // digits; a whole JID for what is not a person
	jid    string
	owner  atomic.Pointer[session] // linked to it, now or formerly; nil: a person's

	mu      sync.Mutex
	shown   []Shown
	written []Shown  // by the phone's owner; not in the journal
	typing  []Typed  // what was seen of the others, the last typingKept
	calls   []Called // that the owner made
}

// Shown is one message on a phone's screen.
type Shown struct {
	WhatsappID string    `json:"whatsappId"`
	MessageID  string    `json:"messageId,omitempty"` // the gateway's name for it
	SessionID  string    `json:"sessionId"`
	Group      string    `json:"group,omitempty"` // JID, on the phones of a group's members
	From       string    `json:"from"`            // number of the author
	Type       string    `json:"type"`
	Text       string    `json:"text,omitempty"`
	MediaURL   string    `json:"mediaUrl,omitempty"`
	Caption    string    `json:"caption,omitempty"`
	Filename   string    `json:"filename,omitempty"`
	Seq        int64     `json:"seq,omitempty"` // in the session's lane
	At         time.Time `json:"timestamp"`

	Medium *Medium `json:"media,omitempty"` // as the phone downloaded it
	message.Details

	// What others did to it since.
	EditedAt  *time.Time     `json:"editedAt,omitempty"`
	DeletedAt *time.Time     `json:"deletedAt,omitempty"`
	Reactions []message.Mark `json:"reactions,omitempty"`
	NoEffect  string         `json:"noEffect,omitempty"` // why a reaction, edit or delete changed nothing
}

func jidOf(number string) string {
	if strings.Contains(number, "@") {
		return number
	}
	return number + userServer
}

// phonebook finds phones by number.
type phonebook struct{ shards [64]phoneShard }

type phoneShard struct {
	mu     sync.RWMutex
	phones map[string]*phone
}

func (b *phonebook) init() {
	for i := range b.shards {
		b.shards[i].phones = map[string]*phone{}
	}
}

// find returns the phone of a number, nil if nobody has written to it.
func (b *phonebook) find(number string) *phone {
	sh := b.shard(number)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.phones[number]
}

// get returns the phone of a number; every number has one.
func (b *phonebook) get(number string) *phone {
	if p := b.find(number); p != nil {
		return p
	}
	sh := b.shard(number)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p := sh.phones[number]
	if p == nil {
		p = &phone{number: number, jid: jidOf(number)}
		sh.phones[number] = p
	}
	return p
}

func (b *phonebook) shard(number string) *phoneShard {
	h := fnv.New32a()
	_, _ = h.Write([]byte(number)) // never fails
	return &b.shards[h.Sum32()%uint32(len(b.shards))]
}

// allot gives a session a number of its own: always the same one, unless it is taken or was banned.
func (b *phonebook) allot(s *session, salt int) string {
	for {
		h := fnv.New64a()
		_, _ = fmt.Fprintf(h, "%s/%d", s.id, salt)
		number := fmt.Sprintf("6281%09d", h.Sum64()%1_000_000_000)
		if !strings.HasSuffix(number, absentSuffix) {
			p := b.get(number)
			if p.owner.CompareAndSwap(nil, s) || p.owner.Load() == s {
				return number
			}
		}
		salt++
	}
}

// absentSuffix marks the numbers that are not on the network.
const absentSuffix = "0000"

var errBadNumber = errors.New("is not a phone number or JID")

// normalNumber reads a number, with or without +, or a JID, whose device part is dropped.
func normalNumber(s string) (string, error) {
	user, server, isJID := strings.Cut(s, "@")
	if isJID && "@"+server != userServer {
		if user == "" || server == "" {
			return "", fmt.Errorf("%q %w", s, errBadNumber)
		}
		return s, nil
	}
	user, _, _ = strings.Cut(strings.TrimPrefix(user, "+"), ":")
	if user == "" || strings.Trim(user, "0123456789") != "" {
		return "", fmt.Errorf("%q %w", s, errBadNumber)
	}
	return user, nil
}
