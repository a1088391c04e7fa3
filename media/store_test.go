package media_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/fault"
	"kurir/media"
	"kurir/models"
	"kurir/models/modelstest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

const (
	patience = 20 * time.Second
	tick     = 5 * time.Millisecond
)

// shelf is a store in a folder of its own.
type shelf struct {
	testing.TB
	*media.Store
	db     *models.DB
	folder string
	user   *models.User
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	s := &shelf{TB: t, db: modelstest.DB(t), folder: filepath.Join(t.TempDir(), "media")}
	s.Store = s.open()
	s.user = modelstest.User(t, s.db)
	return s
}

// open opens the same folder once more, as another process would.
func (s *shelf) open() *media.Store {
	store, err := media.Open(context.Background(), media.Config{URL: s.folder}, s.db, slog.New(slog.DiscardHandler))
	require.NoError(s, err)
	s.Cleanup(func() { _ = store.Close() })
	return store
}

// files lists what is in the folder.
func (s *shelf) files() (names []string) {
	err := filepath.WalkDir(s.folder, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(s.folder, path)
			names = append(names, name)
		}
		return err
	})
	require.NoError(s, err)
	return names
}

func (s *shelf) rows() int64 { return modelstest.Scalar[int64](s, s.db, `SELECT count(*) FROM media`) }

func (s *shelf) put(kind string, content []byte) *media.Item {
	s.Helper()
	m, err := s.Put(s.Context(), s.user.ID, kind, bytes.NewReader(content))
	require.NoError(s, err)
	return m
}

func (s *shelf) read(m *media.Item, offset, length int64) string {
	s.Helper()
	r, err := s.Open(s.Context(), m, offset, length)
	require.NoError(s, err)
	defer r.Close()
	content, err := io.ReadAll(r)
	require.NoError(s, err)
	return string(content)
}

var png = append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), bytes.Repeat([]byte("x"), 5000)...)

func TestPut(t *testing.T) {
	s := newShelf(t)
	m := s.put("image", png)
	sum := sha256.Sum256(png)
	require.Equal(t, models.MediaID(s.user.ID, sum), m.ID)
	require.Equal(t, "image/png", m.MIMEType)
	require.EqualValues(t, len(png), m.Size)
	require.Equal(t, []string{s.user.ID.String() + "/" + hex.EncodeToString(sum[:])}, s.files())
	require.Equal(t, string(png), s.read(m, 0, -1))
	require.Equal(t, string(png[8:12]), s.read(m, 8, 4))

	again := s.put("", png)
	require.Equal(t, m.ID, again.ID)
	require.True(t, m.CreatedAt.Equal(again.CreatedAt))
	require.Len(t, s.files(), 1)

	other := modelstest.User(t, s.db)
	theirs, err := s.Put(t.Context(), other.ID, "image", bytes.NewReader(png))
	require.NoError(t, err)
	require.NotEqual(t, m.ID, theirs.ID, "each tenant has his own")
	for _, find := range []func() (*media.Item, error){
		func() (*media.Item, error) { return s.Find(t.Context(), other.ID, nil, m.ID) },
		func() (*media.Item, error) { return s.Use(t.Context(), other.ID, m.ID) },
		func() (*media.Item, error) { return s.Use(t.Context(), s.user.ID, uuid.New()) },
	} {
		_, err := find()
		require.ErrorIs(t, err, models.ErrNoMedia)
	}
	found, err := s.Use(t.Context(), s.user.ID, m.ID)
	require.NoError(t, err)
	require.Equal(t, m.SHA256, found.SHA256)
}

func TestPutRefuses(t *testing.T) {
	s := newShelf(t)
	html := []byte("<!DOCTYPE html><script>alert(1)</script>")
	webp := append([]byte("RIFF\x00\x00\x00\x00WEBPVP8 "), bytes.Repeat([]byte("x"), 100)...)
	for _, c := range []struct {
		kind    string
		content []byte
		code    string
	}{
		{"", nil, "media_empty"},
		{"image", nil, "media_empty"},
		{"image", html, "media_type_not_allowed"},
		{"image", []byte("<svg xmlns='http://www.w3.org/2000/svg'/>"), "media_type_not_allowed"},
		{"video", png, "media_type_not_allowed"},
		{"sticker", png, "media_type_not_allowed"},
		{"voice", []byte("ID3\x03"), "media_type_not_allowed"},
		{"sticker", append(webp, bytes.Repeat([]byte("x"), 500<<10)...), "media_too_large"},
		{"text", png, "invalid_request"},
		{"IMAGE", png, "invalid_request"},
	} {
		_, err := s.Put(t.Context(), s.user.ID, c.kind, bytes.NewReader(c.content))
		require.Equal(t, c.code, fault.Code(err), "%s: %v", c.kind, err)
	}
	require.Empty(t, s.files())
	require.Zero(t, s.rows())
	require.Equal(t, "text/html", s.put("document", html).MIMEType)
	require.Equal(t, "image/webp", s.put("sticker", webp).MIMEType)
	require.Equal(t, "audio/ogg; codecs=opus", s.put("voice", []byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13OpusHead\x01")).MIMEType)
}

// brokenAt gives so many bytes and then an error.
type brokenAt struct {
	left int
	err  error
}

func (b *brokenAt) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, b.err
	}
	n := min(len(p), b.left)
	for i := range n {
		p[i] = 'x'
	}
	b.left -= n
	return n, nil
}

func TestPutOfWhatBreaksOff(t *testing.T) {
	s := newShelf(t)
	lost := errors.New("connection lost")
	for _, n := range []int{0, 1, 5000, 200_000} {
		_, err := s.Put(t.Context(), s.user.ID, "", &brokenAt{n, lost})
		var source *media.SourceError
		require.ErrorAs(t, err, &source)
		require.ErrorIs(t, err, lost)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := s.Put(ctx, s.user.ID, "", io.MultiReader(&brokenAt{100_000, io.EOF}, readerFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF })))
	require.Error(t, err)
	require.Empty(t, s.files())
	require.Zero(t, s.rows())
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// A store that cannot be written to is an outage, and is well again by itself.
func TestStoreThatIsAway(t *testing.T) {
	s := newShelf(t)
	m := s.put("", []byte("kept"))
	away := s.folder + ".away"
	require.NoError(t, os.Rename(s.folder, away))
	require.NoError(t, os.WriteFile(s.folder, nil, 0o600)) // so that it cannot be made anew
	_, err := s.Put(t.Context(), s.user.ID, "", bytes.NewReader(png))
	require.Equal(t, "media_store_unavailable", fault.Code(err), "%v", err)
	require.NoError(t, os.Remove(s.folder))
	_, err = s.Open(t.Context(), m, 0, -1)
	require.ErrorIs(t, err, models.ErrNoMedia)
	require.NoError(t, os.Rename(away, s.folder))
	require.Equal(t, "kept", s.read(m, 0, -1))
	s.put("", png)
}

// A process that died between the statements of an upload left what a repetition completes.
func TestUploadsThatDiedHalfWay(t *testing.T) {
	s := newShelf(t)
	sum := sha256.Sum256(png)
	m := &media.Item{ID: models.MediaID(s.user.ID, sum), UserID: s.user.ID, SHA256: sum[:], MIMEType: "image/png", Size: int64(len(png))}
	require.NoError(t, models.ReserveMedia(t.Context(), s.db.Pool, m))
	_, err := s.Use(t.Context(), s.user.ID, m.ID)
	require.ErrorIs(t, err, models.ErrNoMedia, "it is not there yet")
	require.Equal(t, m.ID, s.put("image", png).ID)
	require.Equal(t, string(png), s.read(m, 0, -1))

	// The row says stored, and the blob was lost or is not whole.
	blob := filepath.Join(s.folder, s.files()[0])
	require.NoError(t, os.Truncate(blob, 10))
	s.put("image", png)
	require.NoError(t, os.Remove(blob))
	s.put("image", png)
	require.Equal(t, string(png), s.read(m, 0, -1))
}

func TestTheSameContentAtOnce(t *testing.T) {
	s := newShelf(t)
	stores := []*media.Store{s.Store, s.open()}
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			m, err := stores[i%2].Put(context.Background(), s.user.ID, "", bytes.NewReader(png))
			if err != nil || m.Size != int64(len(png)) {
				t.Errorf("upload %d: %v", i, err)
			}
		})
	}
	group.Wait()
	require.Len(t, s.files(), 1)
	require.EqualValues(t, 1, s.rows())
}

// A large content passes through a little memory.
func TestPutTakesLittleMemory(t *testing.T) {
	s := newShelf(t)
	const size = 90 << 20
	base := heap()
	content := &watched{r: io.LimitReader(&brokenAt{size, io.EOF}, size), every: 16 << 20}
	m, err := s.Put(t.Context(), s.user.ID, "document", content)
	require.NoError(t, err)
	require.EqualValues(t, size, m.Size)
	require.Less(t, content.most, base+4<<20, "heap while %d bytes went through", size)
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// watched looks at the heap as it is read.
type watched struct {
	r     io.Reader
	every int
	read  int
	most  uint64
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if w.read/w.every != (w.read+n)/w.every {
		w.most = max(w.most, heap())
	}
	w.read += n
	return n, err
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"", "http://x", "gs://bucket", "file://"} {
		_, err := media.Open(t.Context(), media.Config{URL: url}, nil, slog.New(slog.DiscardHandler))
		require.Error(t, err, url)
	}
}

// age makes everything in the store as old as media have to be to be dropped.
func (s *shelf) age() {
	s.Helper()
	_, err := s.db.Pool.Exec(context.Background(), `UPDATE media SET look_at = look_at - interval '25 hours', used_at = used_at - interval '25 hours'`)
	require.NoError(s, err)
	before := time.Now().Add(-25 * time.Hour)
	for _, name := range s.files() {
		require.NoError(s, os.Chtimes(filepath.Join(s.folder, name), before, before))
	}
}
