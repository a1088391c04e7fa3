package embeddedtest

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo is a server that says everything twice; closed tells of each connection that it saw end.
func echo(t *testing.T) (addr string, closed <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	ends := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
				ends <- struct{}{}
			}()
		}
	}()
	return l.Addr().String(), ends
}

// client is a connection through the proxy.
type client struct {
	t *testing.T
	net.Conn
}

func dial(t *testing.T, p *Proxy) client {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return client{t, c}
}

func (c client) says(text string) {
	c.t.Helper()
	_, err := c.Write([]byte(text))
	require.NoError(c.t, err)
}

func (c client) hears(text string) {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	got := make([]byte, len(text))
	_, err := io.ReadFull(c, got)
	require.NoError(c.t, err)
	require.Equal(c.t, text, string(got))
}

// ended waits until the connection is over, with an error or, in good order, without.
func (c client) ended() error {
	c.t.Helper()
	require.NoError(c.t, c.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.Copy(io.Discard, c)
	require.NotErrorIs(c.t, err, os.ErrDeadlineExceeded)
	return err
}

func TestProxyPassesOn(t *testing.T) {
	server, closed := echo(t)
	p := NewProxy(t, server)
	c := dial(t, p)
	c.says("one")
	c.hears("one")
	require.NoError(t, c.Conn.(*net.TCPConn).CloseWrite())
	require.NoError(t, c.ended())
	<-closed
}

func TestProxyFaults(t *testing.T) {
	for name, fault := range map[string]Fault{"hole": Hole, "no requests": NoRequests, "no answers": NoAnswers} {
		t.Run(name, func(t *testing.T) {
			server, closed := echo(t)
			p := NewProxy(t, server)
			before := dial(t, p)
			before.says("one")
			before.hears("one")

			p.Set(fault)
			before.says("two")
			require.Eventually(t, func() bool { return string(p.Swallowed()) == "two" }, patience, time.Millisecond)
			during := dial(t, p)
			during.says("three")
			require.Eventually(t, func() bool { return len(p.Swallowed()) == len("twothree") }, patience, time.Millisecond)
			require.Empty(t, closed, "nobody should hear of an end")

			p.Set(None)
			require.Error(t, before.ended(), "it should be reset, and have heard nothing")
			require.Error(t, during.ended())
			<-closed
			after := dial(t, p)
			after.says("four")
			after.hears("four")
		})
	}
}

func TestProxyHoleHidesTheEndOfAClient(t *testing.T) {
	server, closed := echo(t)
	p := NewProxy(t, server)
	c := dial(t, p)
	c.says("one")
	c.hears("one")
	p.Set(Hole)
	require.NoError(t, c.Close())
	require.Never(t, func() bool { return len(closed) > 0 }, 50*time.Millisecond, time.Millisecond)
	p.Set(None)
	<-closed
}

func TestProxyRefuses(t *testing.T) {
	server, _ := echo(t)
	p := NewProxy(t, server)
	before := dial(t, p)
	before.says("one")
	before.hears("one")
	p.Set(Refused)
	require.Error(t, before.ended())
	_, err := net.Dial("tcp", p.Addr())
	require.ErrorContains(t, err, "refused")
	p.Set(None)
	after := dial(t, p)
	after.says("two")
	after.hears("two")
}

func TestProxyRetargets(t *testing.T) {
	first, _ := echo(t)
	p := NewProxy(t, first)
	dial(t, p).says("one")
	second, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer second.Close()
	p.Retarget(second.Addr().String())
	dial(t, p)
	c, err := second.Accept()
	require.NoError(t, err)
	_ = c.Close()
}
