//go:build !race

package whatsapp

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
)

func (h *held) awaitReceived(many int) []wire.ReceivedData {
	h.t.Helper()
	require.Eventually(h.t, func() bool { return len(h.received()) >= many }, patience, time.Millisecond, "messages")
	var list []wire.ReceivedData
	for _, e := range h.received() {
		list = append(list, e.Data.(wire.ReceivedData))
	}
	require.Len(h.t, list, many)
	return list
}

// heard waits until WhatsApp knows that all has arrived: it delivers nothing again.
func (n *network) heard(t *testing.T, h *held) {
	t.Helper()
	require.Eventually(t, func() bool { return n.Waiting(n.Devices(n.of(h.id))[0]) == 0 }, patience, time.Millisecond)
}

// What is shown once only, phones alone can read: that it was sent is told.
func TestWhatIsShownOnceIsToldWithoutContent(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	id, err := n.ShowOnce("+491", n.of(h.id))
	require.NoError(t, err)
	got := h.awaitReceived(1)[0]
	require.Equal(t, []string{message.Unknown, id, "491@s.whatsapp.net", "491@s.whatsapp.net"}, []string{got.Type, got.WhatsappID, got.Chat, got.Sender})
	require.EqualValues(t, 1, e.Stats().Unreadable)
	n.heard(t, h)
}

// withoutPolls has the database give and take no polls, until restore is called.
func withoutPolls(t *testing.T, e *Engine) (restore func()) {
	t.Helper()
	rename := func(from, to string) {
		t.Helper()
		_, err := e.pool.Exec(context.Background(), "ALTER TABLE "+from+" RENAME TO "+to)
		require.NoError(t, err)
	}
	rename("kurir_polls", "kurir_polls_away")
	return func() { t.Helper(); rename("kurir_polls_away", "kurir_polls") }
}

// A vote in a poll that the session has not seen is no vote that is taken back, and one that cannot be looked up comes again.
func TestVotesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann := n.person(t, "+491")
	own := address(n.of(h.id))
	vote := func(poll types.MessageID, options ...string) {
		t.Helper()
		info := &types.MessageInfo{ID: poll, MessageSource: types.MessageSource{Chat: own, Sender: ann.Client.Store.GetJID().ToNonAD(), IsFromMe: true}}
		m, err := ann.Client.BuildPollVote(ctx, info, options)
		require.NoError(t, err)
		_, err = ann.Send(own, m)
		require.NoError(t, err)
	}
	poll, err := ann.Send(own, ann.Client.BuildPollCreation("?", []string{"Tea", "Coffee"}, 1))
	require.NoError(t, err)
	h.awaitReceived(1)
	vote(poll, "Tea")
	require.Equal(t, []string{"Tea"}, h.awaitReceived(2)[1].Poll.Options)
	vote(poll)
	back := h.awaitReceived(3)[2]
	require.Equal(t, message.Vote, back.Type)
	require.Empty(t, back.Poll.Options, "taken back")
	n.heard(t, h)

	restore := withoutPolls(t, e)
	vote(poll, "Coffee")
	h.await(wire.StatusReconnecting, reasonStorage)
	require.Len(t, h.received(), 3)
	restore()
	require.Equal(t, []string{"Coffee"}, h.awaitReceived(4)[3].Poll.Options)
	n.heard(t, h)

	_, err = e.pool.Exec(ctx, "DELETE FROM kurir_polls")
	require.NoError(t, err)
	vote(poll, "Tea")
	lost := h.awaitReceived(5)[4]
	require.Equal(t, message.Unknown, lost.Type)
	require.Nil(t, lost.Poll)
	require.Equal(t, poll, lost.Target.WhatsappID)
}

// A poll whose options the database did not take comes again, so that its votes can be read.
func TestAPollIsNotTakenWithoutItsOptions(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann, own := n.person(t, "+491"), address(n.of(h.id))
	restore := withoutPolls(t, e)
	poll, err := ann.Send(own, ann.Client.BuildPollCreation("?", []string{"Tea", "Coffee"}, 1))
	require.NoError(t, err)
	h.await(wire.StatusReconnecting, reasonStorage)
	require.Empty(t, h.received())
	restore()
	require.Equal(t, message.Poll, h.awaitReceived(1)[0].Type)
	info := &types.MessageInfo{ID: poll, MessageSource: types.MessageSource{Chat: own, Sender: private, IsFromMe: true}}
	vote, err := ann.Client.BuildPollVote(ctx, info, []string{"Coffee"})
	require.NoError(t, err)
	_, err = ann.Send(own, vote)
	require.NoError(t, err)
	require.Equal(t, []string{"Coffee"}, h.awaitReceived(2)[1].Poll.Options)
	n.heard(t, h)
}

// Somebody whose number the database does not tell is not taken for another one, whom nobody knows.
func TestNobodyIsNamedByHalf(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann, own := n.person(t, "+491"), address(n.of(h.id))
	require.NoError(t, n.Hide("+491"))
	_, err := e.pool.Exec(ctx, "ALTER TABLE whatsmeow_lid_map RENAME TO lid_map_away")
	require.NoError(t, err)
	_, err = e.pool.Exec(ctx, "INSERT INTO lid_map_away (lid, pn) VALUES ($1, '491')", ann.Client.Store.GetLID().User) // another worker has learnt it
	require.NoError(t, err)
	_, err = e.pool.Exec(ctx, "CREATE VIEW whatsmeow_lid_map AS SELECT NULL::text AS lid, NULL::text AS pn")
	require.NoError(t, err)
	reading, stop := context.WithCancel(ctx)
	require.Error(t, e.lids.FillCache(reading), "somebody else's session begins, and the map is read to its middle")
	stop()
	_, err = e.pool.Exec(ctx, "DROP VIEW whatsmeow_lid_map")
	require.NoError(t, err)
	_, err = ann.Send(own, text1("it is me"))
	require.NoError(t, err)
	h.await(wire.StatusReconnecting, reasonStorage)
	require.Empty(t, h.received())
	_, err = e.pool.Exec(ctx, "ALTER TABLE lid_map_away RENAME TO whatsmeow_lid_map")
	require.NoError(t, err)
	got := h.awaitReceived(1)[0]
	require.Equal(t, []string{private.String(), private.String()}, []string{got.Chat, got.Sender})
	n.heard(t, h)
}

// What PostgreSQL has no place for ends no link: it would come again each time, and nothing behind it.
func TestNulBytesDoNotKeepASessionFromWhatsApp(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann, own := n.person(t, "+491"), address(n.of(h.id))
	target := &waCommon.MessageKey{RemoteJID: proto.String(own.String()), ID: proto.String("A\x00B"), FromMe: proto.Bool(true)}
	for _, m := range []*waE2E.Message{
		ann.Client.BuildPollCreation("?", []string{"Tea\x00", "Coffee"}, 1),
		{PollUpdateMessage: &waE2E.PollUpdateMessage{PollCreationMessageKey: target, Vote: &waE2E.PollEncValue{EncPayload: []byte{1}, EncIV: []byte{2}}}},
		{EncReactionMessage: &waE2E.EncReactionMessage{TargetMessageKey: target, EncPayload: []byte{1}, EncIV: []byte{2}}},
		text1("behind it"),
	} {
		_, err := ann.Send(own, m)
		require.NoError(t, err)
	}
	got := h.awaitReceived(4)
	require.Equal(t, []string{message.Poll, message.Unknown, message.Unknown, message.Text}, []string{got[0].Type, got[1].Type, got[2].Type, got[3].Type})
	n.heard(t, h)
	require.Zero(t, e.Stats().Reconnects)
}

// Reactions and comments that are sealed with the secret of what they are about, as in communities' announcements, are read.
func TestSealedReactionsAndComments(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann := n.person(t, "+491")
	group, err := n.NewLIDGroup(n.of(h.id), "By LID", "+491")
	require.NoError(t, err)
	root := text1("news")
	root.MessageContextInfo = &waE2E.MessageContextInfo{MessageSecret: make([]byte, 32)}
	id, err := ann.Send(group, root)
	require.NoError(t, err)
	h.awaitReceived(1)

	info := &types.MessageInfo{ID: id, MessageSource: types.MessageSource{Chat: group, Sender: ann.Client.Store.GetLID().ToNonAD(), IsFromMe: true}}
	reaction, err := ann.Client.EncryptReaction(ctx, info, &waE2E.ReactionMessage{Key: ann.Client.BuildMessageKey(group, info.Sender, id), Text: proto.String("👍")})
	require.NoError(t, err)
	_, err = ann.Send(group, &waE2E.Message{EncReactionMessage: reaction})
	require.NoError(t, err)
	comment, err := ann.Client.EncryptComment(ctx, info, text1("well said"))
	require.NoError(t, err)
	_, err = ann.Send(group, comment)
	require.NoError(t, err)
	got := h.awaitReceived(3)
	about := &message.Ref{WhatsappID: id, Sender: "491@s.whatsapp.net"}
	require.Equal(t, []any{message.Reaction, "👍", about}, []any{got[1].Type, got[1].Message, got[1].Target})
	require.Equal(t, []any{message.Text, "well said", about}, []any{got[2].Type, got[2].Message, got[2].ReplyTo})
	n.heard(t, h)

	_, err = e.pool.Exec(ctx, "ALTER TABLE whatsmeow_message_secrets RENAME TO secrets_away")
	require.NoError(t, err)
	_, err = ann.Send(group, &waE2E.Message{EncReactionMessage: reaction})
	require.NoError(t, err)
	h.await(wire.StatusReconnecting, reasonStorage)
	require.Len(t, h.received(), 3, "it is not told as one that cannot be read")
	_, err = e.pool.Exec(ctx, "ALTER TABLE secrets_away RENAME TO whatsmeow_message_secrets")
	require.NoError(t, err)
	require.Equal(t, "👍", h.awaitReceived(4)[3].Message)
	n.heard(t, h)

	reaction.TargetMessageKey.ID = proto.String("ANOTHER")
	_, err = ann.Send(group, &waE2E.Message{EncReactionMessage: reaction})
	require.NoError(t, err)
	lost := h.awaitReceived(5)[4]
	require.Equal(t, []any{message.Unknown, "ANOTHER"}, []any{lost.Type, lost.Target.WhatsappID})
}

// In a group that names its members by LID, the session does so as well, and tells by number who is named.
func TestPeopleAreNamedAsTheirGroupNamesThem(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann := n.person(t, "+491")
	group, err := n.NewLIDGroup(n.of(h.id), "By LID", "+491")
	require.NoError(t, err)
	lid, err := n.LID("+491")
	require.NoError(t, err)
	own, err := n.LID(n.of(h.id))
	require.NoError(t, err)

	m := sendOf("@491 and @4912, look")
	m.To, m.Mentions = group.String(), []string{"491@s.whatsapp.net"}
	m.ReplyTo = &message.Ref{WhatsappID: "OWN", FromMe: true}
	h.deliver(m)
	shown, err := ann.Await(m.WhatsappID)
	require.NoError(t, err)
	require.Equal(t, "@"+lid.User+" and @4912, look", shown.Text())
	info := shown.Message.GetExtendedTextMessage().GetContextInfo()
	require.Equal(t, []string{lid.String()}, info.GetMentionedJID())
	require.Equal(t, own.String(), info.GetParticipant())
	require.Equal(t, []string{"491@s.whatsapp.net"}, m.Mentions, "the caller's stay as they are")

	id, err := ann.Send(group, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: proto.String("@" + own.User + ", yes"), ContextInfo: &waE2E.ContextInfo{MentionedJID: []string{own.String(), lid.String()}},
	}})
	require.NoError(t, err)
	got := h.awaitReceived(1)[0]
	require.Equal(t, "@"+number(n.of(h.id))+", yes", got.Message)
	require.Equal(t, []string{address(n.of(h.id)).String(), "491@s.whatsapp.net"}, got.Mentions)

	l := h.Conn.(*conn).present()
	author, err := l.author(ctx, group, address("491"))
	require.NoError(t, err)
	require.Equal(t, lid, author)
	author, err = l.author(ctx, address("491"), address("491"))
	require.NoError(t, err)
	require.Equal(t, address("491"), author, "there is no LID in a chat of two")
	_, err = h.Conn.(*conn).MarkRead(ctx, wire.ReadMarks{Messages: []wire.ReadMark{{Chat: group.String(), Sender: "491@s.whatsapp.net", WhatsappIDs: []string{id}}}})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return slices.Contains(ann.Receipts(id), types.ReceiptTypeRead) }, patience, time.Millisecond)
}

// WhatsApp may know a number by other digits, by which a member is to be asked in, of a new group or an old one.
func TestAMemberIsAskedInByWhatsAppsAddress(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	n.Alias("5511987654321", "551187654321")
	n.Server.Absent("5511987654321")
	n.Server.Absent("5511900000000")
	asked := []string{"5511987654321@s.whatsapp.net", "5511900000000@s.whatsapp.net"}
	ctx, c := context.Background(), h.Conn.(*conn)
	members := func(g wire.Group) (list []string) {
		for _, p := range g.Participants {
			list = append(list, p.JID)
		}
		return list
	}
	both := []string{address(n.of(h.id)).String(), "551187654321@s.whatsapp.net"}
	made, err := c.CreateGroup(ctx, wire.NewGroup{Subject: "x", Participants: asked, Key: "k"})
	require.NoError(t, err)
	require.Equal(t, []wire.ParticipantResult{{JID: asked[0]}, {JID: asked[1], Code: "not_on_whatsapp"}}, made.Results)
	require.ElementsMatch(t, both, members(made.Group))

	old, err := c.CreateGroup(ctx, wire.NewGroup{Subject: "y", Key: "l"})
	require.NoError(t, err)
	add := wire.ParticipantChange{Group: old.ID, Change: wire.ChangeAdd, Participants: asked}
	changed, err := c.ChangeParticipants(ctx, add)
	require.NoError(t, err)
	require.Equal(t, []wire.ParticipantResult{{JID: asked[0]}, {JID: asked[1], Code: "not_on_whatsapp"}}, changed.Participants)
	now, err := c.Group(ctx, wire.GroupRef{Group: old.ID})
	require.NoError(t, err)
	require.ElementsMatch(t, both, members(now))
	add.Participants = []string{both[1], asked[0]}
	changed, err = c.ChangeParticipants(ctx, add)
	require.NoError(t, err)
	require.Equal(t, []wire.ParticipantResult{{JID: both[1], Code: "already_member"}, {JID: asked[0], Code: "already_member"}}, changed.Participants)
}

// Acknowledgements that are on their way when a session is let go of still go out.
func TestAcknowledgementsAreWaitedFor(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	c := h.Conn.(*conn)
	var _ worker.Settler = c
	leave, ok := c.busy(c.present())
	require.True(t, ok)
	soon, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	c.Settle(soon)
	require.Error(t, soon.Err(), "it waited")
	time.AfterFunc(50*time.Millisecond, leave)
	c.Settle(context.Background())
	c.Settle(context.Background())
	_, ok = c.busy(nil)
	require.False(t, ok)
}

// The log at info says nothing of messages that came in as they should.
func TestTheLogIsQuietOfWhatGoesWell(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	var out lockedText
	e := n.engine(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
	ended(t, e)
	h := n.linked(t, e)
	_, err := n.person(t, "+491").Write(address(n.of(h.id)), "hello")
	require.NoError(t, err)
	h.awaitReceived(1)
	n.heard(t, h)
	require.NotContains(t, out.String(), "Handler for")
}

// lockedText is written by whatsmeow's goroutines.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// That the session is in a group now WhatsApp tells again until the gateway has it: it is the same change, of the same time.
func TestAGroupThatIsToldAgainIsOne(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	changes := func() (list []worker.Event) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range h.events {
			if e.Type == wire.EventGroup {
				e.Ack = nil
				list = append(list, e)
			}
		}
		return list
	}
	h.deaf.Store(true)
	_, err := n.NewGroup("+491", "crew", n.of(h.id))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(changes()) == 1 }, patience, time.Millisecond)
	made := changes()[0].Timestamp
	require.Eventually(t, func() bool { return time.Since(made) > time.Second }, patience, time.Millisecond)
	h.deaf.Store(false)
	n.Drop(t, h.id)
	require.Eventually(t, func() bool { return len(changes()) == 2 }, patience, time.Millisecond)
	n.heard(t, h)
	require.Equal(t, changes()[0], changes()[1])
	require.Equal(t, wire.GroupCreated, changes()[0].Data.(wire.GroupData).Action)

	// Of a group that was there before it, WhatsApp tells no time; of its members, in which version they are.
	h.await(wire.StatusConnected, "")
	l := h.Conn.(*conn).present()
	join := &events.JoinedGroup{GroupInfo: types.GroupInfo{JID: types.NewJID("120363000000000077", types.GroupServer), GroupCreated: time.Unix(1_600_000_000, 0)}}
	for _, version := range []string{"1", "1", "2"} {
		join.ParticipantVersionID = version
		require.True(t, l.handle(join))
	}
	list := changes()[2:]
	require.Len(t, list, 3)
	require.WithinDuration(t, time.Now(), list[0].Timestamp, time.Minute)
	id := func(i int) string { return list[i].Data.(wire.GroupData).ChangeID }
	require.Equal(t, id(0), id(1))
	require.NotEqual(t, id(0), id(2), "it was taken out and put in again")
}
