package simnet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestARestartedNetworkRemembers(t *testing.T) {
	cfg := Config{StatePath: filepath.Join(t.TempDir(), "journal"), ScanDelay: 0}
	m := wire.Send{MessageID: "m1", WhatsappID: "A", To: person(1), Message: "hello", Seq: 7}
	b := start(t, cfg)
	c := b.linked(t, "s", 1, "w")
	b.linked(t, "gone", 1, "w")
	b.must(t, "/sessions/gone/unlink", nil)
	first := c.send(m)
	before := c.events(2)
	c.write(&Frame{Op: OpAck, Ack: []int64{before[0].N}})
	require.Eventually(t, func() bool { return b.report(t).PerSession["s"].Unacknowledged == 1 }, patience, 5*time.Millisecond)
	screen, number := b.screen(t, person(1)), b.report(t).PerSession["s"].PhoneNumber
	require.NoError(t, b.net.Close())

	cfg.ScanDelay = -1
	b = start(t, cfg)
	c = b.login(t, "s", 2, "w")
	ready := c.next()
	require.Equal(t, OpReady, ready.Op, "linked still")
	require.Equal(t, number, ready.PhoneNumber)
	require.Equal(t, before[1].Kind, c.events(1)[0].Kind, "what was not acknowledged comes again")
	require.Equal(t, screen, b.screen(t, person(1)))
	require.Equal(t, first, c.send(m), "deduplicated still")
	c.sent(wire.Send{MessageID: "m2", WhatsappID: "B", To: person(1), Seq: 6})
	r := b.report(t)
	require.EqualValues(t, 2, r.Messages)
	require.EqualValues(t, 1, r.Reordered)
	require.False(t, r.PerSession["gone"].Linked)
	b.login(t, "gone", 1, "w").await(OpQR)
}

func TestATornLastLineIsCutOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	whole := `{"op":"link","session":"s","number":"6281000000001"}` + "\n"
	require.NoError(t, os.WriteFile(path, []byte(whole+`{"op":"shown","num`), 0o600))
	b := start(t, Config{StatePath: path, ScanDelay: -1})
	b.linked(t, "s", 1, "w").sent(wire.Send{MessageID: "m", WhatsappID: "A", To: person(1)})
	require.NoError(t, b.net.Close())

	b = start(t, Config{StatePath: path, ScanDelay: -1})
	require.Len(t, b.screen(t, person(1)), 1)
	require.NoError(t, b.net.Close())

	require.NoError(t, os.WriteFile(path, []byte("nonsense\n"+whole), 0o600))
	_, err := New(Config{StatePath: path})
	require.ErrorContains(t, err, "line 1")
}

func TestTheJournalIsWrittenWithoutAClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	b := start(t, Config{StatePath: path})
	b.linked(t, "s", 1, "w")
	require.Eventually(t, func() bool {
		data, err := os.ReadFile(path)
		return err == nil && len(data) > 0
	}, patience, 5*time.Millisecond)
}
