// Package media keeps the contents of messages (pictures, documents, voice notes) in a blob store: a folder, or an
// S3-compatible one. Contents go through it as streams and are never held in memory whole. Each is kept once per tenant, under
// its hash; PostgreSQL has a row of each (models.Media). What a message says of its medium, and who may send, is not
// known here.
package media

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // opens s3:// URLs
	"gocloud.dev/gcerrors"

	"kurir/fault"
	"kurir/models"
)

// Config says where contents are kept, and what they may be.
type Config struct {
	URL   string // s3://bucket?region=…, file:///folder, or a folder's path
	Rules Rules  // nil: DefaultRules
}

// Item is one content of a tenant.
type Item = models.Media

// Store is the one place of contents. It is safe for concurrent use, by any number of processes.
type Store struct {
	rules  Rules
	bucket *blob.Bucket
	folder string // of a store in a folder
	db     *models.DB
	log    *slog.Logger

	mu sync.Mutex
	at where // in the look for blobs without a row
}

// ErrStore is an outage of the blob store.
var ErrStore = fault.New(fault.Unavailable, "media_store_unavailable", "The media store does not answer. Try again.").After(2 * time.Second)

// temporary is the prefix of contents that are not known whole yet.
const temporary = "tmp/"

// Open opens the store. A folder is made; a bucket has to be there.
func Open(ctx context.Context, cfg Config, db *models.DB, log *slog.Logger) (*Store, error) {
	s := &Store{rules: cfg.Rules, db: db, log: log}
	if s.rules == nil {
		s.rules = DefaultRules()
	}
	var err error
	switch scheme, rest, ok := strings.Cut(cfg.URL, "://"); {
	case ok && scheme == "s3":
		s.bucket, err = blob.OpenBucket(ctx, cfg.URL)
	case ok && scheme != "file":
		err = fmt.Errorf("%s:// is neither s3:// nor file://", scheme)
	default:
		s.folder = cfg.URL
		if ok {
			s.folder = strings.TrimPrefix(rest, "localhost")
		}
		s.bucket, err = s.openFolder()
	}
	if err != nil {
		return nil, fmt.Errorf("open media store: %w", err)
	}
	return s, nil
}

func (s *Store) openFolder() (*blob.Bucket, error) {
	if s.folder == "" {
		return nil, errors.New("no folder is named")
	}
	if err := os.MkdirAll(filepath.Join(s.folder, temporary), 0o700); err != nil {
		return nil, err
	}
	return fileblob.OpenBucket(s.folder, &fileblob.Options{DirFileMode: 0o700, NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
}

// Close lets go of the store.
func (s *Store) Close() error { return s.bucket.Close() }

// Rules are what media may be.
func (s *Store) Rules() Rules { return s.rules }

func keyOf(m *Item) string { return m.UserID.String() + "/" + hex.EncodeToString(m.SHA256) }

// SourceError is a content that broke off: the store is not to blame.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return "read the content: " + e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// Put takes a content in, as the given kind or, with "", as anything, and answers its row. The same content is the same
// row, also when an earlier attempt died half way. A content that is refused leaves nothing behind, one that is cut off by
// a crash leaves what upkeep drops.
func (s *Store) Put(ctx context.Context, user uuid.UUID, kind string, content io.Reader) (*Item, error) {
	rule, err := s.rules.of(kind)
	if err != nil {
		return nil, err
	}
	reader := bufio.NewReaderSize(content, sniffed)
	head, err := reader.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, &SourceError{err}
	}
	if len(head) == 0 {
		return nil, ErrEmpty
	}
	m := &Item{UserID: user, MIMEType: Sniff(head)}
	refused := rule.allows(kind, m.MIMEType)
	if refused != nil && (m.MIMEType != videoMP4 || rule.allows(kind, audioMP4) != nil) { // which the tracks will tell
		return nil, refused
	}
	temp := temporary + models.NewID().String()
	if err := s.spool(ctx, temp, m, kind, rule, reader); err != nil {
		return nil, err
	}
	if err := rule.allows(kind, m.MIMEType); err != nil {
		s.remove(ctx, temp)
		return nil, err
	}
	if err := s.settle(ctx, temp, m); err != nil {
		s.remove(ctx, temp)
		return nil, err
	}
	return m, nil
}

// spool writes a content to a temporary blob and fills in size and hash, and the type where only the whole content tells it.
func (s *Store) spool(ctx context.Context, temp string, m *Item, kind string, rule Rule, content io.Reader) error {
	ctx, abort := context.WithCancel(ctx)
	defer abort()
	w, err := s.bucket.NewWriter(ctx, temp, s.writerOptions(m.MIMEType))
	if err != nil {
		return ErrStore.WithCause(err)
	}
	source, sum := &source{r: io.LimitReader(content, rule.Max+1)}, sha256.New()
	found := &tracks{over: m.MIMEType != videoMP4}
	m.Size, err = io.Copy(io.MultiWriter(w, sum, found), source)
	if err == nil && m.Size <= rule.Max {
		if found.soundOnly() {
			m.MIMEType = audioMP4
		}
		m.SHA256 = sum.Sum(nil)
		m.ID = models.MediaID(m.UserID, [sha256.Size]byte(m.SHA256))
		if err = w.Close(); err != nil {
			return ErrStore.WithCause(err)
		}
		return nil
	}
	abort() // before Close, which would otherwise keep what is there
	_ = w.Close()
	switch {
	case source.err != nil:
		return &SourceError{source.err}
	case err != nil:
		return ErrStore.WithCause(err)
	}
	return rule.tooLarge(kind)
}

// source remembers that it was reading that failed, not writing.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// settle gives a spooled content its row and its key, in the order that models.Media explains.
func (s *Store) settle(ctx context.Context, temp string, m *Item) error {
	if err := models.ReserveMedia(ctx, s.db.Pool, m); err != nil {
		return fmt.Errorf("reserve medium: %w", err)
	}
	there, err := s.bucket.Attributes(ctx, keyOf(m))
	switch {
	case err == nil && there.Size == m.Size:
		s.remove(ctx, temp)
	case err != nil && gcerrors.Code(err) != gcerrors.NotFound:
		return ErrStore.WithCause(err)
	default:
		if err := s.move(ctx, temp, keyOf(m)); err != nil {
			return ErrStore.WithCause(err)
		}
	}
	stored, err := models.StoreMedia(ctx, s.db.Pool, m.ID)
	if err != nil {
		return fmt.Errorf("store medium: %w", err)
	}
	if !stored {
		return models.ErrNoMedia
	}
	return nil
}

// move gives a blob its final key: by a rename in a folder, by a copy on the server's side elsewhere.
func (s *Store) move(ctx context.Context, from, to string) error {
	if s.folder == "" {
		if err := s.bucket.Copy(ctx, to, from, nil); err != nil {
			return err
		}
		s.remove(ctx, from)
		return nil
	}
	source, target := filepath.Join(s.folder, from), filepath.Join(s.folder, to)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	if err := sync1(source); err != nil { // what is answered has to survive the machine
		return err
	}
	if err := os.Rename(source, target); err != nil {
		return err
	}
	return sync1(filepath.Dir(target))
}

// sync1 writes one file or folder through to the disk.
func sync1(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// removeTimeout bounds cleaning up behind a request that may be gone.
const removeTimeout = 10 * time.Second

// remove deletes a temporary blob at best effort: upkeep drops what stays.
func (s *Store) remove(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		s.log.Warn("temporary blob not deleted, left to upkeep", "error", err)
	}
}

// Use finds a tenant's medium for a new message, and keeps it until the message is stored, which has to be soon.
func (s *Store) Use(ctx context.Context, user, id uuid.UUID) (*Item, error) {
	return models.UseMedia(ctx, s.db.Pool, user, id)
}

// Find finds a tenant's medium to be read, or, with a session, one of that session's messages.
func (s *Store) Find(ctx context.Context, user uuid.UUID, session *uuid.UUID, id uuid.UUID) (*Item, error) {
	return models.MediaOf(ctx, s.db.Pool, user, session, id)
}

// Open opens a content for reading, length bytes from offset on, to its end if length is negative. ctx has to live as long
// as the reading does.
func (s *Store) Open(ctx context.Context, m *Item, offset, length int64) (io.ReadCloser, error) {
	r, err := s.bucket.NewRangeReader(ctx, keyOf(m), offset, length, nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		s.log.Error("the blob of a medium is missing", "media", m.ID)
		return nil, models.ErrNoMedia
	}
	if err != nil {
		return nil, ErrStore.WithCause(err)
	}
	return r, nil
}
