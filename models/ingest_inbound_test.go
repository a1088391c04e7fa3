package models_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

const chatJID = "6282222222222@s.whatsapp.net"

// comes is a message of a type in the one chat.
func (r *reporter) comes(whatsappID, kind, text string, change ...func(*wire.ReceivedData)) wire.Event {
	phone := "+6282222222222"
	d := wire.ReceivedData{WhatsappID: whatsappID, Chat: chatJID, Sender: chatJID, From: wire.Contact{Phone: &phone}, Type: kind, Message: text}
	for _, c := range change {
		c(&d)
	}
	return r.event(wire.EventMessageReceived, d)
}

func aimedAt(whatsappID string, fromMe bool) func(*wire.ReceivedData) {
	return func(d *wire.ReceivedData) { d.Target = &message.Ref{WhatsappID: whatsappID, FromMe: fromMe} }
}

func (r *reporter) text(sql string, args ...any) string {
	r.Helper()
	return modelstest.Scalar[string](r, r.db, sql, args...)
}

func TestEveryTypeIsStored(t *testing.T) {
	r := newReporter(t)
	medium := message.Media{ID: uuid.NewString(), MIMEType: "image/png", Size: 7, SHA256: strings.Repeat("ab", 32)}
	var events []wire.Event
	for _, kind := range append(message.Types(), message.Vote, message.Unknown, "hologram") {
		events = append(events, r.comes("W-"+kind, kind, "text of "+kind, func(d *wire.ReceivedData) {
			if message.HasMedia(kind) {
				m := medium
				d.Media, d.Caption, d.Filename = &m, "caption", "f.png"
			}
			if message.About(kind) {
				d.Target = &message.Ref{WhatsappID: "nobody knows it", MessageID: uuid.NewString()}
			}
			switch kind {
			case message.Location:
				d.Location = &message.Place{Latitude: 1, Longitude: 2, Name: "here"}
			case message.Contact:
				d.Contacts = []message.Card{{Name: "Sari", VCard: "BEGIN:VCARD"}}
			case message.Poll:
				d.Poll = &message.Question{Question: "?", Options: []string{"a", "b"}}
			}
		}))
	}
	r.send(events...)
	require.EqualValues(t, len(events), r.count(`direction = 'INBOUND'`))
	require.EqualValues(t, 2, r.count(`message_type = 'UNKNOWN' AND content LIKE 'text of %'`))
	require.EqualValues(t, 6, r.count(`media_id = $1 AND media->>'url' = '/api/v1/media/' || media_id AND media->>'size' = '7'`, medium.ID))
	require.Equal(t, "here", r.text(`SELECT details->'location'->>'name' FROM messages WHERE message_type = 'LOCATION'`))
	require.EqualValues(t, 4, r.count(`details->'target'->>'whatsappId' = 'nobody knows it' AND details->'target'->>'messageId' IS NULL AND target_id IS NULL`))

	// What is about a message that we don't know is told with what is known.
	for event, kind := range map[string]string{"message.edited": "edit", "message.deleted": "delete", "message.reaction": "reaction"} {
		require.Equal(t, kind+" nobody knows it", r.text(`SELECT concat_ws(' ', data->>'type', data->'target'->>'whatsappId') FROM events WHERE type = $1`, event))
	}
	require.Equal(t, "nobody knows it", r.text(`SELECT data->'target'->>'whatsappId' FROM events WHERE type = 'message.received' AND data->>'type' = 'vote'`))
	require.EqualValues(t, len(events)-3, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events WHERE type = 'message.received'`))

	told := len(r.told())
	r.send(events...)
	require.Len(t, r.told(), told, "a redelivery tells nobody")
	require.EqualValues(t, len(events), r.count(`direction = 'INBOUND'`))
}

func TestWhatIsSaidOfAMessageTakesEffect(t *testing.T) {
	r := newReporter(t)
	r.send(r.comes("THEIRS", "text", "with a mistake"))
	r.send(r.comes("E", "edit", "without", aimedAt("THEIRS", false)), r.comes("R", "reaction", "👍", aimedAt("THEIRS", false)))
	require.Equal(t, "without", r.text(`SELECT content FROM messages WHERE whatsapp_id = 'THEIRS' AND edited_at IS NOT NULL`))
	require.Equal(t, "👍", r.text(`SELECT reactions->0->>'emoji' FROM messages WHERE whatsapp_id = 'THEIRS'`))
	require.EqualValues(t, 2, r.count(`target_id = (SELECT id FROM messages WHERE whatsapp_id = 'THEIRS')`))
	require.Equal(t, []string{"message.received delivered with a mistake", "message.edited delivered without", "message.reaction delivered without"}, r.told())

	// The event says who did it, too, when a reaction is taken back, and of a message that we don't know.
	reactions := `SELECT coalesce(string_agg(concat_ws(' ', data->'reaction'->'from'->>'phone', data->'reaction'->>'emoji', data->'reaction'->>'removed', data->'reaction'->>'fromMe'), ', ' ORDER BY id), '')
		FROM events WHERE type = 'message.reaction'`
	require.Equal(t, "+6282222222222 👍 false false", r.text(reactions))
	later := func(e wire.Event) wire.Event {
		e.Timestamp = e.Timestamp.Add(time.Second)
		return e
	}
	r.send(later(r.comes("R2", "reaction", "", aimedAt("THEIRS", false))), r.comes("R3", "reaction", "🙏", aimedAt("nobody knows it", false)))
	require.Equal(t, "+6282222222222 👍 false false, +6282222222222  true false, +6282222222222 🙏 false false", r.text(reactions))
	r.exec(`DELETE FROM events WHERE data->'reaction'->>'emoji' IS DISTINCT FROM '👍' AND type = 'message.reaction'`)

	// A vote in a poll of ours is a message with its target.
	id := r.add(chatJID, "?")
	r.send(r.comes("V", "vote", "", aimedAt(models.WhatsappID(id), true)))
	require.Equal(t, id.String(), r.text(`SELECT data->'target'->>'messageId' FROM events WHERE data->>'type' = 'vote'`))

	// So does a reply name what it answers, of ours and of theirs.
	reply := func(whatsappID string) func(*wire.ReceivedData) {
		return func(d *wire.ReceivedData) {
			d.ReplyTo = &message.Ref{WhatsappID: whatsappID, MessageID: "rubbish"}
		}
	}
	r.send(r.comes("A1", "text", "a", reply(models.WhatsappID(id))), r.comes("A2", "text", "b", reply("THEIRS")), r.comes("A3", "text", "c", reply("NOBODY")))
	require.Equal(t, id.String(), r.text(`SELECT details->'replyTo'->>'messageId' FROM messages WHERE whatsapp_id = 'A1'`))
	require.Equal(t, r.text(`SELECT id::text FROM messages WHERE whatsapp_id = 'THEIRS'`), r.text(`SELECT details->'replyTo'->>'messageId' FROM messages WHERE whatsapp_id = 'A2'`))
	require.EqualValues(t, 1, r.count(`whatsapp_id = 'A3' AND details->'replyTo'->>'messageId' IS NULL`))
}

// An edit that never was known to be sent takes effect when a receipt says so.
func TestAReceiptMakesAnEditAFact(t *testing.T) {
	r := newReporter(t)
	id := r.add(chatJID, "with a mistake")
	edit := newMessage(r.session.UID, chatJID, "without")
	edit.Type, edit.TargetID = "EDIT", &id
	edit.Details = &message.Details{Target: &message.Ref{MessageID: id.String(), WhatsappID: models.WhatsappID(id), FromMe: true}}
	require.NoError(t, r.accept.Accept(t.Context(), edit))
	r.claim(r.take(r.runner()), 10)
	r.send(r.receipt(edit.ID, "delivered"), r.receipt(edit.ID, "read"))
	require.Equal(t, "without", r.text(`SELECT content FROM messages WHERE id = $1`, id))
	require.Equal(t, "message.edited", r.text(`SELECT type FROM events WHERE data->>'id' = $1`, id.String()))
}

func TestRubbishCostsItsEventOnly(t *testing.T) {
	r := newReporter(t)
	raw := func(kind, data string) wire.Event {
		e := r.event(kind, nil)
		e.Data = json.RawMessage(data)
		return e
	}
	media := func(change func(*message.Media)) func(*wire.ReceivedData) {
		return func(d *wire.ReceivedData) {
			d.Media = &message.Media{ID: uuid.NewString(), MIMEType: "image/png", Size: 1}
			change(d.Media)
		}
	}
	rubbish := map[string]wire.Event{
		"a list":            raw(wire.EventMessageReceived, `[]`),
		"wrong types":       raw(wire.EventMessageReceived, `{"whatsappId":7,"mentions":"all"}`),
		"wrong depths":      raw(wire.EventMessageReceived, `{"whatsappId":"x","chat":"c","sender":"s","type":"poll","poll":[{}]}`),
		"no chat":           r.comes("x", "text", "x", func(d *wire.ReceivedData) { d.Chat = "" }),
		"no ID":             r.comes("", "text", "x"),
		"a long ID":         r.comes(strings.Repeat("x", 5000), "text", "x"),
		"a huge text":       r.comes("x", "text", strings.Repeat("ü", 65_537)),
		"a huge caption":    r.comes("x", "text", "", func(d *wire.ReceivedData) { d.Caption = strings.Repeat("x", 1<<20) }),
		"5,000 mentions":    r.comes("x", "text", "x", func(d *wire.ReceivedData) { d.Mentions = make([]string, 5000) }),
		"huge details":      r.comes("x", "contact", "x", func(d *wire.ReceivedData) { d.Contacts = []message.Card{{VCard: strings.Repeat("v", 300_000)}} }),
		"a negative size":   r.comes("x", "image", "x", media(func(m *message.Media) { m.Size = -1 })),
		"a medium's path":   r.comes("x", "image", "x", media(func(m *message.Media) { m.ID = "../../etc/passwd" })),
		"a medium's hash":   r.comes("x", "image", "x", media(func(m *message.Media) { m.SHA256 = "<script>" })),
		"beyond the poles":  r.comes("x", "location", "x", func(d *wire.ReceivedData) { d.Location = &message.Place{Latitude: 91} }),
		"a presence":        r.event(wire.EventPresence, wire.PresenceData{Chat: "c", Sender: "s", Presence: "asleep"}),
		"a call of nobody":  r.event(wire.EventCall, wire.CallData{CallID: "1"}),
		"a group's action":  r.event(wire.EventGroup, wire.GroupData{ChangeID: "1", Group: "g@g.us", Action: "exploded"}),
		"5,000 members":     r.event(wire.EventGroup, wire.GroupData{ChangeID: "1", Group: "g@g.us", Action: wire.GroupAdded, Members: make([]wire.Member, 5000)}),
		"an unknown type":   r.event("weather", nil),
		"nothing":           raw(wire.EventCall, `null`),
		"a bool for number": raw(wire.EventMessageReceipt, `{"whatsappId":true}`),
	}
	batch := []wire.Event{r.comes("first", "text", "hello")}
	for _, e := range rubbish {
		batch = append(batch, e)
	}
	batch = append(batch, r.comes("last", "text", "goodbye"))
	r.send(batch...)
	require.Equal(t, []string{"message.received delivered hello", "message.received delivered goodbye"}, r.told())
	require.EqualValues(t, 2, r.count(`true`))

	nul := r.comes("nul", "text", "a\x00b", func(d *wire.ReceivedData) {
		name := "Sa\x00ri"
		d.From.Name, d.Mentions, d.Filename = &name, []string{"a\x00", `\u0000`}, strings.Repeat("é", 1000)
	})
	r.send(nul)
	require.Equal(t, `ab Sari a 255`, r.text(`SELECT concat_ws(' ', content, from_name, details->'mentions'->>0, length(filename)) FROM messages WHERE whatsapp_id = 'nul'`))
}

func TestAMediumThatDidNotComeIsSaid(t *testing.T) {
	r := newReporter(t)
	lost := func(code string) func(*wire.ReceivedData) {
		return func(d *wire.ReceivedData) { d.MediaError = code }
	}
	r.send(r.comes("1", "image", "", lost(wire.CodeMediaGone)), r.comes("2", "image", "", lost("DROP TABLE")))
	require.Equal(t, "media_gone media_refused", r.text(`SELECT string_agg(data->>'errorCode', ' ' ORDER BY id) FROM events WHERE data->>'error' <> '' AND data->'media' IS NULL`))
}

func TestPlayedIsRead(t *testing.T) {
	r := newReporter(t)
	id := r.add("a", "x")
	r.claim(r.take(r.runner()), 1)
	r.send(r.receipt(id, "played"))
	require.Equal(t, models.MessageRead, r.outbox.status(id))
}

func TestPresenceIsOfTheMoment(t *testing.T) {
	r := newReporter(t)
	at := func(e wire.Event, age time.Duration) wire.Event {
		e.Timestamp = e.Timestamp.Add(-age)
		return e
	}
	presence := func(who, what string) wire.Event {
		return r.event(wire.EventPresence, wire.PresenceData{Chat: "c", Sender: who, Presence: what})
	}
	r.send(presence("a", wire.PresenceComposing), presence("b", wire.PresenceAvailable), presence("a", wire.PresencePaused), at(presence("c", wire.PresenceAvailable), time.Hour))
	require.Equal(t, "available paused", r.text(`SELECT string_agg(data->>'state', ' ' ORDER BY id) FROM events WHERE type = 'presence.updated'`))
}

func TestCallsAreAnsweredOnce(t *testing.T) {
	r := newReporter(t)
	r.exec(`UPDATE sessions SET settings = '{"calls":{"reject":true,"message":"Please write."}}'`)
	s, err := models.SessionByUID(t.Context(), r.db, r.session.UID)
	require.NoError(t, err)
	require.True(t, s.RejectsCalls())
	phone := "+6282222222222"
	call := func(id, chat string, rejected bool) wire.Event {
		return r.event(wire.EventCall, wire.CallData{CallID: id, Chat: chat, Sender: chatJID, From: wire.Contact{Phone: &phone}, Rejected: rejected})
	}
	late := call("late", chatJID, true)
	late.Timestamp = late.Timestamp.Add(-2 * time.Hour)
	first := call("1", chatJID, true)
	in := r.send(first, first, call("2", chatJID, false), call("3", "g@g.us", true), late)
	require.Contains(t, modelstest.Lanes(in.Connected), r.session.UID, "the lane has something to send")
	require.EqualValues(t, 1, r.count(`content = 'Please write.' AND status = 'PENDING' AND chat = $1`, chatJID))
	require.EqualValues(t, 4, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events WHERE type = 'call.received'`))
	require.Equal(t, "true", r.text(`SELECT data->>'rejected' FROM events WHERE data->>'id' = '1'`))

	r.send(first)
	require.EqualValues(t, 1, r.count(`true`), "a redelivery calls nobody again")
	require.EqualValues(t, 4, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events`))
	require.Equal(t, []string{"Please write."}, texts(r.claim(r.take(r.runner()), 10)))

	r.exec(`UPDATE lanes SET open = false`)
	r.send(call("4", chatJID, true))
	require.EqualValues(t, 1, r.count(`true`))
	r.exec(`UPDATE lanes SET open = true`)
	for _, settings := range []string{`null`, `[]`, `{"calls":7}`, `{"calls":{"reject":"yes"}}`, `{"calls":{"reject":null}}`} {
		r.exec(`UPDATE sessions SET settings = '` + settings + `'`)
		r.send(call("5"+settings, chatJID, true))
		require.EqualValues(t, 1, r.count(`true`), settings)
	}
}

// The worker hears of the choice by the session's creation, so that has to come again.
func TestAChoiceAboutCallsHasTheSessionCreatedAgain(t *testing.T) {
	r := newReporter(t)
	held := func() int64 { return modelstest.Scalar[int64](t, r.db, `SELECT held_term FROM sessions`) }
	r.exec(`UPDATE sessions SET held_term = 1, held_at = now()`)
	r.exec(`UPDATE sessions SET settings = '{"paused":true}'`)
	require.EqualValues(t, 1, held())
	r.exec(`UPDATE sessions SET settings = '{"calls":{"reject":true}}'`)
	require.Zero(t, held())
	r.exec(`UPDATE sessions SET held_term = 1, held_at = now()`)
	r.exec(`UPDATE sessions SET settings = '{"calls":{"reject":true,"message":"Please write."}}'`)
	require.EqualValues(t, 1, held(), "the text is the gateway's")
	r.exec(`UPDATE sessions SET settings = NULL`)
	require.Zero(t, held())
}

func TestGroupsAreToldOnce(t *testing.T) {
	r := newReporter(t)
	by, name := "+6281", "Bandung"
	change := r.event(wire.EventGroup, wire.GroupData{ChangeID: "1", Group: "g@g.us", Action: wire.GroupChanged, By: &wire.Contact{Phone: &by}, Name: &name})
	r.send(change, change)
	r.send(change)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events`))

	// That the session is in a group now, the network tells without a time: each redelivery has the worker's.
	for range 2 {
		made := r.event(wire.EventGroup, wire.GroupData{ChangeID: "2", Group: "new@g.us", Action: wire.GroupCreated})
		later := made
		later.Timestamp = made.Timestamp.Add(time.Hour)
		r.send(made, later)
		r.send(made)
	}
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events WHERE data->>'action' = 'created'`))
	r.exec(`DELETE FROM events WHERE data->>'action' = 'created'`)
	require.Equal(t, "g@g.us changed +6281 Bandung", r.text(`SELECT concat_ws(' ', data->>'id', data->>'action', data->'by'->>'phone', data->>'subject') FROM events WHERE type = 'group.updated'`))
}

// A call or a change of a group that is handed over days late, or by a phone with a wrong clock, stands where streams read, and
// is told once, through whichever worker.
func TestLateEventsReachStreams(t *testing.T) {
	r := newReporter(t)
	phone := "+6282222222222"
	call := func(id string, age time.Duration) wire.Event {
		e := r.event(wire.EventCall, wire.CallData{CallID: id, Chat: chatJID, Sender: chatJID, From: wire.Contact{Phone: &phone}})
		e.Timestamp = e.Timestamp.Add(-age)
		return e
	}
	list := []wire.Event{call("now", 0), call("half a day", 11*time.Hour), call("days", 72*time.Hour), call("ahead", -20*time.Hour), call("nonsense", -2000*time.Hour)}
	group := r.event(wire.EventGroup, wire.GroupData{ChangeID: "1", Group: "g@g.us", Action: wire.GroupLeft})
	group.Timestamp = group.Timestamp.Add(-200 * 24 * time.Hour)
	list = append(list, group)
	start := models.EventPlace{Xact: 1, ID: models.IDFrom(time.Now())}
	r.send(append(list, list...)...)
	r.send(list...)
	require.EqualValues(t, len(list), modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events`))

	horizon, err := models.EventHorizon(t.Context(), r.db.Pool)
	require.NoError(t, err)
	live, err := models.EventsOfUsers(t.Context(), r.db.Pool, []uuid.UUID{r.session.UserID}, start, horizon, time.Now(), 100)
	require.NoError(t, err)
	require.Len(t, live, len(list))
	for i := range live { // whichever a stream saw last, it goes on with all that is new
		resumed, err := models.EventsBetween(t.Context(), r.db.Pool, models.EventSource{User: r.session.UserID}, models.EventPlace{Xact: 1, ID: live[i].ID}, models.EventPlace{Xact: horizon}, nil, 100)
		require.NoError(t, err)
		require.Len(t, resumed, len(list))
	}
	require.Equal(t, "4", r.text(`SELECT count(*)::text FROM late_events`))

	// Told while it was new, it is known when it is late; and what is forgotten after a long time was told.
	r.exec(`DELETE FROM events WHERE id IN (SELECT id FROM events WHERE data->>'id' = 'days')`)
	r.send(list...)
	require.EqualValues(t, len(list)-1, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events`))
	r.exec(`UPDATE late_events SET told_at = now() - interval '61 days' WHERE key IN (SELECT key FROM late_events LIMIT 2)`)
	n, err := models.DropLateEvents(t.Context(), r.db.Pool, time.Now(), 100)
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

// Of two workers that hand over the same late thing at the same time, one tells of it.
func TestLateEventsAtOnce(t *testing.T) {
	r := newReporter(t)
	group := r.event(wire.EventGroup, wire.GroupData{ChangeID: "1", Group: "g@g.us", Action: wire.GroupLeft})
	group.Timestamp = group.Timestamp.Add(-72 * time.Hour)
	tx, err := r.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `INSERT INTO late_events (key) VALUES ($1)`, models.InboundID(r.session.UID, wire.EventGroup, "g@g.us", "1", group.Timestamp, time.Now()))
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.send(group)
	}()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM pg_locks WHERE NOT granted`) > 0
	}, time.Minute, time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	<-done
	require.Zero(t, modelstest.Scalar[int64](t, r.db, `SELECT count(*) FROM events`))
}
