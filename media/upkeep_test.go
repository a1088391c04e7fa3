package media_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/media"
	"kurir/models"
	"kurir/models/modelstest"
)

func (s *shelf) upkeep(dropped int) {
	s.Helper()
	n, err := s.Upkeep(s.Context())
	require.NoError(s, err)
	require.Equal(s, dropped, n)
}

// refer stores a message that refers to a medium.
func (s *shelf) refer(m *media.Item) uuid.UUID {
	s.Helper()
	session := models.NewID()
	_, err := s.db.Pool.Exec(s.Context(), `INSERT INTO sessions (uid, id, user_id, name) VALUES ($1, $2, $3, 'x')`, session, session.String(), m.UserID)
	require.NoError(s, err)
	_, err = s.db.Pool.Exec(s.Context(), `INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, status, whatsapp_id, media_id)
		VALUES ($1, $2, 'OUTBOUND', 1, 'c', 't', 'IMAGE', 'SENT', 'w', $3)`, models.NewID(), session, m.ID)
	require.NoError(s, err)
	return session
}

func TestUpkeepDropsWhatNobodyNeeds(t *testing.T) {
	s := newShelf(t)
	needed, unused := s.put("image", png), s.put("", []byte("nobody's"))
	session := s.refer(needed)
	s.upkeep(0)
	s.age()
	used := s.put("", []byte("of today"))
	s.upkeep(1)
	s.upkeep(0)
	_, err := s.Find(t.Context(), s.user.ID, nil, unused.ID)
	require.ErrorIs(t, err, models.ErrNoMedia)
	require.Equal(t, string(png), s.read(needed, 0, -1))
	require.Equal(t, "of today", s.read(used, 0, -1))
	require.Len(t, s.files(), 2)

	// A session's key opens what its messages have.
	_, err = s.Find(t.Context(), s.user.ID, &session, needed.ID)
	require.NoError(t, err)
	_, err = s.Find(t.Context(), s.user.ID, &session, used.ID)
	require.ErrorIs(t, err, models.ErrNoMedia)

	// Retention drops the messages.
	_, err = s.db.Pool.Exec(t.Context(), `DELETE FROM messages`)
	require.NoError(t, err)
	s.age()
	s.upkeep(2)
	require.Empty(t, s.files())
	require.Zero(t, s.rows())
}

func TestUseKeepsFromUpkeep(t *testing.T) {
	s := newShelf(t)
	m := s.put("", png)
	s.age()
	_, err := s.Use(t.Context(), s.user.ID, m.ID)
	require.NoError(t, err)
	s.upkeep(0)
	require.Equal(t, string(png), s.read(m, 0, -1))
}

// Between the two steps of upkeep somebody uploads the same content: it stays.
func TestUploadBetweenTheStepsOfUpkeep(t *testing.T) {
	s := newShelf(t)
	m := s.put("", png)
	s.age()
	retired, looked, err := models.RetireMedia(t.Context(), s.db.Pool, 10)
	require.NoError(t, err)
	require.Len(t, retired, 1)
	require.Equal(t, 1, looked)
	_, err = s.Use(t.Context(), s.user.ID, m.ID)
	require.ErrorIs(t, err, models.ErrNoMedia, "nobody begins to use it now without uploading it")
	s.put("", png)
	dropped, err := models.DropMedia(t.Context(), s.db, m.ID, func(context.Context) error { return errors.New("must not be asked") })
	require.NoError(t, err)
	require.False(t, dropped)
	require.Equal(t, string(png), s.read(m, 0, -1))
}

// An upload that comes while upkeep deletes the blob waits, and puts a new one.
func TestUploadWhileUpkeepDrops(t *testing.T) {
	s := newShelf(t)
	m := s.put("", png)
	s.age()
	_, _, err := models.RetireMedia(t.Context(), s.db.Pool, 10)
	require.NoError(t, err)
	uploaded := make(chan error, 1)
	dropped, err := models.DropMedia(t.Context(), s.db, m.ID, func(context.Context) error {
		go func() {
			_, err := s.Put(context.Background(), s.user.ID, "", bytes.NewReader(png))
			uploaded <- err
		}()
		require.Eventually(t, func() bool {
			return modelstest.Scalar[int64](t, s.db, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == 1
		}, patience, tick, "the upload waits for the row")
		for _, name := range s.files() {
			if !strings.HasPrefix(name, "tmp/") {
				require.NoError(t, os.Remove(filepath.Join(s.folder, name)))
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.True(t, dropped)
	require.NoError(t, <-uploaded)
	found, err := s.Find(t.Context(), s.user.ID, nil, m.ID)
	require.NoError(t, err)
	require.Equal(t, string(png), s.read(found, 0, -1))
}

// Upkeep that died, or failed, between blob and row goes on the next time.
func TestUpkeepThatDiedHalfWay(t *testing.T) {
	s := newShelf(t)
	m := s.put("", png)
	s.age()
	_, _, err := models.RetireMedia(t.Context(), s.db.Pool, 10)
	require.NoError(t, err)
	_, err = models.DropMedia(t.Context(), s.db, m.ID, func(context.Context) error {
		require.NoError(t, os.Remove(filepath.Join(s.folder, s.files()[0])))
		return errors.New("killed here")
	})
	require.ErrorContains(t, err, "killed here")
	require.EqualValues(t, 1, s.rows())
	_, err = s.Find(t.Context(), s.user.ID, nil, m.ID)
	require.ErrorIs(t, err, models.ErrNoMedia)
	s.upkeep(1)
	require.Zero(t, s.rows())
}

func TestUpkeepDropsWhatHasNoRow(t *testing.T) {
	s := newShelf(t)
	gone := modelstest.User(t, s.db)
	_, err := s.Put(t.Context(), gone.ID, "", bytes.NewReader([]byte("of a user who leaves")))
	require.NoError(t, err)
	s.put("", []byte("forgotten by a restored database"))
	kept := s.put("", png)
	s.refer(kept)
	_, err = s.db.Pool.Exec(t.Context(), `DELETE FROM users WHERE id = $1`, gone.ID)
	require.NoError(t, err)
	_, err = s.db.Pool.Exec(t.Context(), `DELETE FROM media WHERE id <> $1`, kept.ID)
	require.NoError(t, err)
	for _, name := range []string{"tmp/" + uuid.NewString(), s.user.ID.String() + "/fileblob123", "operators/notes.txt"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(s.folder, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(s.folder, name), []byte("x"), 0o600))
	}
	s.upkeep(0) // all of it may still be in the making
	require.Len(t, s.files(), 6)
	s.age()
	s.upkeep(4)
	require.Len(t, s.files(), 2, "%v", s.files())
	require.Equal(t, string(png), s.read(kept, 0, -1))
	require.EqualValues(t, 1, s.rows())
}

// Uploads and uses of a few contents, from two processes, while upkeep runs all the time and everything is always old: what an
// upload answered and what a use found is there.
func TestUpkeepBesideUploads(t *testing.T) {
	s := newShelf(t)
	stores := []*media.Store{s.Store, s.open()}
	ctx, cancel := context.WithCancel(t.Context())
	var upkeep, uploads sync.WaitGroup
	for _, store := range stores {
		upkeep.Go(func() {
			for ctx.Err() == nil {
				// Only what no upload has in hand may become old: that takes longer than a day.
				_, err := s.db.Pool.Exec(ctx, `UPDATE media SET look_at = now() - interval '1 second', used_at = now() - interval '2 days' WHERE used_at < clock_timestamp() - interval '100 milliseconds'`)
				if err == nil {
					_, err = store.Upkeep(ctx)
				}
				if err != nil && ctx.Err() == nil {
					t.Errorf("upkeep: %v", err)
				}
			}
		})
	}
	for i := range 6 {
		uploads.Go(func() {
			store := stores[i%2]
			for n := range 40 {
				content := fmt.Sprintf("content %d", (n+i)%3)
				m, err := store.Put(ctx, s.user.ID, "", strings.NewReader(content))
				if err != nil {
					t.Errorf("upload: %v", err)
					return
				}
				if used, err := store.Use(ctx, s.user.ID, m.ID); err == nil {
					if r, err := store.Open(ctx, used, 0, -1); err != nil && modelstest.Scalar[int64](t, s.db, `SELECT count(*) FROM media WHERE id = $1 AND stored_at IS NOT NULL AND used_at > now() - interval '100 milliseconds'`, m.ID) == 1 {
						t.Errorf("used and gone: %v", err)
					} else if err == nil {
						_ = r.Close()
					}
				}
			}
		})
	}
	uploads.Wait()
	cancel()
	upkeep.Wait()
	// What the rows say is there, is there.
	for n := range 3 {
		m := s.put("", []byte(fmt.Sprintf("content %d", n)))
		require.Equal(t, fmt.Sprintf("content %d", n), s.read(m, 0, -1))
	}
}
