package wafake

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
)

// Server is the network: accounts with their devices, groups, media, and what waits for whom.
type Server struct {
	http   *http.Server
	addr   string
	static *keys.KeyPair
	ctx    context.Context // ends with the server
	stop   context.CancelFunc
	conns  sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	accounts map[string]*account // by number
	lids     map[string]*account // by the user of their LID
	absent   map[string]bool     // numbers that are not on WhatsApp
	aliases  map[string]string   // numbers that are known by another one
	groups   map[types.JID]*group
	invites  map[string]*group
	media    map[string][]byte
	pairing  map[*conn]bool // connections that show QR codes
	faults   faults
	witness  witness
	people   map[string]*making
	counter  int
}

// New starts a network on a free port of the loopback interface.
func New() (*Server, error) { return Listen("127.0.0.1:0") }

// Listen starts a network at an address.
func Listen(addr string) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	Trust()
	s := &Server{
		addr:     listener.Addr().String(),
		static:   keys.NewKeyPair(),
		accounts: map[string]*account{},
		lids:     map[string]*account{},
		absent:   map[string]bool{},
		aliases:  map[string]string{},
		groups:   map[types.JID]*group{},
		invites:  map[string]*group{},
		media:    map[string][]byte{},
		pairing:  map[*conn]bool{},
		people:   map[string]*making{},
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("/ws/chat", s.chat)
	mux.HandleFunc("POST /mms/{kind}/{token}", s.upload)
	mux.HandleFunc("GET "+mediaPath+"{token}", s.download)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(listener) }()
	return s, nil
}

// Addr is where the network listens.
func (s *Server) Addr() string { return s.addr }

// Close ends the network: its people first, then every connection.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	for _, p := range s.everybody() {
		p.Client.Disconnect()
	}
	s.stop()
	err := s.http.Close()
	s.conns.Wait()
	return err
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	from := r.Header.Get(labelHeader)
	if s.closed || (s.faults.down && !strings.HasPrefix(from, personLabel)) {
		s.mu.Unlock()
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	s.conns.Add(1)
	s.mu.Unlock()
	defer s.conns.Done()
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	ws.SetReadLimit(-1)
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	c := &conn{
		server: s,
		frames: &frames{ws: ws, ctx: ctx},
		end:    cancel,
		from:   from,
	}
	c.wake = sync.NewCond(&c.outMu)
	c.serve()
	_ = ws.CloseNow()
}

var errDropped = errors.New("the network drops the connection")
