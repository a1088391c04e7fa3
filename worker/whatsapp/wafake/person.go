package wafake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// Person is somebody with a phone: a whatsmeow client that is device 0 of its number. It reads what it is sent, says that
// it was delivered, and remembers what it was shown. See Companion for a person's second device.
type Person struct {
	Number string
	Client *whatsmeow.Client

	server   *Server
	mu       sync.Mutex
	changed  chan struct{} // closed at every change
	online   bool
	shown    []*Shown
	receipts []*events.Receipt
	failures []string
}

// making is a person who is getting a phone.
type making struct {
	done   chan struct{}
	person *Person
	err    error
}

// Person is the owner of a number, who gets a phone when first asked for.
func (s *Server) Person(number string) (*Person, error) {
	number = digits(number)
	s.mu.Lock()
	if s.absent[number] || number == "" || s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("%q is not on WhatsApp", number)
	}
	m := s.people[number]
	if m == nil {
		m = &making{done: make(chan struct{})}
		s.people[number] = m
		s.mu.Unlock()
		m.person, m.err = s.makePerson(number)
		close(m.done)
		return m.person, m.err
	}
	s.mu.Unlock()
	<-m.done
	return m.person, m.err
}

// everybody is who has a phone.
func (s *Server) everybody() []*Person {
	s.mu.Lock()
	all := make([]*making, 0, len(s.people))
	for _, m := range s.people {
		all = append(all, m)
	}
	s.mu.Unlock()
	var out []*Person
	for _, m := range all {
		<-m.done
		if m.person != nil {
			out = append(out, m.person)
		}
	}
	return out
}

func (s *Server) makePerson(number string) (*Person, error) {
	phone := NewDevice()
	s.mu.Lock()
	a := s.open(number)
	d := &device{account: a, static: *phone.NoiseKey.Pub}
	d.keys.identity = phone.IdentityKey.Pub[:]
	a.devices[0] = d
	jid := d.jid()
	phone.ID, phone.LID, phone.PushName = &jid, d.lid(), a.name
	s.mu.Unlock()
	_ = phone.LIDs.PutLIDMapping(s.ctx, phone.LID, jid)
	p := s.newPerson(number, whatsmeow.NewClient(phone, waLog.Noop))
	return p, p.connect()
}

func (s *Server) newPerson(number string, client *whatsmeow.Client) *Person {
	p := &Person{Number: number, Client: client, server: s, changed: make(chan struct{})}
	s.Configure(client, personLabel+number)
	client.EnableAutoReconnect = false
	client.SynchronousAck = true             // so that what a person has acknowledged has had its effect
	client.EnableDecryptedEventBuffer = true // keeps nothing, but decrypts by way of it, see ratchet
	client.SetForceActiveDeliveryReceipts(true)
	client.AddEventHandler(p.handle)
	return p
}

// Companion links a second device to a number, which shows and remembers as the phone does.
func (s *Server) Companion(number string) (*Person, error) {
	client := whatsmeow.NewClient(NewDevice(), waLog.Noop)
	p := s.newPerson(digits(number), client)
	codes := make(chan string, 1)
	client.AddEventHandler(func(raw any) {
		if qr, ok := raw.(*events.QR); ok {
			codes <- qr.Codes[0]
		}
	})
	if err := client.ConnectContext(s.ctx); err != nil {
		return nil, err
	}
	select {
	case code := <-codes:
		if _, err := s.Scan(number, code); err != nil {
			return nil, err
		}
	case <-time.After(patience):
		return nil, errors.New("the companion shows no code")
	}
	return p, p.Until(p.isOnline)
}

// patience is how long a person waits for what ought to happen at once.
const patience = 30 * time.Second

// Disconnect switches the phone off: what comes waits for it.
func (p *Person) Disconnect() {
	p.Client.Disconnect()
	p.change(func() { p.online = false })
}

// Connect switches it on again.
func (p *Person) Connect() error { return p.connect() }

func (p *Person) connect() error {
	if err := p.Client.ConnectContext(p.server.ctx); err != nil {
		return err
	}
	return p.Until(p.isOnline)
}

// Until waits for a condition, which is looked at again whenever something comes to the person.
func (p *Person) Until(condition func() bool) error {
	late := time.After(patience)
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		if condition() {
			return nil
		}
		select {
		case <-changed:
		case <-late:
			return fmt.Errorf("%s has waited for too long", p.Number)
		}
	}
}

func (p *Person) isOnline() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.online
}

func (p *Person) change(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Person) handle(raw any) {
	switch e := raw.(type) {
	case *events.Connected:
		p.change(func() { p.online = true })
	case *events.Disconnected, *events.LoggedOut, *events.StreamReplaced:
		p.change(func() { p.online = false })
	case *events.Message:
		p.change(func() { p.show(e) })
		if e.Info.IsFromMe && e.Message.GetProtocolMessage().GetPeerDataOperationRequestMessage() != nil {
			go p.tellAgain(e)
		}
	case *events.Receipt:
		p.change(func() { p.receipts = append(p.receipts, e) })
	case *events.UndecryptableMessage:
		p.change(func() { p.failures = append(p.failures, e.Info.ID) })
	}
}

// Write sends a text to a chat: a number's JID or a group's. It returns when the network has it.
func (p *Person) Write(to types.JID, text string) (types.MessageID, error) {
	return p.Send(to, &waE2E.Message{Conversation: proto.String(text)})
}

// Send sends any message, with what is said of it beside.
func (p *Person) Send(to types.JID, m *waE2E.Message, extra ...whatsmeow.SendRequestExtra) (types.MessageID, error) {
	ctx, cancel := context.WithTimeout(p.server.ctx, patience)
	defer cancel()
	if keys, ok := p.Client.Store.EventBuffer.(*memory); ok {
		turn, done := keys.ratchet.Encrypt(ctx)
		defer done()
		ctx = turn
	}
	sent, err := p.Client.SendMessage(ctx, to, m, extra...)
	return sent.ID, err
}

// Read says that a message was read.
func (p *Person) Read(id types.MessageID) error {
	m, ok := p.find(id)
	if !ok {
		return fmt.Errorf("%s was not shown %s", p.Number, id)
	}
	return p.Client.MarkRead(p.server.ctx, []types.MessageID{id}, time.Now(), m.Chat, m.Sender)
}

// React puts an emoji to a message, or takes it away if empty.
func (p *Person) React(id types.MessageID, emoji string) (types.MessageID, error) {
	m, ok := p.find(id)
	if !ok {
		return "", fmt.Errorf("%s was not shown %s", p.Number, id)
	}
	return p.Send(m.Chat, p.Client.BuildReaction(m.Chat, m.Sender, id, emoji))
}

// Receipts are what the person was told of its own messages: "" is delivered.
func (p *Person) Receipts(id types.MessageID) []types.ReceiptType {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []types.ReceiptType
	for _, r := range p.receipts {
		if slices.Contains(r.MessageIDs, id) {
			out = append(out, r.Type)
		}
	}
	return out
}

// Told tells whether the person has had such a receipt for a message.
func (p *Person) Told(id types.MessageID, kind types.ReceiptType) bool {
	return slices.Contains(p.Receipts(id), kind)
}

// Unreadable are the IDs of messages that came and could not be decrypted, once for each time.
func (p *Person) Unreadable() []types.MessageID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.failures)
}

// ForgetSessions makes the phone lose its sessions, as a phone does that was set back: what others send under the old ones
// cannot be read, until they are asked to send it again.
func (p *Person) ForgetSessions() {
	m, ok := p.Client.Store.EventBuffer.(*memory)
	if !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.sessions)
}
