package models

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/placement"
	"kurir/tracing"
	"kurir/webhook"
)

// Kinds of the jobs that carry out what a session's owner wants of it. Each does what the rows say, so a session has at
// most one of a kind at a time.
const (
	KindStartSession  = "session:start"
	KindStopSession   = "session:stop"
	KindLogoutSession = "session:logout"
)

// ErrLoggingOut says that the phone is still being told to forget the device: a session that starts now would be linked.
var ErrLoggingOut = fault.New(fault.Conflict, "session_logging_out", "The session is still being logged out. Try again in a moment.").After(time.Second)

// Ended reports whether a session that should be stopped or logged out is.
func (s *Session) Ended() bool {
	return s.WorkerID == nil && s.Status == SessionDisconnected && s.Reason != nil && *s.Reason == strings.ToLower(s.Desired) &&
		(s.Desired != DesiredLoggedOut || s.LinkedAt == nil)
}

// lockLive locks a session that is not deleted, so that what its owner wants of it comes one after the other.
func lockLive(ctx context.Context, tx pgx.Tx, uid uuid.UUID) (*Session, error) {
	s := &Session{UID: uid}
	err := tx.QueryRow(ctx, `SELECT id, user_id, worker_id, phone_number, desired, status, reason, epoch, moving_to, engine, linked_at
		FROM sessions WHERE uid = $1 AND deleted_at IS NULL FOR NO KEY UPDATE`, uid).
		Scan(&s.ID, &s.UserID, &s.WorkerID, &s.PhoneNumber, &s.Desired, &s.Status, &s.Reason, &s.Epoch, &s.MovingTo, &s.Engine, &s.LinkedAt)
	if ok, err := Found(err); err != nil {
		return nil, err
	} else if !ok {
		return nil, ErrGone
	}
	return s, nil
}

// StopSession has a session let go of by its worker; credentials and pending messages stay. From here on it takes no message.
// It returns the job that does it, which may be one that is under way already. One that is stopped or logged out stays so.
func StopSession(ctx context.Context, tx pgx.Tx, uid uuid.UUID) (job uuid.UUID, err error) {
	s, err := lockLive(ctx, tx, uid)
	if err != nil {
		return job, err
	}
	if s.Desired == DesiredRunning {
		if err := end(ctx, tx, s, DesiredStopped); err != nil {
			return job, err
		}
	}
	return orderJob(ctx, tx, s, KindStopSession)
}

// LogOutSession has a session's device unlinked, and cancels what waits to be sent.
func LogOutSession(ctx context.Context, tx pgx.Tx, uid uuid.UUID) (job uuid.UUID, webhooks []Woken, err error) {
	s, err := lockLive(ctx, tx, uid)
	if err != nil {
		return job, nil, err
	}
	if s.Desired != DesiredLoggedOut {
		if err := end(ctx, tx, s, DesiredLoggedOut); err != nil {
			return job, nil, err
		}
		cancelled, err := cancelMessages(ctx, tx, s, "logged_out", "The session was logged out.", MessagePending)
		if err != nil {
			return job, nil, err
		}
		if webhooks, err = Emit(ctx, tx, cancelled); err != nil {
			return job, nil, err
		}
	}
	job, err = orderJob(ctx, tx, s, KindLogoutSession)
	return job, webhooks, err
}

// end changes what should be of a session that is locked, and closes its lane, as ingest does in this order.
func end(ctx context.Context, tx pgx.Tx, s *Session, desired string) error {
	if _, err := tx.Exec(ctx, `UPDATE sessions SET desired = $2, moving_to = NULL, trouble_at = NULL, qr_code = NULL, qr_expires_at = NULL, updated_at = now()
		WHERE uid = $1`, s.UID, desired); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `UPDATE lanes SET open = false WHERE id = $1`, s.UID)
	return err
}

// StartSession has a session run again, on its worker if it still has one, else on one that has room (ErrNoWorker). One that
// runs is left as it is, unless anew asks for a new connection, or the network has ended the old one for good. It
// always gets a new epoch, so that a late call of the stop or the connection before reaches nothing.
func StartSession(ctx context.Context, tx pgx.Tx, uid uuid.UUID, anew bool) (job uuid.UUID, webhooks []Woken, err error) {
	s, err := lockLive(ctx, tx, uid)
	if err != nil {
		return job, nil, err
	}
	over := s.Status == SessionDisconnected || s.Status == SessionError
	switch {
	case s.Desired == DesiredLoggedOut && !s.Ended():
		return job, nil, ErrLoggingOut
	case s.Desired == DesiredRunning && (s.WorkerID == nil || !anew && !over):
	case s.Desired == DesiredRunning && (s.MovingTo != nil || s.Reason != nil && *s.Reason == "migrating"):
		return job, nil, ErrMigrating
	default:
		if webhooks, err = run(ctx, tx, s, anew); err != nil {
			return job, nil, err
		}
	}
	job, err = orderJob(ctx, tx, s, KindStartSession)
	return job, webhooks, err
}

func run(ctx context.Context, tx pgx.Tx, s *Session, anew bool) ([]Woken, error) {
	reason := assignStart
	if anew && s.Desired == DesiredRunning {
		reason = assignRestart
	}
	at := assignment{session: s.UID}
	if s.WorkerID != nil {
		at.worker = *s.WorkerID
	} else {
		workers, err := lockFleet(ctx, tx)
		if err != nil {
			return nil, err
		}
		var room bool
		if at.worker, room = placement.Pick(workers[s.Engine]); !room {
			return nil, ErrNoWorker
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE sessions SET desired = 'RUNNING', reason = NULL,
		status = CASE WHEN linked_at IS NULL THEN 'INIT' ELSE 'RECONNECTING' END WHERE uid = $1`, s.UID); err != nil {
		return nil, err
	}
	if s.LinkedAt != nil { // messages are taken at once, and wait for the connection
		if _, err := tx.Exec(ctx, `UPDATE lanes SET open = true WHERE id = $1`, s.UID); err != nil {
			return nil, err
		}
	}
	return assignAndEmit(ctx, tx, []assignment{at}, reason)
}

// orderJob adds a job for a session that is locked, or finds the one of its kind that is open, and makes that due now.
func orderJob(ctx context.Context, tx pgx.Tx, s *Session, kind string) (job uuid.UUID, err error) {
	for { // the one that is open may end between the two statements
		err = tx.QueryRow(ctx, `INSERT INTO jobs (id, kind, user_id, session_uid, worker_id, trace) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT DO NOTHING RETURNING id`, NewID(), kind, s.UserID, s.UID, s.WorkerID, tracing.Carried(ctx)).Scan(&job)
		if ok, err := Found(err); err != nil || ok {
			return job, err
		}
		err = tx.QueryRow(ctx, `UPDATE jobs SET run_at = least(run_at, now()) WHERE session_uid = $1 AND kind = $2 AND status IN ('QUEUED', 'RUNNING')
			RETURNING id`, s.UID, kind).Scan(&job)
		if ok, err := Found(err); err != nil || ok {
			return job, err
		}
	}
}

// EndSession notes that nobody holds a session any more that should be stopped or logged out: the worker's room is free. False:
// the owner has changed his mind since s was read, or it was assigned anew.
func EndSession(ctx context.Context, db *DB, s *Session) (ended bool, webhooks []Woken, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		reason := strings.ToLower(s.Desired)
		tag, err := tx.Exec(ctx, `UPDATE sessions SET status = 'DISCONNECTED', reason = $4, qr_code = NULL, qr_expires_at = NULL, trouble_at = NULL,
			linked_at = CASE WHEN desired = 'LOGGED_OUT' THEN NULL ELSE linked_at END WHERE uid = $1 AND desired = $2 AND epoch = $3`,
			s.UID, s.Desired, s.Epoch, reason)
		if ended = err == nil && tag.RowsAffected() == 1; !ended {
			return err
		}
		if _, err := assignAndEmit(ctx, tx, []assignment{{session: s.UID}}, assignEnd); err != nil { // tells nobody: the status is final already
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE sessions SET moved_from = NULL, moved_reason = NULL WHERE uid = $1`, s.UID); err != nil {
			return err
		}
		after := *s
		if s.Desired == DesiredLoggedOut {
			after.LinkedAt = nil
		}
		webhooks, err = Emit(ctx, tx, []Event{{Session: s.UID, Type: "session.status", At: time.Now(),
			Data: webhook.SessionStatus{Status: SessionStatusName(SessionDisconnected), Reason: &reason, PhoneNumber: after.LinkedNumber()}}})
		return err
	})
	return ended, webhooks, err
}

// PlaceToUnlink gives a session that nobody holds to a worker with room, so that its device can be unlinked: only who is
// connected can do that. False: nobody has room, or it was assigned meanwhile.
func PlaceToUnlink(ctx context.Context, db *DB, s *Session) (placed bool, err error) {
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		placed = false
		tag, err := tx.Exec(ctx, `UPDATE sessions SET status = 'DISCONNECTED', reason = lower(desired) WHERE uid = $1 AND epoch = $2 AND worker_id IS NULL
			AND desired IN ('LOGGED_OUT', 'DELETED') AND released_at IS NULL`, s.UID, s.Epoch)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		workers, err := lockFleet(ctx, tx)
		if err != nil {
			return err
		}
		to, ok := placement.Pick(workers[s.Engine])
		if !ok {
			return nil
		}
		placed = true
		_, err = assignAndEmit(ctx, tx, []assignment{{s.UID, to}}, assignUnlink)
		return err
	})
	return placed, err
}

// EndMissing adds jobs for sessions that should be stopped or logged out, are not, and that nobody works on.
func EndMissing(ctx context.Context, q Querier, limit int) (stops, logouts []uuid.UUID, err error) {
	rows, err := q.Query(ctx, `INSERT INTO jobs (id, kind, user_id, session_uid, worker_id)
		SELECT kurir_uuid_v7(), CASE desired WHEN 'STOPPED' THEN $1 ELSE $2 END, user_id, uid, worker_id FROM sessions s
		WHERE desired IN ('STOPPED', 'LOGGED_OUT') AND (worker_id IS NOT NULL OR status <> 'DISCONNECTED' OR desired = 'LOGGED_OUT' AND linked_at IS NOT NULL)
		  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.session_uid = s.uid AND j.status IN ('QUEUED', 'RUNNING'))
		ORDER BY uid LIMIT $3 ON CONFLICT DO NOTHING RETURNING id, kind`, KindStopSession, KindLogoutSession, limit)
	if err != nil {
		return nil, nil, err
	}
	var id uuid.UUID
	var kind string
	_, err = pgx.ForEachRow(rows, []any{&id, &kind}, func() error {
		if kind == KindStopSession {
			stops = append(stops, id)
		} else {
			logouts = append(logouts, id)
		}
		return nil
	})
	return stops, logouts, err
}
