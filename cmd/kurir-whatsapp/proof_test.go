//go:build whatsapp

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"

	"kurir/worker/whatsapp/wafake"
)

// outgoing is a message that Kurir has accepted.
type outgoing struct {
	id, session, text string
	chat              string           // as phones know it: a group's address, or the number that it comes from
	readers           []*wafake.Person // whose phones are to show it
	status            string           // what is to become of it
}

// incoming is a message that a session is to have, though nobody gave it to Kurir.
type incoming struct{ direction, session, text string }

// conversation is who writes to whom over a session.
type conversation struct {
	session string
	own     types.JID                   // the session's number
	phones  map[string][]*wafake.Person // by address: the phones that show what is sent there
	authors []author
}

// author is somebody who writes to the session, in a chat of two or in a group.
type author struct {
	*wafake.Person
	to types.JID
}

// say has Kurir accept a message. It may be called by any goroutine.
func (c *cluster) say(v *conversation, to, text string) (*outgoing, error) {
	answer, err := c.tenant.ask(http.MethodPost, "/sessions/"+v.session+"/send", map[string]any{"to": to, "message": text})
	if err != nil {
		return nil, err
	}
	if answer["status code"] != http.StatusAccepted {
		return nil, fmt.Errorf("%q is not accepted: %v", text, answer)
	}
	m := &outgoing{id: answer["messageId"].(string), session: v.session, text: text, chat: v.own.User, readers: v.phones[to], status: "delivered"}
	if strings.HasSuffix(to, types.GroupServer) {
		m.chat = to
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, m)
	return m, nil
}

// write has somebody write to the session.
func (c *cluster) write(v *conversation, by author, text string) error {
	if _, err := by.Write(by.to, text); err != nil {
		return fmt.Errorf("%q is not taken by the network: %w", text, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = append(c.written, incoming{"inbound", v.session, text})
	return nil
}

// exchange is one message to each and one of each.
func (c *cluster) exchange(v *conversation, what string) error {
	for to := range v.phones {
		if _, err := c.say(v, to, "to "+to+": "+what); err != nil {
			return err
		}
	}
	for i, by := range v.authors {
		if err := c.write(v, by, fmt.Sprintf("of %s (%d): %s", by.Number, i, what)); err != nil {
			return err
		}
	}
	return nil
}

// talk has everybody write, one after the other, and waits for nothing.
func (c *cluster) talk(v *conversation, rounds int) {
	c.t.Helper()
	for range rounds {
		c.rounds++
		require.NoError(c.t, c.exchange(v, fmt.Sprintf("%s %d", c.t.Name(), c.rounds)))
	}
}

// flow has everybody write until it is ended.
func (c *cluster) flow(v *conversation) (end func()) {
	t, stop, ended := c.t, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if err := c.exchange(v, fmt.Sprintf("%s, flow %d", t.Name(), i)); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-ended
	})
}

// further waits until a flow has gone on for some rounds.
func (c *cluster) further(v *conversation, rounds int) {
	c.t.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.sent)
	}
	for before := count(); count() < before+rounds*len(v.phones); time.Sleep(10 * time.Millisecond) {
		if c.t.Failed() {
			c.t.FailNow()
		}
	}
}

// prove waits until everything has arrived, and checks it: histories are complete and have the right statuses, phones show each
// message once and in order, nothing waits in the network, and no device was at two workers.
func (c *cluster) prove() {
	c.t.Helper()
	c.mu.Lock()
	sent, written := slices.Clone(c.sent), slices.Clone(c.written)
	c.mu.Unlock()
	want := map[string][]string{}
	for _, m := range sent {
		want[m.session] = append(want[m.session], "outbound "+m.status+" "+m.text)
	}
	for _, m := range written {
		want[m.session] = append(want[m.session], m.direction+" "+m.text)
	}
	for session, list := range want {
		slices.Sort(list)
		c.eventually("the history of "+session, func() string { return difference(list, c.history(session)) })
	}
	for _, p := range c.readers(sent) {
		wanted := shownTo(p, sent)
		c.eventually("what the phone of "+p.Number+" shows", func() string {
			if wrong := difference(wanted, c.shown(p)); wrong != "" {
				return fmt.Sprintf("%s; %d times it could not read one", wrong, len(p.Unreadable()))
			}
			return ""
		})
	}
	for _, number := range c.numbers {
		for _, d := range c.network.Devices(number) {
			c.eventually("what waits for "+d.String(), func() string {
				if n := c.network.Waiting(d); n > 0 {
					return fmt.Sprint(n, " stanzas")
				}
				return ""
			})
		}
		require.Len(c.t, c.network.Fights(number), c.frozen[number], "logins that threw out another worker, which was not frozen: %s", number)
	}
	c.t.Logf("%d messages sent, %d received", len(sent), len(written))
}

// history is what the API lists of a session, sorted.
func (c *cluster) history(session string) (list []string) {
	c.t.Helper()
	for _, m := range c.tenant.all("/sessions/"+session+"/messages", "messages") {
		words := []string{m["direction"].(string), m["message"].(string)}
		if m["direction"] == "outbound" {
			words = slices.Insert(words, 1, m["status"].(string))
		}
		list = append(list, strings.Join(words, " "))
	}
	slices.Sort(list)
	return list
}

// readers are the phones that have something to show.
func (c *cluster) readers(sent []*outgoing) (list []*wafake.Person) {
	for _, m := range sent {
		for _, p := range m.readers {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	return list
}

// shownTo is what a phone is to show, by chat, in the order of acceptance.
func shownTo(p *wafake.Person, sent []*outgoing) (list []string) {
	for _, m := range sent {
		if m.status != "cancelled" && m.status != "pending" && slices.Contains(m.readers, p) {
			list = append(list, m.chat+" "+m.text)
		}
	}
	return byChat(list)
}

// shown is what it shows of the sessions' numbers.
func (c *cluster) shown(p *wafake.Person) (list []string) {
	for _, m := range p.Shown() {
		from := m.Sender.User
		if m.Sender.Server == types.HiddenUserServer {
			from = m.SenderAlt.User
		}
		if !slices.Contains(c.numbers, from) {
			continue
		}
		chat := from
		if m.IsGroup {
			chat = m.Chat.String()
		}
		list = append(list, chat+" "+m.Text())
	}
	return byChat(list)
}

// byChat sorts lines by their first word alone.
func byChat(list []string) []string {
	slices.SortStableFunc(list, func(a, b string) int {
		first, _, _ := strings.Cut(a, " ")
		second, _, _ := strings.Cut(b, " ")
		return strings.Compare(first, second)
	})
	return list
}

// difference tells the first line in which two lists differ, "" if they are the same.
func difference(want, got []string) string {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return fmt.Sprintf("%d instead of %d: too much is %q", len(got), len(want), got[i])
		case i >= len(got):
			return fmt.Sprintf("%d instead of %d: not there is %q", len(got), len(want), want[i])
		case want[i] != got[i]:
			return fmt.Sprintf("%d instead of %d: %q instead of %q", len(got), len(want), got[i], want[i])
		}
	}
	return ""
}

// eventually waits until nothing is wrong any more.
func (c *cluster) eventually(what string, wrong func() string) {
	c.t.Helper()
	late := time.Now().Add(patience)
	for {
		is := wrong()
		if is == "" {
			return
		}
		if time.Now().After(late) {
			require.FailNow(c.t, "too late", "%s: %s", what, is)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
