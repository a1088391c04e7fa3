//go:build !race

package whatsapp

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
)

// A device of another program on whatsmeow goes on as a session, without a scan, and with the keys that it had.
func TestADeviceOfAnotherProgramIsAdopted(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	other, ours := n.engine(t, func(c *Config) { c.Schema = "another_program" }), n.engine(t)
	ended(t, other, ours)
	ctx := context.Background()
	n.linked(t, other).close() // another one, which is none of ours
	h := n.linked(t, other)
	phone, ann := n.of(h.id), n.person(t, "+491")
	h.deliver(sendOf("before"))
	_, err := ann.Write(address(phone), "before")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(h.received()) == 1 }, patience, time.Millisecond)
	h.close()

	id := uuid.NewString()
	device := n.Devices(phone)[0].String()
	from := Import{From: n.url, Schema: "another_program", Device: device, Session: id}
	_, err = ours.Adopt(ctx, from)
	require.ErrorIs(t, err, errNoSession)
	_, err = ours.Adopt(ctx, Import{From: n.url, Schema: "another_program", Device: device})
	require.ErrorIs(t, err, errNoSession)
	waiting := open(t, ours, id, 1)
	waiting.await(wire.StatusQRRequired, "")
	from.Device = "628:1@s.whatsapp.net"
	_, err = ours.Adopt(ctx, from)
	require.ErrorContains(t, err, number(phone), "it says which there are")
	from.Device, from.Session = device, "" // one session waits
	jid, err := ours.Adopt(ctx, from)
	require.NoError(t, err)
	require.Equal(t, device, jid)
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

// Of two devices in a SQLite file each goes on as a session of its own, without a scan, also where the number has another device
// at Kurir already; none is adopted twice.
func TestDevicesInASQLiteFileAreAdopted(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	engine := n.engine(t)
	ended(t, engine)
	ctx, ann := context.Background(), n.person(t, "+491")
	known := n.linked(t, engine)
	phones := []string{n.of(known.id), "+628110001"}
	other := newProgram(t, filepath.Join(t.TempDir(), "my store.db"))
	devices := []types.JID{other.linked(n, phones[0]), other.linked(n, phones[1])}
	require.NotEqual(t, n.Devices(phones[0])[0], devices[0], "the number has two")
	other.stop()
	from := Import{From: "file:" + other.path + "?_foreign_keys=on"}

	_, err := engine.Adopt(ctx, from)
	require.ErrorContains(t, err, devices[0].String())
	require.ErrorContains(t, err, devices[1].String())
	var ids []string
	for _, device := range devices {
		waiting := open(t, engine, uuid.NewString(), 1)
		waiting.await(wire.StatusQRRequired, "")
		from.Device, from.Session = device.String(), "" // the other sessions have one
		jid, err := engine.Adopt(ctx, from)
		require.NoError(t, err)
		require.Equal(t, device.String(), jid)
		waiting.close()
		ids = append(ids, waiting.id)
	}
	from.Session = ids[0]
	_, err = engine.Adopt(ctx, from)
	require.ErrorIs(t, err, errHasDevice)
	from.Session = unlinkedSession(t, engine).session
	_, err = engine.Adopt(ctx, from)
	require.ErrorIs(t, err, errTaken)
	require.ErrorContains(t, err, ids[1])
	later := unlinkedSession(t, engine).session
	from.Session, later = "", later+", last held at 20"
	_, err = engine.Adopt(ctx, from)
	require.ErrorContains(t, err, "say which session is meant:\n"+later)

	for i, id := range ids {
		adopted := open(t, engine, id, 2)
		adopted.await(wire.StatusConnected, "")
		require.Equal(t, phones[i], adopted.State().PhoneNumber)
		_, err = ann.Write(address(phones[i]), "after")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return got(adopted, "after") }, patience, time.Millisecond)
		adopted.deliver(sendOf("after"))
		require.Empty(t, n.Fights(phones[i]))
	}
	require.Eventually(t, func() bool { return got(known, "after") }, patience, time.Millisecond)
	known.deliver(sendOf("of the first device"))
	require.Empty(t, ann.Unreadable())
	require.Len(t, n.Phone(t, "+491"), 2+2+1)
}

// got reports whether a session has received a text.
func got(h *held, text string) bool {
	return slices.ContainsFunc(h.received(), func(e worker.Event) bool { return e.Data.(wire.ReceivedData).Message == text })
}
