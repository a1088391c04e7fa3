package models_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
)

const sari, budi = "+6281234567890", "+6289876543210"

func jid(phone string) string { return strings.TrimPrefix(phone, "+") + "@s.whatsapp.net" }

// came stores a message that came in from somebody, or was written on the phone itself where from is "".
func (o *outbox) came(chat, from, kind, content string, at time.Time, target *message.Ref) *models.Message {
	o.Helper()
	m := &models.Message{SessionUID: o.session.UID, Direction: models.Inbound, Chat: chat, ToNumber: "t", MessageType: strings.ToUpper(kind), Content: content,
		Status: models.MessageDelivered, WhatsappID: strings.ToUpper(uuid.NewString()), SentAt: &at, CreatedAt: at}
	if from == "" {
		m.Direction, m.FromMe, m.Status = models.Outbound, true, models.MessageSent
	} else {
		m.FromNumber = &from
	}
	if target != nil {
		m.Details = &message.Details{Target: target}
	}
	m.ID = models.InboundID(m.SessionUID, chat, from, m.WhatsappID, at, time.Now())
	o.exec(`INSERT INTO messages (id, session_uid, direction, chat, from_number, from_me, to_number, message_type, content, status, whatsapp_id, sent_at, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)`, m.ID, m.SessionUID, m.Direction, m.Chat, m.FromNumber, m.FromMe, m.ToNumber, m.MessageType, m.Content, m.Status, m.WhatsappID, at)
	return m
}

// apply has messages take effect, and returns the events.
func (o *outbox) apply(about ...*models.Message) (types []string) {
	o.Helper()
	require.NoError(o, o.db.InPgxTx(o.Context(), func(tx pgx.Tx) error {
		events, err := models.ApplyTargets(o.Context(), tx, about)
		for _, e := range events {
			types = append(types, e.Type)
		}
		return err
	}))
	return types
}

func (o *outbox) message(id uuid.UUID) *models.Message {
	o.Helper()
	m, err := models.MessageNamed(o.Context(), o.db.Pool, o.session.UID, id.String())
	require.NoError(o, err)
	return m
}

// deliver sends all that waits and settles it as sent.
func (o *outbox) deliver() {
	o.Helper()
	h := o.take(o.runner())
	claim := o.claim(h, 32)
	var outcomes []models.Outcome
	for i := range claim.Messages {
		outcomes = append(outcomes, outcome(claim, i, models.MessageSent))
	}
	o.settle(h, outcomes...)
	require.True(o, o.release(h))
}

func (o *outbox) about(target *models.Message, kind, content string) uuid.UUID {
	o.Helper()
	return o.add(target.Chat, content, func(m *models.NewMessage) {
		m.Type, m.TargetID, m.Details = strings.ToUpper(kind), &target.ID, &message.Details{Target: models.RefTo(target)}
	})
}

func TestWhatIsSentAboutAMessageChangesIt(t *testing.T) {
	o := newOutbox(t)
	id := o.add(jid(sari), "helo")
	picture := o.add(jid(sari), "", func(m *models.NewMessage) { m.Type, m.Caption = "IMAGE", new("cta") })
	o.deliver()
	o.about(o.message(id), message.Edit, "hello")
	o.about(o.message(picture), message.Edit, "cat")
	reaction := o.about(o.message(id), message.Reaction, "👍")
	require.Equal(t, "helo", o.message(id).Content, "nothing is sent yet")
	o.deliver()

	m := o.message(id)
	require.Equal(t, "hello", m.Content)
	require.NotNil(t, m.EditedAt)
	require.Equal(t, "cat", *o.message(picture).Caption)
	require.Len(t, m.Reactions, 1)
	require.Equal(t, "👍", m.Reactions[0].Emoji)
	require.Equal(t, []any{"6281111111111@s.whatsapp.net", true}, []any{m.Reactions[0].From, m.Reactions[0].FromMe})
	require.Equal(t, id.String(), o.message(reaction).Details.Target.MessageID)

	o.about(o.message(id), message.Reaction, "")
	o.about(o.message(id), message.Delete, "")
	o.deliver()
	m = o.message(id)
	require.Empty(t, m.Reactions)
	require.NotNil(t, m.DeletedAt)
	require.Equal(t, "hello", m.Content, "the tenant has seen it")
	o.about(m, message.Edit, "too late")
	o.deliver()
	require.Equal(t, "hello", o.message(id).Content)

	require.ElementsMatch(t, []string{"message.sent helo", "message.sent ", "message.sent hello", "message.sent cat", "message.sent 👍", "message.edited hello", "message.edited ",
		"message.reaction hello", "message.sent ", "message.sent ", "message.reaction hello", "message.deleted hello", "message.sent too late"}, o.events())
}

func TestWhatFailedChangesNothing(t *testing.T) {
	o := newOutbox(t)
	id := o.add(jid(sari), "helo")
	o.deliver()
	o.about(o.message(id), message.Edit, "hello")
	h := o.take(o.runner())
	claim := o.claim(h, 8)
	o.settle(h, outcome(claim, 0, models.MessageFailed))
	require.Equal(t, "helo", o.message(id).Content)

	// Settled by a holder that has lost the lane, nothing happens either.
	require.True(t, o.release(h))
	o.about(o.message(id), message.Edit, "hello")
	h = o.take(o.runner())
	claim = o.claim(h, 8)
	o.exec(`DELETE FROM runners`)
	next := o.take(o.runner())
	require.Len(t, o.claim(next, 8).Messages, 1)
	o.settle(h, outcome(claim, 0, models.MessageSent))
	require.Equal(t, "helo", o.message(id).Content)
	require.NotContains(t, o.events(), "message.edited hello")
}

func TestWhatComesInAboutAMessage(t *testing.T) {
	o := newOutbox(t)
	own := o.add(jid(sari), "ours")
	o.deliver()
	group := "120363012345678901@g.us"
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	theirs := o.came(jid(sari), sari, message.Text, "theirs", at, nil)
	said := o.came(group, sari, message.Text, "said", at, nil)
	phone := o.came(jid(sari), "", message.Text, "on the phone", at, nil)
	ref := func(m *models.Message) *message.Ref { return &message.Ref{WhatsappID: m.WhatsappID} }
	n := 0
	about := func(chat, from, kind, content string, target *models.Message) *models.Message {
		n++
		return o.came(chat, from, kind, content, at.Add(time.Duration(n)*time.Second), ref(target))
	}
	for what, c := range map[string]struct {
		m     *models.Message
		event string
	}{
		"an edit by its author":             {about(jid(sari), sari, message.Edit, "new", theirs), "message.edited"},
		"an edit of ours by somebody":       {about(jid(sari), sari, message.Edit, "new", o.message(own)), ""},
		"an edit from another chat":         {about(jid(budi), budi, message.Edit, "new", theirs), ""},
		"an edit of another's in a group":   {about(group, budi, message.Edit, "new", said), ""},
		"an edit on the phone":              {about(jid(sari), "", message.Edit, "new", phone), "message.edited"},
		"an edit on the phone of theirs":    {about(jid(sari), "", message.Edit, "new", theirs), ""},
		"a deletion of ours by somebody":    {about(jid(sari), sari, message.Delete, "", o.message(own)), ""},
		"a deletion by an administrator":    {about(group, budi, message.Delete, "", said), "message.deleted"},
		"a reaction to ours":                {about(jid(sari), sari, message.Reaction, "❤️", o.message(own)), "message.reaction"},
		"a reaction to what is not there":   {about(jid(sari), sari, message.Reaction, "❤️", &models.Message{WhatsappID: "X"}), ""},
		"a reaction in another chat":        {about(jid(budi), budi, message.Reaction, "❤️", o.message(own)), ""},
		"a reaction that is a book":         {about(jid(sari), sari, message.Reaction, strings.Repeat("x", 70), theirs), ""},
		"an empty reaction where none is":   {about(jid(budi), budi, message.Reaction, "", theirs), ""},
		"a vote":                            {about(jid(sari), sari, message.Vote, "", theirs), ""},
		"an edit of an edit's WhatsApp ID":  {about(jid(sari), sari, message.Edit, "new", about(jid(sari), sari, message.Edit, "x", theirs)), ""},
		"a message that is about no other":  {o.came(jid(sari), sari, message.Reaction, "x", at, nil), ""},
		"a message without a target's name": {o.came(jid(sari), sari, message.Reaction, "x", at, &message.Ref{}), ""},
	} {
		var want []string
		if c.event != "" {
			want = []string{c.event}
		}
		require.Equal(t, want, o.apply(c.m), what)
		require.Empty(t, o.apply(c.m), "%s: once more, it is the same", what)
	}
	require.Equal(t, "new", o.message(theirs.ID).Content)
	require.Equal(t, "ours", o.message(own).Content)
	vote := about(jid(sari), sari, message.Vote, "", theirs)
	o.apply(vote)
	require.Equal(t, theirs.ID, *vote.TargetID)
	require.Equal(t, theirs.ID.String(), o.message(vote.ID).Details.Target.MessageID, "tied in the row too")
}

func TestLateEditsAndReactionsChangeNothing(t *testing.T) {
	o := newOutbox(t)
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	m := o.came(jid(sari), sari, message.Text, "0", at, nil)
	ref := func() *message.Ref { return &message.Ref{WhatsappID: m.WhatsappID} }
	edit := func(i int) *models.Message {
		return o.came(jid(sari), sari, message.Edit, fmt.Sprint(i), at.Add(time.Duration(i)*time.Second), ref())
	}
	react := func(i int, emoji string) *models.Message {
		return o.came(jid(sari), sari, message.Reaction, emoji, at.Add(time.Duration(i)*time.Second), ref())
	}
	require.Equal(t, []string{"message.edited", "message.reaction"}, o.apply(edit(3), edit(2), react(5, "👍"), react(4, "❤️")), "one batch")
	require.Empty(t, o.apply(edit(1), react(3, "")))
	require.Equal(t, "3", o.message(m.ID).Content)
	require.Equal(t, "👍", o.message(m.ID).Reactions[0].Emoji)
	require.Equal(t, []string{"message.reaction"}, o.apply(react(6, "")))
	require.Empty(t, o.message(m.ID).Reactions)
}

func TestReactionsAreBounded(t *testing.T) {
	o := newOutbox(t)
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	group := "120363012345678901@g.us"
	m := o.came(group, sari, message.Text, "x", at, nil)
	var list []*models.Message
	for i := range 230 {
		list = append(list, o.came(group, fmt.Sprintf("+62812000%04d", i), message.Reaction, "👍", at.Add(time.Duration(i)*time.Second), &message.Ref{WhatsappID: m.WhatsappID}))
	}
	require.Len(t, o.apply(list...), 230)
	marks := o.message(m.ID).Reactions
	require.Len(t, marks, 200)
	require.Equal(t, "628120000229@s.whatsapp.net", marks[199].From, "the newest are kept")
}

// Settling an edit and a receipt of its target, at the same time, over and over: nobody waits for ever.
func TestTargetsUnderReceipts(t *testing.T) {
	r := newReporter(t)
	id := r.add(jid(sari), "x")
	r.deliver()
	target := r.message(id)
	for i := range 20 {
		edit := r.about(target, message.Edit, fmt.Sprint(i))
		h := r.take(r.runner())
		claim := r.claim(h, 8)
		var group sync.WaitGroup
		group.Go(func() { r.settle(h, outcome(claim, 0, models.MessageSent)) })
		group.Go(func() { r.send(r.receipt(id, "delivered"), r.receipt(edit, "delivered")) })
		group.Wait()
		require.Contains(t, []string{"SENT", "DELIVERED"}, r.message(edit).Status)
		_ = r.release(h)
	}
	require.Equal(t, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM messages WHERE message_type = 'EDIT'`), int64(20))
}

// Who reacted is named like everybody else, and by what was known of him then.
func TestReactionsNameWhoReacted(t *testing.T) {
	m := models.Message{Reactions: []message.Mark{
		{From: "6281@s.whatsapp.net", LID: "77@lid", Name: "Sari", Emoji: "a"}, {From: "78@lid", Emoji: "b"}, {FromMe: true, Emoji: "c"}}}
	shown, err := json.Marshal(m.Resource("shop").Reactions)
	require.NoError(t, err)
	require.JSONEq(t, `[
		{"from":{"phone":"+6281","lid":"77@lid","name":"Sari"},"fromMe":false,"emoji":"a","at":"0001-01-01T00:00:00Z"},
		{"from":{"phone":null,"lid":"78@lid","name":null},"fromMe":false,"emoji":"b","at":"0001-01-01T00:00:00Z"},
		{"from":null,"fromMe":true,"emoji":"c","at":"0001-01-01T00:00:00Z"}]`, string(shown))
}
