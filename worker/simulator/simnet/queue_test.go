package simnet

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The queue against a model that remembers everything: what goes out on a connection is exactly what was not
// acknowledged, in order, and never more than the window.
func TestEventQueueLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q eventQueue
		var pushed int
		acked := map[int64]bool{}  // by N
		flying := map[int64]bool{} // sent on this connection, not acknowledged
		last := int64(0)           // the highest N sent on this connection
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for range rapid.IntRange(1, 1500).Draw(t, "count") {
					pushed++
					q.push(Event{WhatsappID: strconv.Itoa(pushed)})
				}
			},
			"take": func(t *rapid.T) {
				for range rapid.IntRange(1, 5000).Draw(t, "count") {
					e := q.take()
					if e == nil {
						break
					}
					if e.N <= last || acked[e.N] || flying[e.N] {
						t.Fatalf("event %d came after %d, acked %v, flying %v", e.N, last, acked[e.N], flying[e.N])
					}
					if e.WhatsappID != strconv.FormatInt(e.N, 10) {
						t.Fatalf("event %d is %q", e.N, e.WhatsappID)
					}
					last = e.N
					flying[e.N] = true
				}
				if len(flying) > window {
					t.Fatalf("%d events are under way", len(flying))
				}
			},
			"ack": func(t *rapid.T) {
				from := rapid.Int64Range(-1, int64(pushed)+1).Draw(t, "from")
				to := from + rapid.Int64Range(1, 3000).Draw(t, "count")
				for n := from; n < to; n++ {
					if flying[n] {
						acked[n] = true
						delete(flying, n)
						q.ack(n)
						q.ack(n)
					}
				}
				q.ack(int64(pushed) + 1)
				q.ack(-1)
			},
			"reconnect": func(*rapid.T) {
				q.rewind()
				clear(flying)
				last = 0
			},
			"": func(t *rapid.T) {
				left := 0
				q.unacked(func(e Event) {
					if left++; acked[e.N] {
						t.Fatalf("event %d is left and acked", e.N)
					}
				})
				if left != pushed-len(acked) {
					t.Fatalf("%d events are left of %d pushed and %d acked", left, pushed, len(acked))
				}
			},
		})
	})
}

func TestForgetKeepsTheNumbering(t *testing.T) {
	var q eventQueue
	q.push(Event{})
	q.push(Event{})
	q.take()
	q.forget()
	require.Nil(t, q.take())
	q.push(Event{})
	require.EqualValues(t, 3, q.take().N)
	q.ack(3)
	require.Nil(t, q.take())
}

func TestNormalNumber(t *testing.T) {
	for in, want := range map[string]string{
		"+6281":                  "6281",
		"6281":                   "6281",
		"6281@s.whatsapp.net":    "6281",
		"6281:12@s.whatsapp.net": "6281",
		"123-456@g.us":           "123-456@g.us",
		"":                       "", "+": "", "62 81": "", "abc": "", "@g.us": "", "@s.whatsapp.net": "", "6281@": "",
	} {
		got, err := normalNumber(in)
		require.Equal(t, want, got, in)
		require.Equal(t, want == "", err != nil, in)
	}
}
