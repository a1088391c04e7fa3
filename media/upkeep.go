package media

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/gcerrors"

	"kurir/models"
)

const (
	retireBatch = 200
	orphanPage  = 1000
	// An upkeep begins nothing new when less than this is left of its time.
	upkeepReserve = 8 * time.Second
)

// Upkeep drops what nobody needs: media that no message refers to and that were not used for models.MediaKept, temporary
// blobs of that age, and blobs without a row. It goes on where the one before ended, and returns how many it dropped. See
// models.Media for why an upload of the same content at the same time loses nothing.
func (s *Store) Upkeep(ctx context.Context) (dropped int, err error) {
	for _, step := range []func(context.Context) (int, error){s.dropUnused, s.dropTemporary, s.dropOrphans} {
		n, stepErr := step(ctx)
		dropped += n
		err = errors.Join(err, stepErr)
	}
	return dropped, err
}

func (s *Store) dropUnused(ctx context.Context) (dropped int, err error) {
	for timeLeft(ctx) {
		retired, looked, err := models.RetireMedia(ctx, s.db.Pool, retireBatch)
		if err != nil {
			return dropped, fmt.Errorf("find media that nobody needs: %w", err)
		}
		for i := range retired {
			if !timeLeft(ctx) {
				return dropped, nil
			}
			ok, err := s.drop(ctx, &retired[i])
			if err != nil {
				return dropped, err
			}
			if ok {
				dropped++
			}
		}
		if looked < retireBatch {
			return dropped, nil
		}
	}
	return dropped, nil
}

func timeLeft(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() == nil && (!ok || time.Until(end) > upkeepReserve)
}

func (s *Store) drop(ctx context.Context, m *Item) (bool, error) {
	ok, err := models.DropMedia(ctx, s.db, m.ID, func(ctx context.Context) error { return s.erase(ctx, keyOf(m)) })
	if err != nil {
		return false, fmt.Errorf("drop medium %s: %w", m.ID, err)
	}
	return ok, nil
}

// erase deletes a blob. That there is none is as good.
func (s *Store) erase(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return fmt.Errorf("delete blob: %w", err)
	}
	return nil
}

// dropTemporary drops what uploads left that did not come to their end.
func (s *Store) dropTemporary(ctx context.Context) (dropped int, err error) {
	list, err := s.temporaries(ctx)
	if err != nil {
		return 0, fmt.Errorf("list temporary blobs: %w", err)
	}
	for _, o := range list {
		if !o.old() || !timeLeft(ctx) {
			continue
		}
		if err := s.erase(ctx, o.key); err != nil {
			return dropped, err
		}
		dropped++
	}
	return dropped, nil
}

// dropOrphans looks through one page of the store for old blobs without a row: of users that were deleted, and of rows that
// a restored database does not have. The former go at once; the latter get a row that is due, and go as those do.
func (s *Store) dropOrphans(ctx context.Context) (dropped int, err error) {
	if !timeLeft(ctx) {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	objects, next, err := s.page(ctx, s.at)
	s.at = next
	if err != nil {
		return 0, fmt.Errorf("list blobs: %w", err)
	}
	var blobs []Item
	for _, o := range objects {
		m, ours, whole := parseKey(o.key)
		switch {
		case !ours || !o.old():
		case whole:
			m.Size = o.size
			blobs = append(blobs, m)
		default: // a write that was cut off
			if err := s.erase(ctx, o.key); err != nil {
				return dropped, err
			}
			dropped++
		}
	}
	if len(blobs) == 0 {
		return dropped, nil
	}
	orphans, err := models.AdoptMedia(ctx, s.db.Pool, blobs)
	if err != nil {
		return dropped, fmt.Errorf("adopt blobs: %w", err)
	}
	for i := range orphans {
		if err := s.erase(ctx, keyOf(&orphans[i])); err != nil {
			return dropped, err
		}
		dropped++
	}
	adopted, err := s.dropUnused(ctx)
	return dropped + adopted, err
}

// parseKey reads user and hash of a key. Ours are all below a user's ID; a bucket may hold other things too.
func parseKey(key string) (m Item, ours, whole bool) {
	user, name, ok := strings.Cut(key, "/")
	id, err := uuid.Parse(user)
	if !ok || err != nil || len(user) != 36 {
		return m, false, false
	}
	sum, err := hex.DecodeString(name)
	if err != nil || len(sum) != 32 {
		return m, true, false
	}
	return Item{ID: models.MediaID(id, [32]byte(sum)), UserID: id, SHA256: sum}, true, true
}
