package models

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// RetireMedia is step a of upkeep: of the media whose turn it is, at most limit, those that no message refers to are not
// stored any more and are returned, to be dropped; the others' turn comes again after MediaKept. What a crash left after this
// step is due still, and returned again. It also tells how many it looked at.
func RetireMedia(ctx context.Context, q Querier, limit int) (retired []Media, looked int, err error) {
	rows, err := q.Query(ctx, `WITH due AS (
			SELECT id, EXISTS (SELECT 1 FROM messages WHERE media_id = m.id) AS needed
			FROM media m WHERE look_at <= now() ORDER BY look_at LIMIT $1 FOR UPDATE OF m SKIP LOCKED)
		UPDATE media m SET stored_at = CASE WHEN needed THEN stored_at END,
			look_at = CASE WHEN needed THEN now() + make_interval(secs => $2) ELSE look_at END
		FROM due WHERE m.id = due.id RETURNING m.id, m.user_id, m.sha256, m.mimetype, m.size, m.created_at, needed`, limit, MediaKept.Seconds())
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var m Media
		var needed bool
		if err := rows.Scan(&m.ID, &m.UserID, &m.SHA256, &m.MIMEType, &m.Size, &m.CreatedAt, &needed); err != nil {
			return nil, 0, err
		}
		looked++
		if !needed {
			retired = append(retired, m)
		}
	}
	return retired, looked, rows.Err()
}

// DropMedia is step b of upkeep: it has drop delete the blob, and deletes the row, unless somebody has begun to use the
// medium again. The row is locked meanwhile, so that an upload of the same content waits, and then finds nothing.
func DropMedia(ctx context.Context, db *DB, id uuid.UUID, drop func(context.Context) error) (dropped bool, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		dropped = false
		err := tx.QueryRow(ctx, `SELECT id FROM media WHERE id = $1 AND stored_at IS NULL AND look_at <= now() FOR UPDATE`, id).Scan(&id)
		if ok, err := Found(err); err != nil || !ok {
			return err
		}
		if err := drop(ctx); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM media WHERE id = $1`, id)
		dropped = tag.RowsAffected() == 1
		return err
	})
	return dropped, err
}

// AdoptMedia gives blobs that have no row one that is due to be dropped, so that dropping is safe against an upload of the
// same content. It returns the blobs whose user is gone: nobody can upload for him, so they need no row.
func AdoptMedia(ctx context.Context, q Querier, blobs []Media) (orphans []Media, err error) {
	ids, users, sums, sizes := make([]uuid.UUID, len(blobs)), make([]uuid.UUID, len(blobs)), make([][]byte, len(blobs)), make([]int64, len(blobs))
	for i, b := range blobs {
		ids[i], users[i], sums[i], sizes[i] = b.ID, b.UserID, b.SHA256, b.Size
	}
	_, err = q.Exec(ctx, `INSERT INTO media (id, user_id, sha256, mimetype, size, used_at, look_at)
		SELECT b.id, b.user_id, b.sha256, 'application/octet-stream', b.size, now() - make_interval(secs => $5), now()
		FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bigint[]) AS b (id, user_id, sha256, size)
		JOIN users u ON u.id = b.user_id FOR KEY SHARE OF u
		ON CONFLICT (id) DO NOTHING`, ids, users, sums, sizes, MediaKept.Seconds())
	if err != nil {
		return nil, err
	}
	rows, err := q.Query(ctx, `SELECT DISTINCT b.user_id FROM unnest($1::uuid[]) AS b (user_id) WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = b.user_id)`, users)
	if err != nil {
		return nil, err
	}
	gone, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, err
	}
	lost := make(map[uuid.UUID]bool, len(gone))
	for _, user := range gone {
		lost[user] = true
	}
	for _, b := range blobs {
		if lost[b.UserID] {
			orphans = append(orphans, b)
		}
	}
	return orphans, nil
}
