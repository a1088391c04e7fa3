package wafake

import (
	"bytes"
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"sync"

	"github.com/coder/websocket"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/socket"
)

// frames carries nodes over a websocket: three bytes of length before each, encrypted after the handshake.
type frames struct {
	ws  *websocket.Conn
	ctx context.Context

	started bool // the header has been read
	pending []byte

	readKey, writeKey cipher.AEAD
	reads             uint32

	mu     sync.Mutex // guards writes
	writes uint32
}

func (f *frames) readRaw() ([]byte, error) {
	for {
		if !f.started && len(f.pending) >= len(socket.WAConnHeader) {
			if !bytes.HasPrefix(f.pending, socket.WAConnHeader) {
				return nil, errors.New("the client does not begin with the header")
			}
			f.started, f.pending = true, f.pending[len(socket.WAConnHeader):]
		}
		if f.started && len(f.pending) >= socket.FrameLengthSize {
			end := socket.FrameLengthSize + int(f.pending[0])<<16 + int(f.pending[1])<<8 + int(f.pending[2])
			if len(f.pending) >= end {
				frame := f.pending[socket.FrameLengthSize:end]
				f.pending = f.pending[end:]
				return frame, nil
			}
		}
		_, more, err := f.ws.Read(f.ctx)
		if err != nil {
			return nil, err
		}
		f.pending = append(f.pending, more...)
	}
}

func (f *frames) writeRaw(data []byte) error {
	if len(data) >= socket.FrameMaxSize {
		return fmt.Errorf("a frame of %d bytes is too large", len(data))
	}
	whole := append([]byte{byte(len(data) >> 16), byte(len(data) >> 8), byte(len(data))}, data...) //nolint:gosec // cut off on purpose
	return f.ws.Write(f.ctx, websocket.MessageBinary, whole)
}

func (f *frames) read() (*waBinary.Node, error) {
	sealed, err := f.readRaw()
	if err != nil {
		return nil, err
	}
	plain, err := f.readKey.Open(nil, nonce(f.reads), sealed, nil)
	if err != nil {
		return nil, err
	}
	f.reads++
	plain, err = waBinary.Unpack(plain)
	if err != nil {
		return nil, err
	}
	return waBinary.Unmarshal(plain)
}

func (f *frames) write(node waBinary.Node) error {
	plain, err := waBinary.Marshal(node)
	if err != nil {
		return fmt.Errorf("%s: %w", node.Tag, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	sealed := f.writeKey.Seal(nil, nonce(f.writes), plain, nil)
	f.writes++
	return f.writeRaw(sealed)
}
