package whatsapp

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"

	"kurir/message"
	"kurir/wire"
)

func TestGroupsThatNamePeopleByLID(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	ctx := context.Background()
	lid, number := types.NewJID("777", types.HiddenUserServer), types.NewJID("6289", types.DefaultUserServer)
	require.NoError(t, e.lids.PutLIDMapping(ctx, lid, number))
	c := newComposer("120363@g.us")
	l := &link{people: people{device: c.client.Store}}
	c.client.Store.LIDs = e.lids
	l.addressing.Store(c.chat, true)
	theirs := &message.Ref{WhatsappID: "T", Sender: number.String()}
	m := wire.Send{Type: message.Reaction, Message: "x", Details: message.Details{Target: theirs, ReplyTo: &message.Ref{WhatsappID: "O", FromMe: true}}}
	require.NoError(t, c.address(ctx, l, &m))
	require.Equal(t, lid.String(), m.Target.Sender)
	require.Equal(t, number.String(), theirs.Sender, "the caller's stays as it is")
	require.True(t, m.ReplyTo.FromMe)

	l.addressing.Store(c.chat, false)
	m.Target = theirs
	require.NoError(t, c.address(ctx, l, &m))
	require.Equal(t, number.String(), m.Target.Sender)
}
