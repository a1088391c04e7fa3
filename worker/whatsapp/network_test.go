package whatsapp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"kurir/embedded/embeddedtest"
	"kurir/message"
	"kurir/wire"
	"kurir/worker/enginetest"
	"kurir/worker/whatsapp/wafake"
)

// serve is whether this process is not to test but to serve, see memory_test.go.
var serve = func() bool { return false }

func TestMain(m *testing.M) {
	if path := os.Getenv(holdVariable); path != "" {
		hold(path)
	} else if !serve() {
		embeddedtest.Main(m)
	}
}

const patience = 20 * time.Second

// network is the fake WhatsApp as the conformance suite sees it.
type network struct {
	*wafake.Server
	url     string // of the engines' database
	engines atomic.Int64

	migrated int64 // since when the sessions' phones name people by LID; 0: they do not

	mu      sync.Mutex
	open    []*Engine
	numbers map[string]string // by session
	wrote   map[string][]string
	seen    map[string]map[string]string // presence: by who sees it, of whom
	readers map[string]bool
}

func newNetwork(t *testing.T) *network {
	n := &network{Server: wafake.Start(t), url: embeddedtest.DB(t), numbers: map[string]string{}, wrote: map[string][]string{}, seen: map[string]map[string]string{}, readers: map[string]bool{}}
	n.Server.Absent("+62899990000")
	return n
}

// engine makes another worker's engine on this network.
func (n *network) engine(t *testing.T, change ...func(*Config)) *Engine {
	t.Helper()
	label := fmt.Sprintf("worker-%d", n.engines.Add(1))
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", n.Addr())
	}
	cfg := Config{
		DatabaseURL: n.url, Logger: testLog(), BackoffMin: 10 * time.Millisecond, BackoffMax: 200 * time.Millisecond, TempFolder: t.TempDir(),
		Transport: &http.Transport{DialContext: dial, DialTLSContext: dial},
		Through:   func(inner http.RoundTripper) http.RoundTripper { return labelled{label, inner} },
	}
	for _, c := range change {
		c(&cfg)
	}
	e, err := New(context.Background(), cfg)
	require.NoError(t, err)
	e.prepare = func(d *store.Device) { d.PushName, d.LIDMigrationTimestamp = "Conformance", n.migrated }
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open = append(n.open, e)
	return e
}

func testLog() *slog.Logger {
	if os.Getenv("WHATSAPP_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// labelled tells the fake whose connection it is.
type labelled struct {
	label string
	to    http.RoundTripper
}

func (l labelled) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Wafake-Client", l.label)
	return l.to.RoundTrip(r)
}

func number(phone string) string { return strings.TrimPrefix(phone, "+") }

func address(phone string) types.JID { return types.NewJID(number(phone), types.DefaultUserServer) }

// person is the owner of a number, whose phone says that it has read what it was shown when Phone is asked.
func (n *network) person(t *testing.T, phone string) *wafake.Person {
	t.Helper()
	p, err := n.Person(phone)
	require.NoError(t, err)
	if _, ok := p.Client.Store.MsgSecrets.(*secrets); !ok {
		p.Client.Store.MsgSecrets = &secrets{kept: map[string][]byte{}}
	}
	return p
}

// secrets keeps what a person needs to vote in a poll.
type secrets struct {
	store.NoopStore
	mu   sync.Mutex
	kept map[string][]byte // by message
}

func (s *secrets) PutMessageSecret(_ context.Context, _, _ types.JID, id types.MessageID, secret []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept[id] = secret
	return nil
}

func (s *secrets) GetMessageSecret(_ context.Context, _, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[id], sender, nil
}

// of is the number of a session.
func (n *network) of(session string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.numbers[session]
}

func (n *network) state(session string) (s wire.SessionState) {
	n.mu.Lock()
	engines := slices.Clone(n.open)
	n.mu.Unlock()
	for _, e := range engines {
		e.mu.Lock()
		c := e.open[session]
		e.mu.Unlock()
		if c != nil {
			s = c.State()
		}
	}
	return s
}

func (n *network) Scan(t *testing.T, session string) {
	t.Helper()
	phone := fmt.Sprintf("+6281%09d1", rand.IntN(1_000_000_000))
	n.mu.Lock()
	n.numbers[session] = phone
	n.mu.Unlock()
	_, err := n.Server.Scan(phone, n.state(session).QR)
	require.NoError(t, err)
}

func (n *network) Receive(t *testing.T, session, from, text string) string {
	return n.Deliver(t, session, enginetest.Incoming{From: from, Type: message.Text, Text: text})
}

func (n *network) Drop(_ *testing.T, session string)          { n.Server.Drop(n.of(session)) }
func (n *network) Unlink(_ *testing.T, session string)        { n.Server.Unlink(n.of(session)) }
func (n *network) Ban(_ *testing.T, session string)           { n.Server.Ban(n.of(session), 101, time.Hour) }
func (n *network) LoseAnswer(*testing.T)                      { n.BreakBeforeAck(1) }
func (n *network) Slow(_ *testing.T, latency time.Duration)   { n.DelayAcks(latency) }
func (n *network) Typing(_ *testing.T, phone string) []string { return n.Server.Typing(phone) }
func (n *network) Absent(_ *testing.T, phone string)          { n.Server.Absent(phone) }
func (n *network) Rejected(_ *testing.T, from, id string) int { return n.Server.Rejected(from, id) }

func (n *network) Throttle(_ *testing.T, _ string, sends int, _ time.Duration, code string) {
	n.Refuse(sends, map[string]string{wire.CodeRateLimited: "429", wire.CodeTemporaryBan: "463"}[code])
}

// Pause implements enginetest.Untimed.
func (n *network) Pause(code string) time.Duration {
	return pauses[map[string]int{wire.CodeRateLimited: 429, wire.CodeTemporaryBan: 463}[code]].after
}

func (n *network) Call(t *testing.T, session, from string, video bool) string {
	id, err := n.Server.Call(from, n.of(session), video)
	require.NoError(t, err)
	return id
}

func (n *network) Presence(t *testing.T, session, from, presence string) {
	shown := chatStates[presence]
	require.NoError(t, n.person(t, from).Client.SendChatPresence(context.Background(), address(n.of(session)), shown.state, shown.media))
}

// Group implements enginetest.Founder.
func (n *network) Group(t *testing.T, session string, members ...string) string {
	jid, err := n.NewGroup(n.of(session), "Conformance", members...)
	require.NoError(t, err)
	return jid.String()
}

func (n *network) AddMember(t *testing.T, _, group, by, member string) {
	jid, err := types.ParseJID(group)
	require.NoError(t, err)
	require.NoError(t, n.Server.AddMember(jid, by, member))
}

// Arrives implements enginetest.Lean: WhatsApp has no place for a file name but in documents, nor for a caption but under
// pictures, films and documents.
func (n *network) Arrives(m enginetest.Message) enginetest.Message {
	if m.Type != message.Document {
		m.Filename = ""
	}
	if !slices.Contains([]string{message.Image, message.Video, message.Document}, m.Type) {
		m.Caption = ""
	}
	if m.Type == message.Unknown {
		m.Text = ""
	}
	return m
}

func (n *network) Deliver(t *testing.T, session string, in enginetest.Incoming) string {
	t.Helper()
	own := n.of(session)
	author, to := in.From, address(own)
	if in.FromMe {
		author, to = own, address(in.From)
	}
	if in.Chat != "" {
		chat, err := types.ParseJID(in.Chat)
		require.NoError(t, err)
		to = chat
	}
	p := n.person(t, author)
	if in.Name != "" {
		p.Client.Store.PushName = in.Name
		require.NoError(t, p.Client.SendPresence(context.Background(), types.PresenceAvailable))
	}
	id, err := p.Send(to, n.compose(t, p, address(own), to, in))
	require.NoError(t, err)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wrote[author] = append(n.wrote[author], id)
	return id
}

// compose makes the message of a person with the same tools as the engine, but for what only comes in.
func (n *network) compose(t *testing.T, p *wafake.Person, own, to types.JID, in enginetest.Incoming) *waE2E.Message {
	t.Helper()
	m := wire.Send{Type: in.Type, Message: in.Text, Caption: in.Caption, Filename: in.Filename, Details: in.Details}
	for _, ref := range []**message.Ref{&m.ReplyTo, &m.Target} { // the session's own are somebody else's here
		if *ref != nil {
			turned := **ref
			turned.Sender = own.String()
			if turned.FromMe = !turned.FromMe; turned.FromMe {
				turned.Sender = ""
			}
			*ref = &turned
		}
	}
	c := &composer{client: p.Client, own: p.Client.Store.GetJID(), chat: to}
	switch in.Type {
	case message.Vote:
		info := &types.MessageInfo{ID: m.Target.WhatsappID, MessageSource: types.MessageSource{Chat: to, Sender: p.Client.Store.GetJID().ToNonAD(), IsFromMe: true}}
		vote, err := p.Client.BuildPollVote(context.Background(), info, in.Details.Poll.Options)
		require.NoError(t, err)
		return vote
	case message.Contact:
		return &waE2E.Message{ContactMessage: &waE2E.ContactMessage{DisplayName: proto.String(m.Contacts[0].Name), Vcard: proto.String(m.Contacts[0].VCard)}}
	}
	if len(in.Media) > 0 {
		up, err := p.Client.Upload(context.Background(), in.Media, mediaTypes[in.Type])
		require.NoError(t, err)
		c.medium, m.Media = &up, &wire.Media{MIMEType: in.MIMEType}
		if in.Missing {
			n.LoseMedia()
		}
	}
	out, err := c.compose(&m)
	require.NoError(t, err)
	if out == nil {
		out = &waE2E.Message{EventMessage: &waE2E.EventMessage{Name: proto.String(in.Text)}}
	}
	return out
}

// Phone tells what a phone shows, and has it say that it was read.
func (n *network) Phone(t *testing.T, phone string) []enginetest.Message {
	t.Helper()
	p, err := n.Person(phone)
	if err != nil {
		return nil // nobody has the number
	}
	// What the network has taken reaches the phone a moment later.
	require.Eventually(t, func() bool { return n.Waiting(address(phone)) == 0 }, patience, time.Millisecond)
	var list []enginetest.Message
	for _, s := range p.Shown() {
		if s.IsFromMe {
			continue
		}
		n.read(t, p, s)
		list = append(list, n.shown(t, p, s))
	}
	return list
}

func (n *network) read(t *testing.T, p *wafake.Person, s wafake.Shown) {
	n.mu.Lock()
	key := p.Number + s.ID
	done := n.readers[key]
	n.readers[key] = true
	n.mu.Unlock()
	if !done {
		require.NoError(t, p.Read(s.ID))
	}
}

// shown reads a message on a phone.
func (n *network) shown(t *testing.T, p *wafake.Person, s wafake.Shown) enginetest.Message {
	t.Helper()
	said, _ := parse(s.Message)
	m := enginetest.Message{WhatsappID: s.ID, Type: said.Type, Text: said.Message, Caption: said.Caption, Filename: said.Filename, Details: said.Details, Edited: s.Edited, Deleted: s.Deleted}
	if said.target != nil {
		m.Details.Target = refOf(said.target)
	}
	if id := said.info.GetStanzaID(); id != "" && said.Type != message.Edit {
		m.Details.ReplyTo = &message.Ref{WhatsappID: id, FromMe: strings.HasPrefix(said.info.GetParticipant(), s.Sender.User)}
		if s.SenderAlt.User != "" {
			m.Details.ReplyTo.FromMe = m.Details.ReplyTo.FromMe || strings.HasPrefix(said.info.GetParticipant(), s.SenderAlt.User)
		}
	}
	if text := s.Message.GetExtendedTextMessage(); text != nil && text.PreviewType != nil {
		no := false
		m.Details.LinkPreview = &no
	}
	for i, c := range m.Details.Contacts {
		if plain := (message.Card{Name: c.Name, Phone: c.Phone}); plain.Filled().VCard == c.VCard {
			m.Details.Contacts[i] = plain
		}
	}
	for _, emoji := range s.Reactions {
		m.Reactions = append(m.Reactions, emoji)
	}
	if m.Deleted {
		m.Text = ""
	}
	if medium := s.Downloadable(); medium != nil {
		content, err := p.Download(context.Background(), s)
		require.NoError(t, err)
		sum := sha256.Sum256(content)
		m.MediaHash, m.MediaSize = hex.EncodeToString(sum[:]), int64(len(content))
	}
	return m
}

// refOf is what a message of the session is about.
func refOf(key *waCommon.MessageKey) *message.Ref {
	return &message.Ref{WhatsappID: key.GetID(), FromMe: key.GetFromMe()}
}

// SeenPresence implements enginetest.Witness.
func (n *network) SeenPresence(t *testing.T, at, of string) string {
	if at == of {
		return n.available(t, of)
	}
	seen := n.Server.Typing(at)
	if len(seen) == 0 {
		return ""
	}
	return seen[len(seen)-1]
}

// available is what a number shows to everybody, as somebody sees it who has subscribed to it.
func (n *network) available(t *testing.T, of string) string {
	watcher := n.person(t, "+62877777777")
	n.mu.Lock()
	if n.seen[of] == nil {
		n.seen[of] = map[string]string{}
		watcher.Client.AddEventHandler(func(raw any) {
			if e, ok := raw.(*events.Presence); ok && e.From.User == number(of) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.seen[of][""] = wire.PresenceAvailable
				if e.Unavailable {
					n.seen[of][""] = wire.PresenceUnavailable
				}
			}
		})
	}
	state := n.seen[of][""]
	n.mu.Unlock()
	require.NoError(t, watcher.Client.SubscribePresence(context.Background(), address(of)))
	return state
}

// Read implements enginetest.Witness.
func (n *network) Read(t *testing.T, phone string) (list []string) {
	p := n.person(t, phone)
	n.mu.Lock()
	ids := slices.Clone(n.wrote[phone])
	n.mu.Unlock()
	for _, id := range ids {
		if slices.Contains(p.Receipts(id), types.ReceiptTypeRead) {
			list = append(list, id)
		}
	}
	return list
}

// Pair implements enginetest.Witness.
func (n *network) Pair(t *testing.T, phone, code string) {
	_, err := n.EnterCode(phone, code)
	require.NoError(t, err)
}

var (
	_ enginetest.Network = (*network)(nil)
	_ enginetest.Witness = (*network)(nil)
)

// account is the phone's word for a device that nobody asks for it.
func account() *waAdv.ADVSignedDeviceIdentity {
	return &waAdv.ADVSignedDeviceIdentity{Details: []byte{1}, AccountSignatureKey: make([]byte, 32), AccountSignature: make([]byte, 64), DeviceSignature: make([]byte, 64)}
}
