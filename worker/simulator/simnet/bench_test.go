package simnet

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// BenchmarkSend measures sends with both receipts and their acknowledgements over 50 sessions. The client that plays
// the workers is part of the CPU time, so sends/cpu-s is a lower bound of what one core of the network bears.
func BenchmarkSend(b *testing.B) {
	for _, state := range []string{"memory", "journal"} {
		b.Run(state, func(b *testing.B) { benchmarkSend(b, state == "journal") })
	}
}

func benchmarkSend(b *testing.B, journal bool) {
	const sessions = 50
	cfg := Config{}
	if journal {
		cfg.StatePath = b.TempDir() + "/journal"
	}
	net := start(b, cfg)
	clients := make([]*client, sessions)
	for i := range clients {
		clients[i] = net.linked(b, fmt.Sprintf("session-%d", i), 1, "bench")
	}
	before := cpu(b)
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { c.pour(i, b.N/sessions+1) })
	}
	wg.Wait()
	b.StopTimer()
	total := float64(sessions * (b.N/sessions + 1))
	b.ReportMetric(total/b.Elapsed().Seconds(), "sends/s")
	b.ReportMetric(total/(cpu(b)-before).Seconds(), "sends/cpu-s")
	r := net.report(b)
	require.GreaterOrEqual(b, r.Messages, int64(total))
	require.Zero(b, r.Duplicates+r.Reordered+r.DoubleConnections)
}

// pour sends in flights of 20, as a busy lane does, and acknowledges receipts until all have come.
func (c *client) pour(session, total int) {
	results, receipts := 0, 0
	for sent := 0; results < total || receipts < 2*total; {
		var buf bytes.Buffer
		for ; sent < total && sent-results < 20; sent++ {
			id := fmt.Sprintf("%d-%d", session, sent)
			_ = AppendFrame(&buf, &Frame{Op: OpSend, N: int64(sent), Send: &wire.Send{
				MessageID: "0192f0c1-aaaa-7bbb-8ccc-" + id, WhatsappID: "3EB0" + id, To: person(sent % 1000),
				Type: "text", Message: "a message of ordinary length, as people write them", Seq: int64(sent + 1),
			}})
		}
		if buf.Len() > 0 {
			_ = c.ws.Write(context.Background(), websocket.MessageText, buf.Bytes())
		}
		_, data, err := c.ws.Read(context.Background())
		if err != nil {
			c.t.Error(err)
			return
		}
		ack := Frame{Op: OpAck}
		_ = EachFrame(data, func(f *Frame) error {
			switch f.Op {
			case OpResult:
				results++
			case OpEvent:
				receipts++
				ack.Ack = append(ack.Ack, f.Event.N)
			}
			return nil
		})
		if len(ack.Ack) > 0 {
			buf.Reset()
			_ = AppendFrame(&buf, &ack)
			_ = c.ws.Write(context.Background(), websocket.MessageText, buf.Bytes())
		}
	}
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
