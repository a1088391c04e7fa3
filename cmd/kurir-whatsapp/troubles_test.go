//go:build whatsapp

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"

	"kurir/embedded/embeddedtest"
	"kurir/worker/whatsapp/wafake"
)

// Numbers of the session's phone and of two people. Ann has two devices.
const (
	ownNumber = "6281234567890"
	annNumber = "491701234567"
	bobNumber = "491701234568"
)

// troubles share a cluster and a session, which somebody writes to and over all the time.
type troubles struct {
	*cluster
	v           *conversation
	annsLaptop  *wafake.Person
	ann, bob    *wafake.Person
	withoutPace map[string]any
}

// What can befall a session befalls it on a whole Kurir. cluster.step proves after each that nothing was lost, doubled or
// overtaken, and that no two workers had the device.
func TestTroublesOnKurir(t *testing.T) {
	c := newCluster(t)
	s := &troubles{cluster: c, v: &conversation{session: "one", own: types.NewJID(ownNumber, types.DefaultUserServer)}, withoutPace: map[string]any{"settings": map[string]any{
		"pacing": map[string]any{"messagesPerMinute": 0, "typing": map[string]any{"perCharacterMs": 0, "maxMs": 0}, "newChatsPerHour": 0, "newChatsPerDay": 0}}}}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"linked", s.linked},
		{"a group, and somebody with two devices", s.group},
		{"moves while messages arrive", s.moves},
		{"acknowledgements that are lost", s.lostAcknowledgements},
		{"killed while it sends", s.killedWhileSending},
		{"killed before the gateway has heard", func() { s.killedUnheard(embeddedtest.NoRequests) }},
		{"killed before the gateway's answer", func() { s.killedUnheard(embeddedtest.NoAnswers) }},
		{"a zombie", s.zombie},
		{"a ban that ends", s.ban},
		{"the phone unlinks, and links again", s.unlinked},
		{"linked to another session meanwhile", s.linkedElsewhere},
	} {
		c.step(step.name, step.do)
	}
}

func (s *troubles) linked() {
	var err error
	s.ann, err = s.network.Person(annNumber)
	require.NoError(s.t, err)
	s.annsLaptop, err = s.network.Companion(annNumber)
	require.NoError(s.t, err)
	s.bob, err = s.network.Person(bobNumber)
	require.NoError(s.t, err)
	s.v.phones = map[string][]*wafake.Person{annNumber: {s.ann, s.annsLaptop}, bobNumber: {s.bob}}
	s.v.authors = []author{{s.ann, s.v.own}, {s.annsLaptop, s.v.own}, {s.bob, s.v.own}}
	s.create("one")
	s.scan("one")
	for to := range s.v.phones { // who writes first makes the keys
		_, err := s.say(s.v, to, "hello "+to)
		require.NoError(s.t, err)
	}
	s.prove()
	for i, by := range s.v.authors {
		require.NoError(s.t, s.write(s.v, by, fmt.Sprintf("hello of %s (%d)", by.Number, i)))
		s.prove()
	}
	s.talk(s.v, 2)
	s.prove()
	last := s.ann.Shown()[0]
	require.NoError(s.t, s.ann.Read(last.ID))
	s.expect(last.Text(), "read")
}

// create makes a session that sends as fast as it can.
func (s *troubles) create(session string) {
	s.t.Helper()
	s.tenant.order(http.MethodPost, "/sessions", map[string]any{"name": session, "sessionId": session})
	s.tenant.order(http.MethodPatch, "/sessions/"+session, s.withoutPace)
}

// scan links a session to the phone, and waits until it is connected.
func (s *troubles) scan(session string) {
	s.t.Helper()
	code := s.tenant.until("/sessions/"+session+"/qr", func(d map[string]any) bool { return d["qr"] != nil })
	_, err := s.network.Scan(ownNumber, code["qr"].(string))
	require.NoError(s.t, err)
	s.connected(session)
}

func (s *troubles) connected(session string) {
	s.t.Helper()
	s.is(session, "connected", "")
}

// is waits for a status and a reason.
func (s *troubles) is(session, status, reason string) map[string]any {
	s.t.Helper()
	return s.tenant.until("/sessions/"+session, func(d map[string]any) bool {
		why, _ := d["reason"].(string)
		return d["status"] == status && why == reason
	})
}

// expect says what is to become of a message that was sent.
func (s *troubles) expect(text, status string) {
	for _, m := range s.sent {
		if m.text == text {
			m.status = status
		}
	}
}

// worker is who holds the session.
func (s *troubles) worker() string {
	s.t.Helper()
	return s.tenant.order(http.MethodGet, "/sessions/one", nil)["workerId"].(string)
}

// elsewhere waits until another worker has the session connected.
func (s *troubles) elsewhere(former string) {
	s.t.Helper()
	s.tenant.until("/sessions/one", func(d map[string]any) bool {
		return d["workerId"] != nil && d["workerId"] != former && d["status"] == "connected"
	})
}

// move has an administrator move the session.
func (s *troubles) move() {
	s.t.Helper()
	former := s.worker()
	to := strings.NewReplacer("w0", "w1", "w1", "w0").Replace(former)
	s.admin.order(http.MethodPost, "/admin/sessions/one/migrate", map[string]any{"workerId": to})
	s.elsewhere(former)
}

func (s *troubles) group() {
	group, err := s.network.NewGroup(ownNumber, "Team", annNumber, bobNumber)
	require.NoError(s.t, err)
	direct := *s.v
	s.v.phones = map[string][]*wafake.Person{group.String(): {s.ann, s.annsLaptop, s.bob}, annNumber: direct.phones[annNumber], bobNumber: direct.phones[bobNumber]}
	s.v.authors = append(s.v.authors, author{s.ann, group}, author{s.annsLaptop, group}, author{s.bob, group})
	s.talk(s.v, 3)
	s.move() // with the keys of the group
	s.talk(s.v, 3)
}

func (s *troubles) moves() {
	end := s.flow(s.v)
	defer end()
	for range 4 {
		s.further(s.v, 3)
		s.move()
	}
	end()
}

// lostAcknowledgements: what WhatsApp has taken without a word is in doubt until a receipt comes, or it goes out again under its ID.
func (s *troubles) lostAcknowledgements() {
	end := s.flow(s.v)
	defer end()
	for range 3 {
		before := len(s.network.Logins(ownNumber))
		s.network.BreakBeforeAck(1)
		s.eventually("it connects again", func() string {
			if now := s.network.Logins(ownNumber); len(now) == before || now[len(now)-1].End != "" {
				return fmt.Sprintf("%+v", now[len(now)-1])
			}
			return ""
		})
	}
	end()
}

func (s *troubles) killedWhileSending() {
	end := s.flow(s.v)
	defer end()
	s.network.DelayAcks(300 * time.Millisecond)
	former, before := s.worker(), len(s.network.Sends(ownNumber))
	s.eventually("it sends", func() string {
		if len(s.network.Sends(ownNumber)) < before+3 {
			return "nothing"
		}
		return ""
	})
	s.kill(former)
	s.network.DelayAcks(0)
	s.elsewhere(former)
	end()
	s.again(former)
}

// killedUnheard loses what the worker tells the gateway of messages that come in, or what the gateway answers, and kills it then.
func (s *troubles) killedUnheard(loss embeddedtest.Fault) {
	former := s.worker()
	way := s.ways[former]
	way.Set(loss)
	text := "unheard " + s.t.Name()
	for i, by := range s.v.authors {
		require.NoError(s.t, s.write(s.v, by, fmt.Sprintf("%s (%d)", text, i)))
	}
	s.eventually("a message is told to the gateway, in vain", func() string {
		if bytes.Contains(way.Swallowed(), []byte(text)) || strings.Contains(strings.Join(s.history("one"), "\n"), text) {
			return ""
		}
		return "nothing is told"
	})
	s.kill(former)
	s.talk(s.v, 1)
	s.elsewhere(former)
	way.Set(embeddedtest.None)
	s.again(former)
}

// zombie stops a worker until another one has its session, and wakes it up.
func (s *troubles) zombie() {
	end := s.flow(s.v)
	defer end()
	former := s.worker()
	s.signal(former, syscall.SIGSTOP)
	s.frozen[ownNumber]++
	s.elsewhere(former)
	logins := len(s.network.Logins(ownNumber))
	woken := time.Now()
	s.signal(former, syscall.SIGCONT)
	s.online(former)
	end()
	s.prove()
	require.Len(s.t, s.network.Logins(ownNumber), logins, "whoever has the session keeps it, and the zombie does not come back")
	for _, m := range s.network.Sends(ownNumber) {
		require.False(s.t, m.Client == former && m.At.After(woken), "the zombie has sent %+v", m)
	}
	s.move() // to the former zombie, which finds the credentials as they should be
	require.Equal(s.t, former, s.worker())
	s.talk(s.v, 3)
}

func (s *troubles) ban() {
	const lasts = 8 * time.Second
	began, logins, refused := time.Now(), len(s.network.Logins(ownNumber)), len(s.network.Refused(ownNumber))
	s.network.Ban(ownNumber, 101, lasts)
	state := s.is("one", "error", "banned")
	sending := state["sending"].(map[string]any)
	require.Equal(s.t, []any{"cooling_down", "banned"}, []any{sending["state"], sending["reason"]}, state)
	until, err := time.Parse(time.RFC3339, sending["until"].(string))
	require.NoError(s.t, err)
	require.WithinRange(s.t, until, began.Add(lasts), time.Now().Add(lasts))
	sends := len(s.network.Sends(ownNumber))
	var waiting []*outgoing
	for i := range 3 {
		m, err := s.say(s.v, annNumber, fmt.Sprint("while it is banned ", i))
		require.NoError(s.t, err)
		waiting = append(waiting, m)
	}
	for tick := time.Tick(200 * time.Millisecond); time.Until(until) > 2*time.Second; <-tick {
		for _, m := range waiting {
			is := s.tenant.order(http.MethodGet, "/messages/"+m.id, nil)
			require.Equal(s.t, []any{"pending", "session"}, []any{is["status"], is["waitingFor"]})
		}
		require.Len(s.t, s.network.Sends(ownNumber), sends)
		require.Len(s.t, s.network.Refused(ownNumber), refused+1, "it knocks once")
	}
	s.network.Pardon(ownNumber)
	s.connected("one")
	after := s.network.Logins(ownNumber)
	require.Len(s.t, after, logins+1)
	require.WithinRange(s.t, after[logins].From, until.Add(-time.Second), until.Add(10*time.Second))
	require.NotEqual(s.t, "cooling_down", s.tenant.order(http.MethodGet, "/sessions/one", nil)["sending"].(map[string]any)["state"])
	s.talk(s.v, 1)
}

// pause has messages wait, or go on.
func (s *troubles) pause(yes bool) {
	s.t.Helper()
	s.tenant.order(http.MethodPatch, "/sessions/one", map[string]any{"settings": map[string]any{"paused": yes}})
}

// unlinked: what waits is cancelled, with the reason, and goes out when it is asked for again.
func (s *troubles) unlinked() {
	s.pause(true)
	var waiting []*outgoing
	for i := range 2 {
		m, err := s.say(s.v, bobNumber, fmt.Sprint("when it is unlinked ", i))
		require.NoError(s.t, err)
		m.status = "cancelled"
		waiting = append(waiting, m)
	}
	require.Equal(s.t, 1, s.network.Unlink(ownNumber))
	require.Nil(s.t, s.is("one", "disconnected", "logged_out")["phoneNumber"])
	for _, m := range waiting {
		is := s.tenant.order(http.MethodGet, "/messages/"+m.id, nil)
		require.Equal(s.t, []any{"cancelled", "logged_out"}, []any{is["status"], is["errorCode"]})
	}
	refused := s.tenant.do(http.MethodPost, "/sessions/one/send", map[string]any{"to": annNumber, "message": "to nobody"})
	require.Equal(s.t, []any{http.StatusConflict, "session_not_linked"}, []any{refused["status code"], refused["code"]})
	s.prove()

	s.tenant.order(http.MethodPost, "/sessions/one/start", nil)
	s.scan("one")
	s.pause(false)
	for _, m := range waiting {
		s.tenant.order(http.MethodPost, "/messages/"+m.id+"/retry", map[string]any{})
		m.status = "delivered"
	}
	s.prove()
	s.talk(s.v, 2)
}

// linkedElsewhere: while a session is stopped, its phone unlinks it and links another session, whose device has the address that
// the first one's had. Then it links the first one again, as one more device.
func (s *troubles) linkedElsewhere() {
	s.pause(true)
	waits, err := s.say(s.v, annNumber, "waits for the phone to come back")
	require.NoError(s.t, err)
	waits.status = "pending"
	s.tenant.order(http.MethodPost, "/sessions/one/stop", nil)
	s.is("one", "disconnected", "stopped")
	former := s.network.Devices(ownNumber)
	require.Equal(s.t, 1, s.network.Unlink(ownNumber))
	s.create("two")
	s.scan("two")
	require.Equal(s.t, former, s.network.Devices(ownNumber))
	other := *s.v
	other.session = "two"
	s.talk(&other, 2)

	s.tenant.order(http.MethodPost, "/sessions/one/start", nil)
	s.is("one", "qr_required", "")
	s.talk(&other, 1)
	s.prove() // before the first one hears of what is sent
	s.scan("one")
	require.Len(s.t, s.network.Devices(ownNumber), 2)
	s.connected("two")
	s.pause(false)
	waits.status = "delivered"
	s.sent = append(slices.DeleteFunc(s.sent, func(m *outgoing) bool { return m == waits }), waits) // two sessions do not wait for each other
	s.written = append(s.written, incoming{"outbound sent", "two", waits.text})                     // as phones show what their devices send
	s.prove()
	require.NoError(s.t, s.write(s.v, s.v.authors[0], "to both"))
	s.written = append(s.written, incoming{"inbound", "two", "to both"})
}
