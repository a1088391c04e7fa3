package wafake

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// conn is one connection, of a device that has logged in or of one that wants to be linked.
type conn struct {
	*frames
	server *Server
	end    context.CancelCauseFunc
	from   string // label of the client
	who    caller

	device *device // nil while linking
	login  *Login  // in the witness's list
	link   *linking
	active bool // has asked for what waits

	outMu  sync.Mutex
	wake   *sync.Cond
	out    []waBinary.Node
	mute   bool // neither reads nor writes any more: a black hole
	closed bool
}

type (
	node  = waBinary.Node
	attrs = waBinary.Attrs
)

// serve speaks with a client until the connection ends.
func (c *conn) serve() {
	var err error
	if c.who, err = c.handshake(c.server.static); err != nil {
		return
	}
	written := make(chan struct{})
	go func() { defer close(written); c.writer() }()
	defer func() {
		c.close()
		<-written
		c.server.gone(c)
	}()
	c.server.arrive(c)
	for {
		n, err := c.read()
		if err != nil {
			return
		}
		if c.muted() || c.over() {
			continue
		}
		c.server.handle(c, n)
	}
}

// send queues a node for the client. It never blocks, so it may be called with the server's lock.
func (c *conn) send(n node) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	c.out = append(c.out, n)
	c.wake.Signal()
}

// grace is how long a client has to take the last stanza and to go by itself. whatsmeow forgets stanzas that it has read and
// not yet handled when its connection ends.
const grace = time.Second

// finish lets what is queued go out, and then ends the connection.
func (c *conn) finish() {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	c.closed = true
	c.wake.Signal()
}

// close ends the connection at once.
func (c *conn) close() {
	c.end(errDropped)
	c.finish()
}

func (c *conn) writer() {
	defer func() {
		select {
		case <-c.ctx.Done():
		case <-time.After(grace):
		}
		c.end(errDropped)
	}()
	for {
		c.outMu.Lock()
		for len(c.out) == 0 && !c.closed {
			c.wake.Wait()
		}
		batch, over := c.out, c.closed
		c.out = nil
		c.outMu.Unlock()
		for _, n := range batch {
			if c.muted() {
				continue
			}
			if err := c.write(n); err != nil {
				c.end(err)
				return
			}
		}
		if over {
			return
		}
	}
}

func (c *conn) muted() bool {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	return c.mute
}

func (c *conn) over() bool {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	return c.closed
}

// handle takes one node of a client.
func (s *Server) handle(c *conn, n *node) {
	switch n.Tag {
	case "iq":
		s.handleIQ(c, n)
	case "message":
		s.handleMessage(c, n)
	case "receipt":
		s.handleReceipt(c, n)
	case "ack":
		s.handleAck(c, n)
	case "presence":
		s.handlePresence(c, n)
	case "chatstate":
		s.handleChatState(c, n)
	case "call":
		s.handleCall(c, n)
	}
}

// number is one that the network has not used. The caller has the lock.
func (s *Server) number() int {
	s.counter++
	return s.counter
}

// id makes an ID that the network has not used. The caller has the lock.
func (s *Server) id() string {
	return fmt.Sprintf("wafake-%d", s.number())
}

func now() string { return strconv.FormatInt(time.Now().Unix(), 10) }

func text(n *node, key string) string {
	value, _ := n.Attrs[key].(string)
	return value
}

func address(n *node, key string) types.JID {
	value, _ := n.Attrs[key].(types.JID)
	return value
}

// child is the node at a path, an empty one if there is none.
func child(n *node, path ...string) node {
	found, ok := n.GetOptionalChildByTag(path...)
	if !ok {
		return node{}
	}
	return found
}

func content(n *node, path ...string) []byte {
	found := child(n, path...)
	raw, _ := found.Content.([]byte)
	return raw
}
