package api

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// endOfAnswer takes the time of an answer, or of a stream, off its connection: it is not that of the next answer.
func endOfAnswer(c net.Conn, state fasthttp.ConnState) {
	if state == fasthttp.StateIdle {
		_ = c.SetWriteDeadline(time.Time{})
	}
}

// A client that is still sending when its request is refused would be told so by a reset, which throws away the answer
// that is on its way. So what is left of its request is read first, up to these bounds.
const (
	restTime  = 2 * time.Second
	restBytes = 160 << 20
)

// writeChunk is how many bytes of an answer a client has to take within Timeouts.Write.
const writeChunk = 64 << 10

// patientListener makes connections that may be without a request for Timeouts.Idle, also before the first one: proxies keep
// connections in stock, and the server, which allows Timeouts.Read for the first request, would close them while a request is
// on its way. A request has to arrive within Timeouts.Read of its first byte, and an answer has to be read.
type patientListener struct {
	net.Listener
	limits Timeouts
}

func (l patientListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: c, limits: l.limits}, nil
}

type patientConn struct {
	net.Conn
	limits  Timeouts
	patient atomic.Bool
	ended   atomic.Bool // the other side has sent its last
	managed atomic.Bool // whoever writes says himself until when
	begun   bool        // it has sent its first
}

// Read waits for the first byte as for those of later requests, and notes the end. A connection on which nothing comes at all
// ends like one that was closed: there is nobody to answer.
func (c *patientConn) Read(b []byte) (int, error) {
	if !c.begun {
		return c.first(b)
	}
	n, err := c.Conn.Read(b)
	if errors.Is(err, io.EOF) {
		c.ended.Store(true)
	}
	return n, err
}

func (c *patientConn) first(b []byte) (int, error) {
	_ = c.SetReadDeadline(time.Now().Add(c.limits.Idle)) // where that fails, reading does
	n, err := c.Conn.Read(b)
	if n == 0 {
		c.ended.Store(true)
		return 0, io.EOF
	}
	c.begun = true
	return n, errors.Join(err, c.SetReadDeadline(time.Now().Add(c.limits.Read)))
}

// Write gives up a client that does not read.
func (c *patientConn) Write(b []byte) (n int, err error) {
	for err == nil && len(b) > n {
		if !c.managed.Load() {
			err = c.Conn.SetWriteDeadline(time.Now().Add(c.limits.Write))
		}
		if err == nil {
			var written int
			written, err = c.Conn.Write(b[n:min(len(b), n+writeChunk)])
			n += written
		}
	}
	return n, err
}

// SetWriteDeadline takes the writing into the caller's hands until it sets none.
func (c *patientConn) SetWriteDeadline(t time.Time) error {
	c.managed.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

// hasEnded reports whether a connection was read to its end. One of another kind never has.
func hasEnded(c net.Conn) bool {
	p, ok := c.(*patientConn)
	return ok && p.ended.Load()
}

// awaitRest has a connection read the rest of a refused request before it closes.
func awaitRest(c net.Conn) {
	if p, ok := c.(*patientConn); ok {
		p.patient.Store(true)
	}
}

// Close is called when the answer is written.
func (c *patientConn) Close() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.patient.Swap(false) && half.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(restTime))
		_, _ = io.CopyN(io.Discard, c.Conn, restBytes)
	}
	return c.Conn.Close()
}
