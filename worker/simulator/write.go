package simulator

import (
	"bytes"
	"context"

	"github.com/coder/websocket"

	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// write is the link's writer: it takes all that waits, asks for the lease, and writes it as one WebSocket message.
func (l *link) write() {
	var out bytes.Buffer
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.wake:
		}
		b := l.take()
		leased := l.c.session.Lease()
		if !leased {
			l.refuse(b)
		} else if err := l.writeBatch(&out, b); err != nil {
			l.cancel(err)
			return
		}
		if b.end {
			if leased {
				_ = l.ws.Close(websocket.StatusNormalClosure, "")
			}
			l.cancel(errHungUp)
			return
		}
	}
}

func (l *link) writeBatch(out *bytes.Buffer, b batch) error {
	out.Reset()
	if err := b.encode(out); err != nil {
		return err
	}
	return l.writeMessage(out.Bytes())
}

// batch is what one WebSocket message carries.
type batch struct {
	sends []*pending
	asks  []*asking
	acks  []int64
	pongs []int64
	extra []simnet.Frame // typing and refused calls
	bye   bool
	end   bool
}

func (l *link) take() batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := batch{acks: l.acks, pongs: l.pongs, bye: l.bye, end: l.end, asks: l.takeAsks()}
	for _, p := range l.sends {
		if p.m != nil {
			p.written = true
			b.sends = append(b.sends, p)
		}
	}
	for _, t := range l.typing {
		b.extra = append(b.extra, simnet.Frame{Op: simnet.OpTyping, Typing: t})
	}
	for _, id := range l.rejects {
		b.extra = append(b.extra, simnet.Frame{Op: simnet.OpReject, Call: id})
	}
	l.sends, l.acks, l.pongs, l.typing, l.rejects, l.bye = nil, nil, nil, nil, nil, false
	return b
}

// refuse answers a batch that the lapsed lease keeps from leaving. Acknowledgements are dropped: the network delivers
// those events again, to whoever comes next.
func (l *link) refuse(b batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuseAsks(b.asks)
	for _, p := range b.sends {
		if l.pending[p.n] == p {
			p.done <- outcome{err: worker.ErrLeaseLost}
			l.remove(p.n)
		}
	}
}

func (b *batch) encode(out *bytes.Buffer) error {
	if len(b.acks) > 0 {
		if err := simnet.AppendFrame(out, &simnet.Frame{Op: simnet.OpAck, Ack: b.acks}); err != nil {
			return err
		}
	}
	for i := range b.extra {
		if err := simnet.AppendFrame(out, &b.extra[i]); err != nil {
			return err
		}
	}
	for _, p := range b.sends {
		if err := simnet.AppendFrame(out, &simnet.Frame{Op: simnet.OpSend, N: p.n, Send: p.m}); err != nil {
			return err
		}
	}
	for _, q := range b.asks {
		if err := simnet.AppendFrame(out, &simnet.Frame{Op: simnet.OpAsk, N: q.n, Ask: q.ask}); err != nil {
			return err
		}
	}
	for _, n := range b.pongs {
		if err := simnet.AppendFrame(out, &simnet.Frame{Op: simnet.OpPong, N: n}); err != nil {
			return err
		}
	}
	if b.bye {
		return simnet.AppendFrame(out, &simnet.Frame{Op: simnet.OpLogout})
	}
	return nil
}

// writeFrames writes these frames at once.
func (l *link) writeFrames(frames ...*simnet.Frame) error {
	var out bytes.Buffer
	for _, f := range frames {
		if err := simnet.AppendFrame(&out, f); err != nil {
			return err
		}
	}
	return l.writeMessage(out.Bytes())
}

func (l *link) writeMessage(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(l.ctx, writeTimeout)
	defer cancel()
	return l.ws.Write(ctx, websocket.MessageText, b)
}
