package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// What a proxy, a wrong address or a broken gateway may answer to any of the three calls.
var garbage = map[string]struct {
	status int
	body   string
}{
	"a web page":              {200, "<!doctype html><title>Welcome</title>"},
	"nothing":                 {200, ""},
	"another envelope":        {200, `{"status":"ok"}`},
	"no data":                 {200, `{"success":true}`},
	"empty data":              {200, `{"success":true,"data":{}}`},
	"data of another kind":    {200, `{"success":true,"data":["term",7]}`},
	"fields of another kind":  {200, `{"success":true,"data":{"term":"7","leaseMs":"long","next":"soon"}}`},
	"a lease without end":     {200, `{"success":true,"data":{"leaseMs":-1,"next":-1}}`},
	"cut short":               {200, `{"success":true,"data":{"leaseMs":12000,"ne`},
	"a page that is missing":  {404, "404 page not found"},
	"a forbidden page":        {403, "<html>go away</html>"},
	"a redirect":              {302, ""},
	"an error without a code": {409, `{"success":false,"error":"no"}`},
	"a failure":               {500, `{"success":false,"error":"the server failed","code":"internal"}`},
	"a bad gateway":           {502, "<html>Bad Gateway</html>"},
	"too many requests":       {429, `{"success":false,"error":"slow down","code":"rate_limited"}`},
	"no answer":               {hang, ""},
}

func (b *bench) garble(call string, status int, body string) {
	b.g.with(func() {
		b.g.garble = func(path string) (int, string) {
			if strings.HasSuffix(path, call) {
				return status, body
			}
			return 0, ""
		}
	})
}

func eachGarbage(t *testing.T, test func(t *testing.T, status int, body string)) {
	for name, c := range garbage {
		t.Run(name, func(t *testing.T) { test(t, c.status, c.body) })
	}
}

func TestRegisteringSurvivesGarbage(t *testing.T) {
	eachGarbage(t, func(t *testing.T, status int, body string) {
		onBench(t, func(g *gateway, _ *engine, _ *Config) {
			g.garble = func(string) (int, string) { return status, body }
		}, func(b *bench) {
			b.pass(time.Minute)
			require.Zero(b, b.term())
			require.Empty(b, b.g.beaten())
			require.Contains(b, b.log.String(), "cannot register, trying again")
			b.garble("nothing", 0, "")
			b.pass(20 * time.Second)
			require.Equal(b, int64(1), b.term())
		})
	})
}

// Garbage neither ends a lease, as a refusal of the gateway does, nor makes it longer.
func TestHeartbeatsSurviveGarbage(t *testing.T) {
	eachGarbage(t, func(t *testing.T, status int, body string) {
		onBench(t, nil, func(b *bench) {
			c := b.hold("s1", 1)
			b.pass(time.Second) // the lease is of 0 s
			b.garble("/heartbeat", status, body)
			b.pass(10500 * time.Millisecond)
			require.True(b, c.s.Lease())
			_, err := b.n.Send(b.Context(), "s1", message("A", 1, 1))
			require.NoError(b, err)
			b.pass(500 * time.Millisecond)
			require.False(b, c.s.Lease())
			require.True(b, c.closed())
			require.Positive(b, b.n.Stats().HeartbeatsFailed)

			b.garble("nothing", 0, "")
			b.pass(20 * time.Second)
			b.hold("s1", 1)
			b.pass(time.Minute)
			require.Equal(b, []string{"s1"}, b.e.connected())
		})
	})
}

func TestEventsSurviveGarbage(t *testing.T) {
	eachGarbage(t, func(t *testing.T, status int, body string) {
		onBench(t, nil, func(b *bench) {
			c := b.hold("s1", 1)
			var a acks
			b.garble("/events", status, body)
			for _, id := range ids(0, 3) {
				c.receive(id, a.add)
			}
			b.pass(time.Minute)
			require.Empty(b, a.get(), "nobody has stored them")
			require.Equal(b, int64(1), b.term())
			require.True(b, c.s.Lease())
			require.Zero(b, b.n.Stats().EventsDropped)
			b.garble("nothing", 0, "")
			b.pass(20 * time.Second)
			require.Equal(b, ids(0, 3), a.get())
			require.Equal(b, ids(0, 3), received(b.T, b.g.taken()))
		})
	})
}

// A gateway that answers, but late, costs nothing but time.
func TestASlowGateway(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		slow := func() {
			b.g.mu.Unlock()
			time.Sleep(2900 * time.Millisecond) // just within patience
			b.g.mu.Lock()
		}
		b.g.with(func() {
			b.g.onBeat = func(wire.Heartbeat) error { slow(); return nil }
			b.g.onEvents = func(wire.EventBatch) error { slow(); return nil }
		})
		c := b.hold("s1", 1)
		var a acks
		for _, id := range ids(0, 50) {
			c.receive(id, a.add)
			b.pass(200 * time.Millisecond)
		}
		b.pass(10 * time.Second)
		require.Equal(b, int64(1), b.term())
		require.True(b, c.s.Lease())
		require.Equal(b, ids(0, 50), a.get())
		require.Equal(b, ids(0, 50), received(b.T, b.g.taken()))
	})
}
