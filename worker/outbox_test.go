package worker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// acks collects the acknowledgements to the network.
type acks struct {
	mu  sync.Mutex
	ids []string
}

func (a *acks) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
}

func (a *acks) get() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.ids)
}

func ids(from, to int) (all []string) {
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("M%05d", i))
	}
	return all
}

// received names the messages among events, in order.
func received(t *testing.T, events []wire.Event) (all []string) {
	for _, e := range events {
		if e.Type != wire.EventMessageReceived {
			continue
		}
		var d wire.ReceivedData
		require.NoError(t, json.Unmarshal(e.Data, &d))
		require.Equal(t, wire.EventID(e.SessionID, "message", d.WhatsappID, ""), e.EventID)
		all = append(all, d.WhatsappID)
	}
	return all
}

func TestEventsGoAtOnceAndAreAcknowledgedAfterwards(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 4)
		var a acks
		b.g.with(func() {
			b.g.onEvents = func(wire.EventBatch) error {
				require.Empty(b, a.get(), "acknowledged before it is stored")
				return nil
			}
		})
		c.receive("M00000", a.add)
		synctest.Wait() // no time passes
		require.Equal(b, []string{"M00000"}, a.get())
		e := b.g.stored[0]
		require.Equal(b, []any{"s1", int64(4), int64(1), wire.EventMessageReceived}, []any{e.SessionID, e.Epoch, e.Seq, e.Type})
		require.Equal(b, time.Now().UTC(), e.Timestamp.UTC())

		b.g.with(func() { b.g.onEvents = nil })
		for range 2 { // session events have no identity on the network: each is its own
			c.sink(Event{Type: wire.EventSessionStatus, Data: wire.StatusData{Status: wire.StatusConnected}})
		}
		synctest.Wait()
		require.Len(b, b.g.stored, 3)
		require.NotEqual(b, b.g.stored[1].EventID, b.g.stored[2].EventID)
		require.JSONEq(b, `{"status":"connected"}`, string(b.g.stored[1].Data))
		require.Equal(b, int64(3), b.n.Stats().EventsDelivered)
	})
}

// Receipts wait for others, a while; what others wait for takes along those that are there, and so does a full batch.
func TestReceiptsComeTogether(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		receipt := func() {
			c.sink(Event{Type: wire.EventMessageReceipt, Message: "3EB0", Data: wire.ReceiptData{Status: "delivered"}})
		}
		stored := func() (batches, events int) {
			synctest.Wait()
			b.g.with(func() { batches, events = b.g.batches, len(b.g.stored) })
			return batches, events
		}
		requireStored := func(batches, events int) {
			b.Helper()
			gotBatches, gotEvents := stored()
			require.Equal(b, []int{batches, events}, []int{gotBatches, gotEvents})
		}
		before, _ := stored()
		receipt()
		b.pass(receiptsWait / 2)
		receipt()
		requireStored(before, 0)
		b.pass(receiptsWait / 2)
		requireStored(before+1, 2)

		receipt()
		requireStored(before+1, 2)
		c.receive("M00000", nil)
		requireStored(before+2, 4)

		for range batchEvents {
			receipt()
		}
		requireStored(before+3, 4+batchEvents)

		receipt()
		requireStored(before+3, 4+batchEvents)
		b.n.outbox.flush(b.Context())
		requireStored(before+4, 5+batchEvents)
	})
}

func TestEventsKeepTheirOrderThroughFailures(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		var a acks
		failures := 0
		b.g.with(func() {
			b.g.onEvents = func(e wire.EventBatch) error {
				require.LessOrEqual(b, len(e.Events), batchEvents)
				switch failures++; failures % 4 {
				case 1:
					return errBroken
				case 2:
					return &wire.Error{Status: 503, Code: "database_down"}
				}
				return nil
			}
			b.g.lose = func(wire.EventBatch) bool { return failures%4 == 3 } // stored, but the answer is lost
		})
		all := ids(0, 1700)
		for _, id := range all {
			c.receive(id, a.add)
		}
		b.pass(2 * time.Minute)
		require.Equal(b, all, received(b.T, b.g.stored))
		require.Equal(b, all, a.get())
		require.Equal(b, int64(1), b.term())
		require.Zero(b, b.n.Stats().EventsQueued)
		require.Less(b, b.g.batches, 40)
	})
}

func TestAPartlyStoredBatchGoesOn(t *testing.T) {
	o := newOutbox(10)
	tm := &term{lease: newLease(t.Context(), time.Now, time.Now(), time.Hour)}
	o.begin(tm)
	for i := range 5 {
		require.True(t, o.add(entry{event: wire.Event{EventID: fmt.Sprint(i)}}, nil))
	}
	_, events := o.batch(4)
	require.Len(t, events, 4)
	stored, err := o.settle(tm, 3)
	require.NoError(t, err)
	require.Len(t, stored, 2)
	_, events = o.batch(4)
	require.Equal(t, []string{"2/3", "3/4", "4/5"}, seqs(events))

	_, err = o.settle(tm, 2)
	require.ErrorIs(t, err, errOutOfStep, "it wants back what it has acknowledged")
	_, err = o.settle(tm, 7)
	require.ErrorIs(t, err, errOutOfStep, "it knows of more than there was")
	stored, err = o.settle(tm, 3)
	require.NoError(t, err)
	require.Empty(t, stored)
	_, err = o.settle(tm, 6)
	require.NoError(t, err)
	require.Zero(t, o.len())
}

func seqs(events []wire.Event) (all []string) {
	for _, e := range events {
		all = append(all, fmt.Sprintf("%s/%d", e.EventID, e.Seq))
	}
	return all
}

func TestBatchesAreBoundedInBytes(t *testing.T) {
	o := newOutbox(10)
	o.begin(&term{lease: newLease(t.Context(), time.Now, time.Now(), time.Hour)})
	for _, size := range []int{batchBytes * 2, 600 << 10, 400 << 10, 100 << 10} {
		o.add(entry{event: wire.Event{Data: json.RawMessage(strings.Repeat(" ", size))}}, nil)
	}
	var got []int
	for o.len() > 0 {
		tm, events := o.batch(batchEvents)
		got = append(got, len(events))
		_, err := o.settle(tm, o.first+int64(len(events)))
		require.NoError(t, err)
	}
	require.Equal(t, []int{1, 2, 1}, got)
}

// A gateway that counts differently cannot be satisfied within the term: a new one starts the count anew, and what
// was not acknowledged comes along.
func TestOutOfStepBeginsANewTerm(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		var a acks
		c.receive("M00000", a.add)
		synctest.Wait()
		b.g.with(func() { b.g.next = 50 })
		c.receive("M00001", a.add)
		b.pass(2 * time.Second)
		require.Equal(b, int64(2), b.term())
		require.True(b, c.closed())
		require.Equal(b, ids(0, 2), a.get())
		require.Equal(b, ids(0, 2), received(b.T, b.g.stored))
		require.Equal(b, int64(1), b.g.stored[1].Seq)
	})
}

func TestANewTermTakesMessagesAlongAndNotTheRest(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		var a acks
		c.receive("M00000", a.add)
		synctest.Wait()
		b.g.with(func() {
			b.g.onEvents = func(wire.EventBatch) error { return errBroken }
			b.g.onBeat = func(wire.Heartbeat) error { return errBroken }
		})
		c.receive("M00001", a.add)
		c.sink(Event{Type: wire.EventSessionStatus, Data: wire.StatusData{Status: wire.StatusReconnecting}})
		c.receive("M00002", a.add)
		b.pass(11 * time.Second)
		require.Equal(b, ids(0, 1), a.get())
		b.g.with(func() {
			b.g.until = time.Time{}
			b.g.onRegister = func(wire.Register) error { b.g.onEvents, b.g.onBeat = nil, nil; return nil }
		})
		b.pass(10 * time.Second)
		require.True(b, c.closed())
		c.receive("M00003", a.add) // what the network had handed to the old connection
		c.sink(Event{Type: wire.EventSessionStatus, Data: wire.StatusData{Status: wire.StatusConnected}})
		synctest.Wait()
		require.Equal(b, ids(0, 4), received(b.T, b.g.stored))
		require.Len(b, b.g.stored, 4, "session events of the lost term are void")
		require.Equal(b, ids(0, 4), a.get())
		for i, e := range b.g.stored[1:] {
			require.Equal(b, int64(i+1), e.Seq)
			require.Equal(b, int64(1), e.Epoch)
		}
	})
}

func TestAFullOutboxHoldsTheEngineBack(t *testing.T) {
	onBench(t, func(_ *gateway, _ *engine, c *Config) { c.MaxEvents = 5 }, func(b *bench) {
		c := b.hold("s1", 1)
		var a acks
		b.g.with(func() { b.g.onEvents = func(wire.EventBatch) error { return errBroken } })
		passed := make(chan struct{})
		go func() {
			defer close(passed)
			for _, id := range ids(0, 20) {
				c.receive(id, a.add)
			}
		}()
		b.pass(time.Second)
		require.Equal(b, 5, b.n.Stats().EventsQueued)
		b.g.with(func() { b.g.onEvents = nil })
		b.pass(5 * time.Second)
		<-passed
		require.Equal(b, ids(0, 20), a.get())

		// Disconnecting frees an engine that waits; the network delivers that message again elsewhere.
		b.g.with(func() { b.g.onEvents = func(wire.EventBatch) error { return errBroken } })
		blocked := make(chan struct{})
		go func() {
			defer close(blocked)
			for _, id := range ids(20, 26) {
				c.receive(id, a.add)
			}
		}()
		b.pass(time.Second)
		require.NoError(b, b.n.Release(b.Context(), "s1", 1))
		<-blocked
		b.g.with(func() { b.g.onEvents = nil })
		b.pass(10 * time.Second)
		require.Equal(b, ids(0, 25), a.get())
		require.Equal(b, int64(2), b.n.Stats().EventsDropped, "the message and the closing status")
	})
}

// One event that the gateway will not take must not hold up the rest.
func TestAnIndigestibleEventIsLeftOut(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		c := b.hold("s1", 1)
		var a acks
		b.g.with(func() {
			b.g.onEvents = func(e wire.EventBatch) error {
				for _, ev := range e.Events {
					if strings.Contains(string(ev.Data), "M00003") {
						return &wire.Error{Status: 422, Code: "invalid_request"}
					}
				}
				return nil
			}
		})
		for _, id := range ids(0, 8) {
			c.receive(id, a.add)
		}
		c.sink(Event{Type: wire.EventMessageReceipt, Data: func() {}}) // nor one that cannot be encoded
		b.pass(time.Minute)
		want := append(ids(0, 3), ids(4, 8)...)
		require.Equal(b, want, received(b.T, b.g.stored))
		require.Equal(b, want, a.get())
		require.Equal(b, int64(2), b.n.Stats().EventsDropped)
		require.Equal(b, int64(1), b.term())
	})
}
