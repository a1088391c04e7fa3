//go:build !race

package wafake_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/worker/whatsapp/wafake"
)

// subject is a client under test: what a worker would have.
type subject struct {
	*whatsmeow.Client
	t      *testing.T
	events chan any
}

// follow points a client at the network and notes its events.
func follow(t *testing.T, s *wafake.Server, client *whatsmeow.Client, label string) *subject {
	t.Helper()
	sub := &subject{Client: client, t: t, events: make(chan any, 1000)}
	client.EnableAutoReconnect = false
	client.AddEventHandler(func(e any) { sub.events <- e })
	s.Configure(client, label)
	t.Cleanup(client.Disconnect)
	return sub
}

// await waits for an event of a kind.
func await[E any](s *subject, matching ...func(E) bool) E {
	s.t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case raw := <-s.events:
			if e, ok := raw.(E); ok && (len(matching) == 0 || matching[0](e)) {
				return e
			}
		case <-late:
			var none E
			require.FailNow(s.t, "no such event", "%T", none)
		}
	}
}

// linked is a client that is linked to 4917012345 by its QR code and connected.
func linked(t *testing.T, s *wafake.Server) *subject {
	t.Helper()
	sub := follow(t, s, whatsmeow.NewClient(wafake.NewDevice(), nil), "worker")
	sub.scan(s, "4917012345")
	return sub
}

func (s *subject) scan(server *wafake.Server, number string) {
	s.t.Helper()
	require.NoError(s.t, s.Connect())
	_, err := server.Scan(number, await[*events.QR](s).Codes[0])
	require.NoError(s.t, err)
	await[*events.Connected](s)
}

func jid(number string) types.JID { return types.NewJID(number, types.DefaultUserServer) }

func bg() context.Context { return context.Background() }

func TestAClientIsLinkedAndLogsIn(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	sub := linked(t, s)
	require.Equal(t, types.JID{User: "4917012345", Device: 1, Server: types.DefaultUserServer}, sub.Store.GetJID())
	require.False(t, sub.Store.GetLID().IsEmpty())
	require.Equal(t, []types.JID{sub.Store.GetJID()}, s.Devices("4917012345"))

	sub.Disconnect()
	require.NoError(t, sub.Connect())
	await[*events.Connected](sub)
	logins := s.Logins("4917012345")
	require.Len(t, logins, 2)
	require.Equal(t, "worker", logins[1].Client)
	require.Empty(t, logins[1].End)
	require.Empty(t, s.Fights("4917012345"))
}
