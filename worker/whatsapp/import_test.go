//go:build !race

package whatsapp

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// A device of another program on whatsmeow goes on as a session, without a scan, and with the keys that it had.
func TestADeviceOfAnotherProgramIsAdopted(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	other, ours := n.engine(t, func(c *Config) { c.Schema = "another_program" }), n.engine(t)
	ended(t, other, ours)
	ctx := context.Background()
	h := n.linked(t, other)
	phone, ann := n.of(h.id), n.person(t, "+491")
	h.deliver(sendOf("before"))
	_, err := ann.Write(address(phone), "before")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(h.received()) == 1 }, patience, time.Millisecond)
	h.close()

	id := uuid.NewString()
	from := Import{From: n.url, Schema: "another_program", Session: id}
	_, err = ours.Adopt(ctx, from)
	require.ErrorIs(t, err, errNoSession)
	_, err = ours.Adopt(ctx, Import{From: n.url, Schema: "another_program"})
	require.ErrorIs(t, err, errNoSession)
	waiting := open(t, ours, id, 1)
	waiting.await(wire.StatusQRRequired, "")
	from.Device = "628:1@s.whatsapp.net"
	_, err = ours.Adopt(ctx, from)
	require.ErrorContains(t, err, number(phone), "it says which there are")
	from.Device, from.Session = "", "" // there is one of each
	jid, err := ours.Adopt(ctx, from)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(jid, number(phone)+":"), jid)
	from.Session = id
	_, err = ours.Adopt(ctx, from)
	require.ErrorIs(t, err, errHasDevice)
	waiting.close()

	adopted := open(t, ours, id, 2)
	adopted.await(wire.StatusConnected, "")
	require.Equal(t, phone, adopted.State().PhoneNumber)
	_, err = ann.Write(address(phone), "after")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(adopted.received()) == 1 }, patience, time.Millisecond)
	require.Equal(t, "after", adopted.received()[0].Data.(wire.ReceivedData).Message)
	adopted.deliver(sendOf("after"))
	require.Len(t, n.Phone(t, "+491"), 2)
	require.Empty(t, ann.Unreadable())

	_, err = other.pool.Exec(ctx, "UPDATE whatsmeow_version SET version = version - 1")
	require.NoError(t, err)
	next := open(t, ours, uuid.NewString(), 1)
	next.await(wire.StatusQRRequired, "")
	_, err = ours.Adopt(ctx, Import{From: n.url, Schema: "another_program", Session: next.id})
	require.ErrorIs(t, err, errOtherVersion)
	_, err = ours.Adopt(ctx, Import{From: "postgres://u:secret@%", Session: id})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "secret")
}
