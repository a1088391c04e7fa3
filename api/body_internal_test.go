package api

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// stalled gives what has come, and tells what is held for it when the rest is waited for.
type stalled struct {
	io.Reader
	wait func()
}

func (s *stalled) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err == io.EOF {
		s.wait()
	}
	return n, err
}

// Who declares much and sends little has little held for him, however long he takes; what does come is read whole.
func TestDeclaredBodiesHoldNoMemory(t *testing.T) {
	t.Parallel()
	for _, came := range []int{0, 1, 8 << 10, 100 << 10, 500 << 10} {
		var buffer bytes.Buffer
		held := -1
		in := &incoming{declared: bodyLimit, stream: &stalled{strings.NewReader(strings.Repeat("x", came)), func() { held = buffer.Cap() }}}
		require.Error(t, bounded(&buffer, in, bodyLimit))
		require.LessOrEqual(t, held, max(pooledBuffer, 3*came), "%d bytes came", came)
		require.Equal(t, came, buffer.Len())
	}
	var buffer bytes.Buffer
	in := &incoming{declared: bodyLimit, stream: strings.NewReader(strings.Repeat("x", bodyLimit))}
	require.NoError(t, bounded(&buffer, in, bodyLimit))
	require.Equal(t, bodyLimit, buffer.Len())
}
