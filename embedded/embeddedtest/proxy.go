package embeddedtest

import (
	"net"
	"sync"
	"testing"
)

// Fault is what is wrong with the network on the way through a Proxy.
type Fault int

// Faults. In all of them but Refused, connections stay open, as they do when a cable is cut, and a side that
// closes its end tells the other nothing.
const (
	None       Fault = iota
	Hole             // nothing arrives
	Refused          // connections are reset, new ones refused
	NoRequests       // what clients say is lost
	NoAnswers        // what the server says is lost
)

// fromClient and fromServer say whether what that side says arrives.
func (f Fault) fromClient() bool { return f == None || f == NoAnswers }
func (f Fault) fromServer() bool { return f == None || f == NoRequests }

// mostSwallowed bounds what a Proxy remembers of what was lost.
const mostSwallowed = 1 << 20

// Proxy passes TCP connections on from its own port to that of a server, until the test breaks the way between them.
type Proxy struct {
	t    testing.TB
	addr string

	mu        sync.Mutex
	target    string
	fault     Fault
	listener  net.Listener // nil while connections are refused
	links     map[*link]struct{}
	swallowed []byte
	closed    bool
	running   sync.WaitGroup
}

// link is one connection: client is the end that was accepted, server the one that was dialled, nil if none was.
type link struct{ client, server net.Conn }

// NewProxy starts a Proxy to host:port, without a fault. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p := &Proxy{t: t, addr: loopback(Port(t)), target: target, links: map[*link]struct{}{}}
	p.Set(None)
	t.Cleanup(p.close)
	return p
}

// Addr is where clients connect, host:port.
func (p *Proxy) Addr() string { return p.addr }

// Retarget leads new connections to another server.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Set breaks the way, or mends it with None. What was lost stays lost: connections that have lived through a fault are reset when
// it ends, and open ones are when it is Refused.
func (p *Proxy) Set(f Fault) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.fault != None || f == Refused {
		for l := range p.links {
			l.reset()
		}
	}
	p.fault, p.swallowed = f, nil
	switch {
	case f == Refused && p.listener != nil:
		_ = p.listener.Close()
		p.listener = nil
	case f != Refused && p.listener == nil:
		listener, err := net.Listen("tcp", p.addr)
		if err != nil {
			p.t.Errorf("proxy to %s: %v", p.target, err)
			return
		}
		p.listener = listener
		p.running.Go(func() { p.accept(listener) })
	}
}

// Swallowed is what was lost since the present fault began, its first megabyte.
func (p *Proxy) Swallowed() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]byte(nil), p.swallowed...)
}

func (p *Proxy) close() {
	p.Set(Refused)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.running.Wait()
}

func (p *Proxy) accept(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return // closed
		}
		p.running.Go(func() { p.carry(client) })
	}
}

// carry serves one connection to its end.
func (p *Proxy) carry(client net.Conn) {
	p.mu.Lock()
	target, fault := p.target, p.fault
	p.mu.Unlock()
	l := &link{client: client}
	if fault != Hole {
		server, err := net.Dial("tcp", target)
		if err != nil {
			l.reset()
			return
		}
		l.server = server
	}
	p.mu.Lock()
	if p.fault != fault { // changed meanwhile
		p.mu.Unlock()
		l.reset()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { p.pump(l, l.client, l.server, Fault.fromClient) })
	if l.server != nil {
		both.Go(func() { p.pump(l, l.server, l.client, Fault.fromServer) })
	}
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
	l.close()
}

// pump carries one direction until its source ends. The other side hears of the end unless a fault keeps it from it.
func (p *Proxy) pump(l *link, from, to net.Conn, arrives func(Fault) bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		passes := arrives(p.fault) && to != nil
		if !passes {
			p.swallowed = append(p.swallowed, buffer[:min(n, mostSwallowed-len(p.swallowed))]...)
		}
		p.mu.Unlock()
		if passes && n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				l.reset()
				return
			}
		}
		if err != nil {
			if passes {
				_ = to.(*net.TCPConn).CloseWrite()
			}
			return
		}
	}
}

// reset ends both connections so that their other ends read an error.
func (l *link) reset() {
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	l.close()
}

func (l *link) close() {
	_ = l.client.Close()
	if l.server != nil {
		_ = l.server.Close()
	}
}
