package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"

	"kurir/fault"
	"kurir/limits"
)

// States of a session: what is.
const (
	SessionInit         = "INIT"
	SessionQRRequired   = "QR_REQUIRED"
	SessionConnected    = "CONNECTED"
	SessionDisconnected = "DISCONNECTED"
	SessionReconnecting = "RECONNECTING"
	SessionError        = "ERROR"
)

// What should be.
const (
	DesiredRunning   = "RUNNING"
	DesiredStopped   = "STOPPED"
	DesiredLoggedOut = "LOGGED_OUT"
	DesiredDeleted   = "DELETED"
)

// Session is one WhatsApp number of a tenant. UID is its identity inside Kurir and at workers, ID its public name.
type Session struct {
	bun.BaseModel `bun:"table:sessions,alias:s"`

	UID         uuid.UUID `bun:",pk,type:uuid"`
	ID          string
	UserID      uuid.UUID `bun:"type:uuid"`
	WorkerID    *string
	Name        string
	PhoneNumber *string
	Desired     string
	Status      string
	Reason      *string
	Epoch       int64
	HeldTerm    int64
	MovingTo    *string
	QRCode      *string
	QRExpiresAt *time.Time
	Engine      string
	Metadata    json.RawMessage `bun:"type:jsonb,nullzero"`
	Settings    *Settings       `bun:"type:jsonb,nullzero"`
	Proxy       []byte          // sealed, see SealProxy; nil: none
	LinkedAt    *time.Time
	LastSeenAt  *time.Time
	CreatedAt   time.Time
	UpdatedAt   time.Time
	DeletedAt   *time.Time
	ReleasedAt  *time.Time

	CooldownUntil  *time.Time // the network asked for a pause
	CooldownReason *string

	SendingPausedAt *time.Time // since then an administrator has nothing of it sent
	SuspendedAt     *time.Time // it ran when its owner was deactivated
	HeldBack        bool       `bun:",scanonly"` // by an administrator: it, its owner's or everybody's sending; where the query asks for it
}

// LinkedNumber is the number that is linked now. PhoneNumber outlives a log-out: by it we see that another one is linked next, and
// what comes late is told of the number that it came to.
func (s *Session) LinkedNumber() *string {
	if s.LinkedAt == nil {
		return nil
	}
	return s.PhoneNumber
}

// Faults of the making of sessions.
var (
	ErrSessionTaken    = fault.New(fault.Conflict, "session_exists", "This sessionId is taken. Choose another one, or leave it out.")
	ErrSessionDeleting = fault.New(fault.Conflict, "session_deleting", "A session with this sessionId is still being deleted. Try again in a moment.")
	ErrSessionLimit    = fault.New(fault.Forbidden, "session_limit", "Your tier's number of sessions is reached.")
)

// CreateSession makes a session with its lane, under the owner's lock so that the tier holds, and on a worker that has
// room, under the placement lock so that none is overfilled. It is one transaction's work: tx.
func CreateSession(ctx context.Context, tx bun.Tx, s *Session, tiers limits.Config) error {
	user, err := LockUser(ctx, tx, s.UserID)
	if err != nil {
		return err
	}
	have, err := tx.NewSelect().Model((*Session)(nil)).Where("user_id = ?", s.UserID).Where("deleted_at IS NULL").Count(ctx)
	if err != nil {
		return err
	}
	if d := limits.CanCreateSession(user.Limits(tiers), int(have)); !d.Allowed {
		refusal, sessions := *ErrSessionLimit, "sessions"
		if d.Limit == 1 {
			sessions = "session"
		}
		refusal.Sentence = fmt.Sprintf("Session limit exceeded. %s allows %d %s, and there are %d.", user.LimitedBy(user.MaxSessions), d.Limit, sessions, have)
		return &refusal
	}
	if err := nameIsFree(ctx, tx, s); err != nil {
		return err
	}
	worker, engine, err := place(ctx, tx)
	if err != nil {
		return err
	}
	s.WorkerID, s.Engine, s.Epoch = &worker, engine, 1
	s.Status, s.Desired = SessionInit, DesiredRunning
	if _, err := tx.NewInsert().Model(s).Exec(ctx); err != nil {
		if IsUnique(err, "sessions_id_key") {
			return ErrSessionTaken
		}
		return err
	}
	return insertLane(ctx, tx, s.UID, LaneMessages, false)
}

// nameIsFree checks the public name against live sessions and tombstones. Only the former owner may take a name
// again, and only when the worker has let go of the former session. A lock on the name orders those who ask at once.
func nameIsFree(ctx context.Context, tx bun.Tx, s *Session) error {
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", "session:"+s.ID); err != nil {
		return err
	}
	var former []Session
	if err := tx.NewSelect().Model(&former).Where("id = ?", s.ID).Scan(ctx); err != nil {
		return err
	}
	for i := range former {
		switch f := &former[i]; {
		case f.DeletedAt == nil, f.UserID != s.UserID:
			return ErrSessionTaken
		case f.ReleasedAt == nil:
			return ErrSessionDeleting
		}
	}
	return nil
}

// SessionOf finds a live session of a user by its public name. Another tenant's is as absent as none.
func SessionOf(ctx context.Context, db bun.IDB, user uuid.UUID, id string) (*Session, error) {
	s := new(Session)
	err := db.NewSelect().Model(s).Apply(withHeldBack).Where("id = ?", id).Where("user_id = ?", user).Where("deleted_at IS NULL").Scan(ctx)
	return s, err
}

// SessionByName finds a live session of whatever user by its public name.
func SessionByName(ctx context.Context, db bun.IDB, id string) (*Session, error) {
	s := new(Session)
	err := db.NewSelect().Model(s).Apply(withHeldBack).Where("id = ?", id).Where("deleted_at IS NULL").Scan(ctx)
	return s, err
}

// SessionByUID finds a session, deleted ones too.
func SessionByUID(ctx context.Context, db bun.IDB, uid uuid.UUID) (*Session, error) {
	s := new(Session)
	err := db.NewSelect().Model(s).Apply(withHeldBack).Where("uid = ?", uid).Scan(ctx)
	return s, err
}

// SessionsOf lists a user's live sessions, newest first, those before the given uid (zero: from the newest).
func SessionsOf(ctx context.Context, db bun.IDB, user, before uuid.UUID, limit int) ([]Session, error) {
	var list []Session
	q := db.NewSelect().Model(&list).Apply(withHeldBack).Where("user_id = ?", user).Where("deleted_at IS NULL").OrderExpr("uid DESC").Limit(int64(limit))
	if before != uuid.Nil {
		q = q.Where("uid < ?", before)
	}
	return list, q.Scan(ctx)
}

// HeldBy is a session with the worker that should hold it, nil if it has none.
type HeldBy struct {
	Session `bun:",extend"`
	Worker  *Worker `bun:"rel:belongs-to,join:worker_id=id"`
}

// SessionWithWorker finds a session and its worker as they are at one moment: read one after the other, a new process under
// the worker's ID could be asked to hold what was the former one's.
func SessionWithWorker(ctx context.Context, db bun.IDB, uid uuid.UUID) (*HeldBy, error) {
	h := new(HeldBy)
	err := db.NewSelect().Model(h).Relation("Worker").Where("s.uid = ?", uid).Scan(ctx)
	return h, err
}

// KindCreateSession is the kind of the jobs that have a worker hold a session.
const KindCreateSession = "session:create"

// CreateMissing adds those jobs for sessions that should run and that their worker, though alive, has not confirmed in its
// present term: it is new, or came back, or a call to it failed.
func CreateMissing(ctx context.Context, q Querier, limit int) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `INSERT INTO jobs (id, kind, session_uid) SELECT kurir_uuid_v7(), $1, s.uid
		FROM workers w CROSS JOIN LATERAL (SELECT uid FROM sessions
			WHERE worker_id = w.id AND desired = 'RUNNING' AND held_term <> w.term OFFSET 0) s
		WHERE w.lease_expires_at > now() AND w.removed_at IS NULL
		  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.session_uid = s.uid AND j.status IN ('QUEUED', 'RUNNING'))
		ORDER BY s.uid LIMIT $2 ON CONFLICT DO NOTHING RETURNING id`, KindCreateSession, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// DeleteSession leaves a tombstone: the session is absent for its owner from now on, takes no message, and what waited to
// be sent is cancelled. What is on its way at this moment can no longer be told: UNKNOWN. It says whether
// there was something to delete.
func DeleteSession(ctx context.Context, tx bun.Tx, uid uuid.UUID) (bool, error) {
	// The lane first: an accept in flight has it locked, and a later one finds it closed.
	if _, err := tx.NewUpdate().Model((*Lane)(nil)).Set("open = false").Set("next_due_at = NULL").Where("id = ?", uid).Exec(ctx); err != nil {
		return false, err
	}
	res, err := tx.NewUpdate().Model((*Session)(nil)).
		Set("desired = ?", DesiredDeleted).Set("deleted_at = now()").Set("updated_at = now()").
		Set("status = ?", SessionDisconnected).Set("reason = 'deleted'").Set("qr_code = NULL").
		Set("moving_to = NULL").Set("trouble_at = NULL").
		Where("uid = ?", uid).Where("deleted_at IS NULL").Exec(ctx)
	if ok, err := changed(res, err); err != nil || !ok {
		return false, err
	}
	if err := DeactivateSessionKeys(ctx, tx, uid); err != nil {
		return false, err
	}
	return true, endOfSession(ctx, tx, uid)
}

// ReleaseTombstone remembers that no worker holds a deleted session any more: its room and its name are free. Until then its device
// may have to be unlinked, by way of its proxy.
func ReleaseTombstone(ctx context.Context, db bun.IDB, uid uuid.UUID) error {
	_, err := db.NewUpdate().Model((*Session)(nil)).Set("released_at = now()").Set("worker_id = NULL").Set("held_term = 0").Set("proxy = NULL").
		Where("uid = ?", uid).Where("desired = ?", DesiredDeleted).Where("released_at IS NULL").Exec(ctx)
	return err
}
