package jobs

import (
	"context"
	"errors"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"

	"kurir/wire"
)

// network stands for one session's worker and for the phones behind it. Like the real worker it remembers the highest
// generation and the outcomes that it knows; like phones it shows a WhatsApp ID once per sending number.
type network struct {
	wire.Handler // the rest of the protocol is not called here
	url          string

	mu         sync.Mutex
	connected  bool
	epoch      int64
	generation int64
	known      map[string]wire.SendResult
	number     int             // which number is linked
	phones     map[string]bool // number and WhatsApp ID that a phone shows
	last       *wire.Send      // that arrived
	shows      []wire.Send     // in the order in which they appeared
	dead       map[string]bool // messages that the network refused for good
	verdicts   []verdict       // of the next sends; none: luck decides
	luck       func() verdict  // nil: all is well
}

// verdict is how a send goes.
type verdict int

const (
	allWell       verdict = iota
	unknownShown          // the phone shows it, the worker cannot tell
	unknownUnseen         // it got lost, the worker cannot tell
	brokenShown           // the phone shows it, the worker fails
	brokenUnseen
	offline // the worker has no connection just now
	limited // the network asks for a pause
	banned
	noMedium // the worker cannot have the message's medium now
	verdicts
)

const refusedText = "to a number that is not on WhatsApp"

func newNetwork(t testing.TB) *network {
	n := &network{}
	n.restart(1)
	n.phones, n.dead = map[string]bool{}, map[string]bool{}
	server := httptest.NewServer(wire.Server(n, wire.ServerOptions{Logger: quiet}))
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

// restart is another worker, which knows nothing, holding the session at an epoch.
func (n *network) restart(epoch int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.epoch, n.generation, n.connected, n.known = epoch, 0, true, map[string]wire.SendResult{}
}

func (n *network) client() *WorkerClient {
	never := gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{ReadyToTrip: func(gobreaker.Counts) bool { return false }})
	return &WorkerClient{gate: &gate{slots: make(chan struct{}, workerSlots), breaker: never},
		Client: wire.NewClient(wire.NewHTTPClient(), wire.Target{WorkerID: "w1", Endpoint: n.url, Secret: "s", Term: 1})}
}

func (n *network) Credentials() (int64, string) { return 1, "s" }

func (n *network) Send(_ context.Context, _ string, m wire.Send) (wire.SendResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = &m
	switch {
	case m.Epoch != n.epoch:
		return wire.SendResult{}, wire.Refuse(wire.CodeStaleEpoch, "")
	case m.Generation < n.generation:
		return wire.SendResult{}, wire.Refuse(wire.CodeStaleGeneration, "")
	}
	n.generation = m.Generation
	if r, ok := n.known[m.WhatsappID]; ok {
		return r, nil
	}
	how := allWell
	if len(n.verdicts) > 0 {
		how, n.verdicts = n.verdicts[0], n.verdicts[1:]
	} else if n.luck != nil {
		how = n.luck()
	}
	if how == offline || !n.connected {
		return wire.SendResult{}, wire.Refuse(wire.CodeNotConnected, "")
	}
	if how == noMedium {
		return wire.SendResult{}, wire.Refuse(wire.CodeMediaUnavailable, "")
	}
	if how == limited || how == banned {
		return wire.SendResult{Outcome: wire.OutcomeThrottled, Code: map[verdict]string{limited: wire.CodeRateLimited, banned: wire.CodeTemporaryBan}[how],
			RetryAfterMs: 8000, Timestamp: time.Now()}, nil
	}
	if how == brokenUnseen {
		return wire.SendResult{}, errors.New("the engine broke")
	}
	if how == unknownUnseen {
		return wire.SendResult{Outcome: wire.OutcomeUnknown, Timestamp: time.Now()}, nil
	}
	r := wire.SendResult{Outcome: wire.OutcomeSent, Timestamp: time.Now()}
	if m.Message == refusedText {
		n.dead[m.MessageID] = true
		r = wire.SendResult{Outcome: wire.OutcomeFailed, Code: "not_on_whatsapp", Error: "The number is not on WhatsApp.", Timestamp: time.Now()}
	} else if key := string(rune('0'+n.number)) + m.WhatsappID; !n.phones[key] {
		n.phones[key] = true
		n.shows = append(n.shows, m)
	}
	switch how {
	case unknownShown:
		return wire.SendResult{Outcome: wire.OutcomeUnknown, Timestamp: time.Now()}, nil
	case brokenShown:
		return wire.SendResult{}, errors.New("the engine broke")
	}
	n.known[m.WhatsappID] = r
	return r, nil
}
