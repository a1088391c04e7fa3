// Package simnet is a simulated messaging network: it stands for WhatsApp and for the phones on it. It runs outside
// of the workers, so that it can bear witness when one of them is killed: it shows sends on phones, deduplicates them
// as phones do, and counts what reached a person twice, out of order, or through two workers at once.
//
// It is not WhatsApp, speaks nothing of its protocol and never reaches a real phone. It knows nothing of the gateway:
// workers come to it through package simulator.
package simnet

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Config of a network. Its zero value scans at once, echoes nothing and forgets everything at the end.
type Config struct {
	ScanDelay    time.Duration // from the first QR code to its scan; negative: only POST /sessions/{id}/scan scans
	SendLatency  time.Duration // from the arrival of a send to its showing on the phone
	ReceiptDelay time.Duration // from the showing to the delivered receipt
	ReadDelay    time.Duration // from the delivered receipt to the read one
	QRInterval   time.Duration // how long a QR code is good for; 0 means 20 s, as on WhatsApp
	PingInterval time.Duration // of each connection; 0 means 3 s
	Reply        string        // ReplyEcho or ReplyNone; "" is none
	StatePath    string        // the journal, see journal.go, and beside it the media; "": it forgets everything at its end
	Logger       *slog.Logger
}

// What the person at a phone does with a text.
const (
	ReplyEcho = "echo" // answers "echo: <text>"
	ReplyNone = "none"
)

const (
	defaultQRInterval = 20 * time.Second
	// A thousand connections cost a fifth of a core when each is pinged every second.
	defaultPingInterval  = 3 * time.Second
	replacedPingInterval = time.Second
	// writeTimeout ends a connection whose worker reads nothing.
	writeTimeout = 10 * time.Second
	// replacedGrace is how long a replaced connection is kept to see whether its holder still answers. A worker
	// that was frozen and thaws within it is still caught; the lease is 12 s.
	replacedGrace = time.Minute
)

// Network is one simulated network. Its methods are safe for concurrent use.
type Network struct {
	log        *slog.Logger
	qrInterval time.Duration
	pingEach   time.Duration
	change     sync.Mutex // of settings, between POSTs
	settings   atomic.Pointer[settings]
	faults     faults

	ledger  *ledger
	phones  phonebook
	people  people
	media   mediaStore
	journal *journal
	groups  groupbook
	social  social

	mu       sync.RWMutex // of sessions
	sessions map[string]*session

	messages, duplicates, reordered, deduplicated, doubles atomic.Int64

	ctx    context.Context // ends at Close
	cancel context.CancelFunc
	life   sync.Mutex // orders wg.Add before Close
	wg     sync.WaitGroup
}

// New makes a network and reads what its journal holds.
func New(cfg Config) (*Network, error) {
	set := settings{
		ScanDelay: duration(cfg.ScanDelay), SendLatency: duration(cfg.SendLatency),
		ReceiptDelay: duration(cfg.ReceiptDelay), ReadDelay: duration(cfg.ReadDelay),
		Reply: cfg.Reply, FailCode: defaultFailCode,
	}
	if set.Reply == "" {
		set.Reply = ReplyNone
	}
	if err := set.check(); err != nil {
		return nil, err
	}
	n := &Network{
		log: cfg.Logger, qrInterval: cfg.QRInterval, pingEach: cfg.PingInterval,
		ledger: newLedger(), sessions: map[string]*session{}, media: mediaStore{dir: cfg.StatePath},
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	if n.qrInterval <= 0 {
		n.qrInterval = defaultQRInterval
	}
	if n.pingEach <= 0 {
		n.pingEach = defaultPingInterval
	}
	n.settings.Store(&set)
	n.phones.init()
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if cfg.StatePath != "" {
		j, err := openJournal(cfg.StatePath, n.restore)
		if err != nil {
			n.cancel()
			return nil, err
		}
		n.journal = j
	}
	return n, nil
}

// Close ends every connection and writes the journal out. It is safe to call twice.
func (n *Network) Close() error {
	n.life.Lock()
	closed := n.ctx.Err() != nil
	n.cancel()
	n.life.Unlock()
	n.wg.Wait()
	if closed {
		return nil
	}
	err := n.media.close()
	if n.journal != nil {
		n.writePending()
		err = errors.Join(err, n.journal.close())
	}
	return err
}

// enter admits one more goroutine that Close waits for, unless the network is closed.
func (n *Network) enter() bool {
	n.life.Lock()
	defer n.life.Unlock()
	if n.ctx.Err() != nil {
		return false
	}
	n.wg.Add(1)
	return true
}

// session finds the session of this uid, and makes it where create says so; otherwise nil.
func (n *Network) session(id string, create bool) *session {
	n.mu.RLock()
	s := n.sessions[id]
	n.mu.RUnlock()
	if s != nil || !create {
		return s
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s = n.sessions[id]; s == nil {
		s = &session{id: id}
		n.sessions[id] = s
	}
	return s
}

// Handler serves workers, phones and the control endpoints. GET / describes them.
func (n *Network) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", help)
	mux.HandleFunc("GET /health", health)
	mux.HandleFunc("GET /connect", n.connect)
	mux.HandleFunc("GET /report", n.getReport)
	mux.HandleFunc("GET /phones/{number}/messages", n.getPhone)
	mux.HandleFunc("GET /phones/{number}", n.getPhoneState)
	mux.HandleFunc("GET /phones/{number}/picture", n.getPicture)
	mux.HandleFunc("POST /phones/{number}/pair", n.postPair)
	mux.HandleFunc("GET /config", n.getConfig)
	mux.HandleFunc("POST /config", n.postConfig)
	mux.HandleFunc("POST /media", n.postMedia)
	mux.HandleFunc("GET /media/{sha256}", n.getMedia)
	mux.HandleFunc("POST /inject/message", injecting(n.receive))
	mux.HandleFunc("POST /inject/receipt", injecting(n.receipt))
	mux.HandleFunc("POST /inject/presence", injecting(n.presence))
	mux.HandleFunc("POST /inject/call", injecting(n.call))
	mux.HandleFunc("POST /inject/group", injecting(n.changeGroup))
	mux.HandleFunc("POST /inject/contact", injecting(n.introduce))
	mux.HandleFunc("POST /sessions/{id}/throttle", n.throttle)
	mux.HandleFunc("POST /sessions/{id}/scan", n.onSession(n.scan))
	mux.HandleFunc("POST /sessions/{id}/drop", n.onSession(n.drop))
	mux.HandleFunc("POST /sessions/{id}/unlink", n.onSession(n.unlink))
	mux.HandleFunc("POST /sessions/{id}/ban", n.onSession(n.ban))
	return mux
}
