package api

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// answerTime is how long a client may take to read an answer. Those that are streams have times of their own.
const answerTime = 2 * time.Minute

// inTime gives up clients that do not read their answers, and would keep them in memory.
func inTime(next fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(r *fasthttp.RequestCtx) {
		next(r)
		if !r.Response.IsBodyStream() {
			_ = r.Conn().SetWriteDeadline(time.Now().Add(answerTime)) // a connection that is closed already needs none
		}
	}
}

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

// A connection may be without a request for idleTimeout, also before its first one: proxies keep connections in stock, and the
// server, which allows readTimeout for the first request, would close them while a request is on its way. A request has to
// arrive within readTimeout of its first byte.
const (
	idleTimeout = 120 * time.Second
	readTimeout = 30 * time.Second
)

// patientListener makes connections that can wait so.
type patientListener struct{ net.Listener }

func (l patientListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: c}, nil
}

type patientConn struct {
	net.Conn
	patient atomic.Bool
	ended   atomic.Bool // the other side has sent its last
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
	_ = c.SetReadDeadline(time.Now().Add(idleTimeout)) // where that fails, reading does
	n, err := c.Conn.Read(b)
	if n == 0 {
		c.ended.Store(true)
		return 0, io.EOF
	}
	c.begun = true
	return n, errors.Join(err, c.SetReadDeadline(time.Now().Add(readTimeout)))
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
