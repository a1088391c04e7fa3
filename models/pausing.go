package models

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
)

// Sending can be paused by a session's owner, in its settings, and by an administrator: of a session, of all sessions of a
// user, or of all there are. Each pause is one row's word, and nothing is copied: what is made later obeys it too. A claim and
// a sweep ask for all of them; what was claimed before goes out. Messages are accepted meanwhile, and wait.

// In these, s is the session. The two inner queries find an index without entries as a rule; the second one is asked once for
// a statement.
const (
	pausedByOwner = `coalesce((s.settings->>'paused')::boolean, false)`

	pausedByAdministrator = `(s.sending_paused_at IS NOT NULL
		OR EXISTS (SELECT 1 FROM users tenant WHERE tenant.id = s.user_id AND tenant.sending_paused_at IS NOT NULL)
		OR EXISTS (SELECT 1 FROM platform WHERE sending_paused_at IS NOT NULL))`
)

const waitingAdministrator = "paused_by_administrator"

// withHeldBack has a query of sessions say whether an administrator holds back their messages.
func withHeldBack(q *bun.SelectQuery) *bun.SelectQuery {
	return q.ColumnExpr("s.*").ColumnExpr(pausedByAdministrator + " AS held_back")
}

// sendingPaused is a column's next value: who pauses what is paused changes nothing.
const sendingPaused = `sending_paused_at = CASE WHEN $1 THEN coalesce(sending_paused_at, now()) END`

// PauseSession pauses the sending of a session, or resumes it, and says since when it is paused. Its lane is due then, and the
// caller wakes it.
func PauseSession(ctx context.Context, tx pgx.Tx, uid uuid.UUID, paused bool) (since *time.Time, err error) {
	err = tx.QueryRow(ctx, `UPDATE sessions SET `+sendingPaused+`, updated_at = now() WHERE uid = $2 AND deleted_at IS NULL
		RETURNING sending_paused_at`, paused, uid).Scan(&since)
	if ok, err := Found(err); err != nil {
		return nil, fmt.Errorf("pause session %s: %w", uid, err)
	} else if !ok {
		return nil, ErrGone
	}
	if paused {
		return since, nil
	}
	return nil, LanesDue(ctx, tx, []uuid.UUID{uid})
}

// PauseUser is PauseSession for all sessions of a user, those to come too. It returns the lanes to wake.
func PauseUser(ctx context.Context, tx pgx.Tx, user uuid.UUID, paused bool) (since *time.Time, lanes []uuid.UUID, err error) {
	err = tx.QueryRow(ctx, `UPDATE users SET `+sendingPaused+`, updated_at = now() WHERE id = $2 AND closed_at IS NULL RETURNING sending_paused_at`, paused, user).Scan(&since)
	if ok, err := Found(err); err != nil {
		return nil, nil, fmt.Errorf("pause user %s: %w", user, err)
	} else if !ok {
		return nil, nil, ErrNoUser
	}
	if paused {
		return since, nil, nil
	}
	rows, err := tx.Query(ctx, `SELECT uid FROM sessions WHERE user_id = $1 AND deleted_at IS NULL`, user)
	if err != nil {
		return nil, nil, err
	}
	if lanes, err = pgx.CollectRows(rows, pgx.RowTo[uuid.UUID]); err != nil {
		return nil, nil, err
	}
	return nil, lanes, LanesDue(ctx, tx, lanes)
}

// PausePlatform is PauseSession for everything. The lanes that have work are due as they are: the sweep wakes them.
func PausePlatform(ctx context.Context, tx pgx.Tx, paused bool) (since *time.Time, err error) {
	err = tx.QueryRow(ctx, `UPDATE platform SET `+sendingPaused+` RETURNING sending_paused_at`, paused).Scan(&since)
	if err != nil {
		return nil, fmt.Errorf("pause the platform: %w", err)
	}
	return since, nil
}

// PlatformPaused says since when everything is paused, nil if it isn't.
func PlatformPaused(ctx context.Context, q Querier) (since *time.Time, err error) {
	err = q.QueryRow(ctx, `SELECT sending_paused_at FROM platform`).Scan(&since)
	return since, err
}
