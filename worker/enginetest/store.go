package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"sync"

	"github.com/google/uuid"

	"kurir/wire"
	"kurir/worker"
)

// store is a gateway's store of media that can be told to fail.
type store struct {
	mu      sync.Mutex
	content map[string][]byte // by ID
	puts    int
	away    error // of Open and Put; nil: it works
	short   bool  // contents end early
	opens   int
	stopped map[string]chan struct{} // contents, by ID, whose end comes when the channel is closed
}

func newStore() *store {
	return &store{content: map[string][]byte{}, stopped: map[string]chan struct{}{}}
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// add stores a picture that is to be sent.
func (s *store) add(b []byte) *wire.Media {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := uuid.NewString()
	s.content[id] = b
	return &wire.Media{ID: id, MIMEType: "image/png", Size: int64(len(b)), SHA256: hashOf(b)}
}

func (s *store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = err
}

// shorten has contents end early, or not.
func (s *store) shorten(short bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.short = short
}

func (s *store) get(id string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.content[id]
}

func (s *store) tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.puts
}

// stop has a content stand still after its first byte, until release.
func (s *store) stop(id string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := make(chan struct{})
	s.stopped[id] = wait
	return func() { close(wait) }
}

// opened says how often a content was opened.
func (s *store) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opens
}

// stopped is the rest of a content that stands still.
type stopped struct {
	ctx  context.Context
	wait chan struct{}
	rest []byte
}

func (r *stopped) Read(p []byte) (int, error) {
	select {
	case <-r.wait:
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
	n := copy(p, r.rest)
	if r.rest = r.rest[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

var errAway = errors.New("the store is away")

// Open implements worker.MediaStore.
func (s *store) Open(ctx context.Context, id string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	b, ok := s.content[id]
	switch {
	case s.away != nil:
		return nil, s.away
	case !ok:
		return nil, worker.ErrMediaGone
	case s.stopped[id] != nil:
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:1]), &stopped{ctx, s.stopped[id], b[1:]})), nil
	case s.short:
		return io.NopCloser(bytes.NewReader(b[:len(b)/2])), nil
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// Put implements worker.MediaStore.
func (s *store) Put(_ context.Context, r io.Reader) (wire.Media, error) {
	b, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if err = errors.Join(err, s.away); err != nil {
		return wire.Media{}, err
	}
	id := uuid.NewString()
	s.content[id] = b
	return wire.Media{ID: id, MIMEType: "image/png", Size: int64(len(b)), SHA256: hashOf(b)}, nil
}
