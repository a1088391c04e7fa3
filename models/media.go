package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/message"
)

// Media is one content of one user in the blob store. Where the row and the blob are at any moment:
//
//	upload                        upkeep
//	1 row is there, used now      a nobody needs it: not stored any more
//	2 blob is put                 b under the row's lock: blob deleted, row deleted
//	3 row says stored
//
// Upkeep looks only at rows that were not used for MediaKept, and each of its steps asks again for that, on the locked
// row. So step 1 holds it off for as long: whatever upkeep was about to do, it either comes first, and then step 1 finds no
// row and makes one, and step 2 finds no blob and puts one; or it comes after, and leaves both alone. A message that takes a
// medium up again is step 1 alone (UseMedia), which fails on a row that is not stored.
type Media struct {
	ID        uuid.UUID
	UserID    uuid.UUID
	SHA256    []byte
	MIMEType  string
	Size      int64
	CreatedAt time.Time
}

// MediaKept is how long a medium stays that no message refers to, counted from its last use.
const MediaKept = 24 * time.Hour

// mediaFresh is how exactly the last use is known: a medium that goes to a thousand people is not written a thousand times.
const mediaFresh = time.Hour

// ErrNoMedia also stands for another tenant's.
var ErrNoMedia = fault.New(fault.NotFound, "media_not_found", "There is no such medium. Those that no message refers to are dropped after a day.")

// MediaID makes the ID of a user's content: a version 8 UUID, the same whenever the same content comes.
func MediaID(user uuid.UUID, sum [sha256.Size]byte) uuid.UUID {
	both := sha256.Sum256(append(user[:], sum[:]...))
	id := uuid.UUID(both[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// MediaPath is the public path of a medium, which never changes.
func MediaPath(id uuid.UUID) string { return "/api/v1/media/" + id.String() }

// Message is what a message holds of its medium.
func (m *Media) Message() *message.Media {
	return &message.Media{ID: m.ID.String(), URL: MediaPath(m.ID), MIMEType: m.MIMEType, Size: m.Size, SHA256: hex.EncodeToString(m.SHA256)}
}

const mediaColumns = `id, user_id, sha256, mimetype, size, created_at`

func scanMedia(row pgx.Row) (*Media, error) {
	m := new(Media)
	return m, row.Scan(&m.ID, &m.UserID, &m.SHA256, &m.MIMEType, &m.Size, &m.CreatedAt)
}

// ReserveMedia is step 1 of an upload. From here on upkeep leaves the medium alone for MediaKept.
func ReserveMedia(ctx context.Context, q Querier, m *Media) error {
	err := q.QueryRow(ctx, `INSERT INTO media (id, user_id, sha256, mimetype, size, look_at) VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
		ON CONFLICT (id) DO UPDATE SET used_at = now(), look_at = EXCLUDED.look_at, mimetype = EXCLUDED.mimetype, size = EXCLUDED.size RETURNING created_at`,
		m.ID, m.UserID, m.SHA256, m.MIMEType, m.Size, MediaKept.Seconds()).Scan(&m.CreatedAt)
	return err
}

// StoreMedia is step 3: the blob is there. It says false if the row is gone, and its user with it.
func StoreMedia(ctx context.Context, q Querier, id uuid.UUID) (bool, error) {
	tag, err := q.Exec(ctx, `UPDATE media SET stored_at = coalesce(stored_at, now()) WHERE id = $1`, id)
	return tag.RowsAffected() == 1, err
}

// UseMedia finds a user's medium for a new message and keeps it from upkeep until the message is stored, which has to be
// within MediaKept less an hour. ErrNoMedia says that there is none.
func UseMedia(ctx context.Context, q Querier, user, id uuid.UUID) (*Media, error) {
	m, err := scanMedia(q.QueryRow(ctx, `WITH used AS (
			UPDATE media SET used_at = now(), look_at = now() + make_interval(secs => $3)
			WHERE id = $1 AND user_id = $2 AND stored_at IS NOT NULL AND used_at < now() - make_interval(secs => $4) RETURNING `+mediaColumns+`)
		SELECT * FROM used UNION ALL
		SELECT `+mediaColumns+` FROM media WHERE id = $1 AND user_id = $2 AND stored_at IS NOT NULL AND used_at >= now() - make_interval(secs => $4) LIMIT 1`,
		id, user, MediaKept.Seconds(), mediaFresh.Seconds()))
	if ok, err := Found(err); err != nil || !ok {
		if err == nil {
			err = ErrNoMedia
		}
		return nil, err
	}
	return m, nil
}

// MediaOf finds a user's medium to be read; with a session, only if one of its messages refers to it.
func MediaOf(ctx context.Context, q Querier, user uuid.UUID, session *uuid.UUID, id uuid.UUID) (*Media, error) {
	m, err := scanMedia(q.QueryRow(ctx, `SELECT `+mediaColumns+` FROM media m WHERE id = $1 AND user_id = $2 AND stored_at IS NOT NULL
		AND ($3::uuid IS NULL OR EXISTS (SELECT 1 FROM messages WHERE media_id = m.id AND session_uid = $3))`, id, user, session))
	if ok, err := Found(err); err != nil || !ok {
		if err == nil {
			err = ErrNoMedia
		}
		return nil, err
	}
	return m, nil
}

// MediaHolder finds the user of a session that a worker holds, or has just held, under the given term. ok is false if it is
// none of that worker's.
func MediaHolder(ctx context.Context, q Querier, worker string, term int64, session uuid.UUID) (user uuid.UUID, ok bool, err error) {
	err = q.QueryRow(ctx, `SELECT s.user_id FROM sessions s JOIN workers w ON w.id = $1 AND w.term = $2 AND w.removed_at IS NULL
		WHERE s.uid = $3 AND $1 IN (s.worker_id, s.moved_from, s.moving_to)`, worker, term, session).Scan(&user)
	ok, err = Found(err)
	return user, ok, err
}
