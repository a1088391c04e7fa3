package models

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/placement"
	"kurir/tracing"
	"kurir/webhook"
)

// Why a session moves.
const (
	MoveOffline   = "offline"   // its worker's lease lapsed, or it left
	MoveDrain     = "drain"     // an administrator drains its worker
	MoveRemoved   = "removed"   // or removes it
	MoveShutdown  = "shutdown"  // its worker is told to stop
	MoveRebalance = "rebalance" // its worker has too much to do
	MoveNetwork   = "network"   // its worker cannot reach the network
	MoveRefused   = "refused"   // its worker cannot hold it
	MoveAdmin     = "admin"     // an administrator moves this one
)

// Why a session is assigned without moving: see lifecycle.go.
const (
	assignStart   = "start"
	assignRestart = "restart"
	assignUnlink  = "unlink"
	assignEnd     = "end"
)

// MoveParams are the parameters of a job that moves a session.
type MoveParams struct {
	From   string `json:"from"`
	Epoch  int64  `json:"epoch"` // that the session had there; a higher one says that it has moved
	Reason string `json:"reason"`
}

// KindMigrateSession is the kind of those jobs. It stands here because the transactions that free a session insert them.
const KindMigrateSession = "session:migrate"

// Faults of moving.
var (
	ErrNotRunning  = fault.New(fault.Conflict, "session_not_running", "The session is not running, so there is nothing to move.")
	ErrMigrating   = fault.New(fault.Conflict, "session_migrating", "The session is being moved already.")
	ErrAlreadyHere = fault.New(fault.Conflict, "already_there", "The session is on this worker.")
	ErrTarget      = fault.New(fault.Conflict, "worker_not_ready", "The worker is not online, has another engine, or has no room.")
)

// assignment gives a session to a worker, or to none.
type assignment struct {
	session uuid.UUID
	worker  string // "": nobody has room
}

// assign is the one place where sessions change workers. Its caller has made sure that nobody holds them: the worker
// has confirmed the release, or its lease is over. The epoch is raised, so that whoever held them before is refused from
// now on. The events that tell of it are its caller's to emit.
func assign(ctx context.Context, tx pgx.Tx, list []assignment, reason string) (events []Event, err error) {
	uids, workers := make([]uuid.UUID, len(list)), make([]string, len(list))
	for i, a := range list {
		uids[i], workers[i] = a.session, a.worker
	}
	shown := "migrating"
	if reason == assignStart || reason == assignRestart {
		shown = reason + "ing"
	}
	// A session that the network has ended for good, or that nobody scanned, is no less ended elsewhere: unless it is its worker that
	// the network refuses.
	rows, err := tx.Query(ctx, `WITH was AS (
			SELECT s.uid, s.status, s.reason, nullif(t.worker, '') AS worker,
				s.status IN ('DISCONNECTED', 'ERROR') AND s.reason IS DISTINCT FROM $5 AS ended FROM unnest($1::uuid[], $2::text[]) AS t (uid, worker)
			JOIN sessions s ON s.uid = t.uid)
		UPDATE sessions s SET worker_id = was.worker, epoch = s.epoch + 1, held_term = 0, held_at = NULL, moving_to = NULL,
			moved_from = coalesce(s.moved_from, s.worker_id), moved_reason = CASE WHEN s.moved_from IS NULL THEN $3 ELSE s.moved_reason END,
			moved_at = now(), trouble_at = NULL, qr_code = NULL, qr_expires_at = NULL, updated_at = now(),
			status = CASE WHEN was.ended THEN s.status WHEN s.linked_at IS NULL THEN 'INIT' ELSE 'RECONNECTING' END,
			reason = CASE WHEN was.ended THEN s.reason WHEN was.worker IS NULL THEN 'no_worker_available' ELSE $4 END
		FROM was WHERE s.uid = was.uid
		RETURNING s.uid, s.status, s.reason, s.phone_number, s.linked_at, was.status IS DISTINCT FROM s.status OR was.reason IS DISTINCT FROM s.reason`,
		uids, workers, reason, shown, reasonOutdated)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var s Session
	var news bool
	_, err = pgx.ForEachRow(rows, []any{&s.UID, &s.Status, &s.Reason, &s.PhoneNumber, &s.LinkedAt, &news}, func() error {
		if news {
			events = append(events, Event{Session: s.UID, Type: "session.status", At: now,
				Data: webhook.SessionStatus{Status: SessionStatusName(s.Status), Reason: s.Reason, PhoneNumber: s.LinkedNumber()}})
		}
		return nil
	})
	return events, err
}

// assignAndEmit is assign for transactions that are rare.
func assignAndEmit(ctx context.Context, tx pgx.Tx, list []assignment, reason string) (webhooks []Woken, err error) {
	events, err := assign(ctx, tx, list, reason)
	if err != nil {
		return nil, err
	}
	return Emit(ctx, tx, events)
}

// insertMoves adds jobs that have the sessions' new workers hold them. A session with such a job already keeps that: it
// does what the rows say, and is due at once.
func insertMoves(ctx context.Context, tx pgx.Tx, list []Moving, user *uuid.UUID) ([]uuid.UUID, error) {
	ids, uids, froms, epochs, reasons := make([]uuid.UUID, len(list)), make([]uuid.UUID, len(list)), make([]string, len(list)), make([]int64, len(list)), make([]string, len(list))
	for i, m := range list {
		if m.Job == uuid.Nil {
			m.Job = NewID()
		}
		ids[i], uids[i], froms[i], epochs[i], reasons[i] = m.Job, m.Session, m.From, m.Epoch, m.Reason
	}
	if _, err := tx.Exec(ctx, `UPDATE jobs SET run_at = now() WHERE session_uid = ANY($1) AND status = 'QUEUED'`, uids); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, `INSERT INTO jobs (id, kind, user_id, session_uid, worker_id, params, trace)
		SELECT t.id, $6, $7, t.uid, nullif(t.source, ''), jsonb_build_object('from', t.source, 'epoch', t.epoch, 'reason', t.reason), $8
		FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::text[]) AS t (id, uid, source, epoch, reason)
		ON CONFLICT DO NOTHING RETURNING id`, ids, uids, froms, epochs, reasons, KindMigrateSession, user, tracing.Carried(ctx))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Moving is a session that is to move, or has been given to another worker.
type Moving struct {
	Session uuid.UUID
	From    string
	Epoch   int64 // at From
	Reason  string
	Job     uuid.UUID // the ID of its job; zero: one is made
}

// MoveSession reserves room for a session at another worker, to if given, and adds the job of the given ID that moves it.
func MoveSession(ctx context.Context, tx pgx.Tx, job uuid.UUID, s *Session, to, reason string, user *uuid.UUID) (target string, err error) {
	target, err = ReserveMove(ctx, tx, s.UID, s.Epoch, to)
	if err != nil {
		return "", err
	}
	jobs, err := insertMoves(ctx, tx, []Moving{{Session: s.UID, From: *s.WorkerID, Epoch: s.Epoch, Reason: reason, Job: job}}, user)
	if err == nil && len(jobs) == 0 {
		err = ErrMigrating
	}
	return target, err
}

// SetMoveEpoch has a job move a session on from where it has got to.
func SetMoveEpoch(ctx context.Context, q Querier, job uuid.UUID, epoch int64) error {
	_, err := q.Exec(ctx, `UPDATE jobs SET params = jsonb_set(params, '{epoch}', to_jsonb($2::bigint)) WHERE id = $1`, job, epoch)
	return err
}

// ReserveMove keeps room for a session of the given epoch at another worker: to if given, else the one where room is
// reserved already, else the best.
func ReserveMove(ctx context.Context, tx pgx.Tx, uid uuid.UUID, epoch int64, to string) (target string, err error) {
	var engine string
	var at, reserved *string
	err = tx.QueryRow(ctx, `SELECT engine, worker_id, moving_to FROM sessions WHERE uid = $1 AND epoch = $2 AND desired = 'RUNNING' FOR NO KEY UPDATE`,
		uid, epoch).Scan(&engine, &at, &reserved)
	if ok, err := Found(err); err != nil {
		return "", err
	} else if !ok || at == nil {
		return "", ErrNotRunning
	}
	if to == *at {
		return "", ErrAlreadyHere
	}
	workers, err := lockFleet(ctx, tx)
	if err != nil {
		return "", err
	}
	if reserved != nil && (to == "" || to == *reserved) {
		if w, ok := workers.worker(engine, *reserved); ok && w.Online {
			return *reserved, nil
		}
	}
	if to != "" {
		w, ok := workers.worker(engine, to)
		if !ok || !w.Room() {
			return "", ErrTarget
		}
	} else if to, _ = placement.Pick(workers.without(engine, *at)); to == "" {
		return "", ErrNoWorker
	}
	_, err = tx.Exec(ctx, `UPDATE sessions SET moving_to = $2, updated_at = now() WHERE uid = $1`, uid, to)
	return to, err
}

// CancelMove gives the room back that a move has reserved.
func CancelMove(ctx context.Context, q Querier, uid uuid.UUID) error {
	_, err := q.Exec(ctx, `UPDATE sessions SET moving_to = NULL WHERE uid = $1 AND moving_to IS NOT NULL`, uid)
	return err
}

// FreeReservations gives back room that is reserved for moves that nobody works on.
func FreeReservations(ctx context.Context, q Querier) (int, error) {
	tag, err := q.Exec(ctx, `UPDATE sessions s SET moving_to = NULL WHERE moving_to IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.session_uid = s.uid AND j.kind = $1 AND j.status IN ('QUEUED', 'RUNNING'))`, KindMigrateSession)
	return int(tag.RowsAffected()), err
}

// Moved is what became of a session that its worker has released.
type Moved struct {
	OK       bool // false: somebody else has moved or deleted it meanwhile
	Worker   string
	Webhooks []Woken
}

// What subscribers are told of a move is in no trace, here and in ConfirmHeld: one order moves sessions of many tenants, who would know by its
// trace's ID that they had shared a worker.

// FinishMove gives a session, which its worker has released in the given term at the given epoch, to the worker where room is
// reserved for it. If that is gone, to another one; the former worker included, since it is better than none.
//
// The worker's row is locked so that no new process registers under its ID meanwhile. If one has, the release was the former
// process's and says nothing about this one.
func FinishMove(ctx context.Context, db *DB, uid uuid.UUID, epoch, term int64, reason string) (m Moved, err error) {
	err = db.InPgxTxLast(ctx, func(tx pgx.Tx, last *pgx.Batch) error {
		m = Moved{}
		var engine, at string
		var reserved *string
		err := tx.QueryRow(ctx, `SELECT s.engine, s.worker_id, s.moving_to FROM sessions s JOIN workers w ON w.id = s.worker_id
			WHERE s.uid = $1 AND s.epoch = $2 AND s.desired = 'RUNNING' AND w.term = $3 FOR NO KEY UPDATE OF s FOR KEY SHARE OF w`,
			uid, epoch, term).Scan(&engine, &at, &reserved)
		if m.OK, err = Found(err); err != nil || !m.OK {
			return err
		}
		if m.Worker, err = stillThere(ctx, tx, reserved, engine); err != nil {
			return err
		}
		if m.Worker == "" {
			if m.Worker, err = elsewhere(ctx, tx, engine, at); err != nil {
				return err
			}
		}
		events, err := assign(ctx, tx, []assignment{{uid, m.Worker}}, reason)
		if err != nil {
			return err
		}
		return queueEmit(last, events, &m.Webhooks)
	})
	return m, err
}

// stillThere is the worker where room is reserved, if it is still online. The room is taken already, so this needs no lock
// on placement.
func stillThere(ctx context.Context, tx pgx.Tx, reserved *string, engine string) (worker string, err error) {
	if reserved == nil {
		return "", nil
	}
	err = tx.QueryRow(ctx, `SELECT id FROM workers WHERE id = $1 AND status = 'ONLINE' AND lease_expires_at > now() AND removed_at IS NULL AND engine = $2`,
		*reserved, engine).Scan(&worker)
	_, err = Found(err)
	return worker, err
}

// elsewhere picks a worker for a session that has left one, which is better than none if nobody else has room.
func elsewhere(ctx context.Context, tx pgx.Tx, engine, left string) (string, error) {
	workers, err := lockFleet(ctx, tx)
	if err != nil {
		return "", err
	}
	workers.count(engine, left, -1)
	if to, ok := placement.Pick(workers.without(engine, left)); ok {
		return to, nil
	}
	to, _ := placement.Pick(workers[engine])
	return to, nil
}

// RaiseEpoch has a session created anew where it is: its worker says that it let go of the present epoch.
func RaiseEpoch(ctx context.Context, q Querier, uid uuid.UUID, worker string, epoch int64) error {
	_, err := q.Exec(ctx, `UPDATE sessions SET epoch = epoch + 1, held_term = 0, held_at = NULL, updated_at = now()
		WHERE uid = $1 AND worker_id = $2 AND epoch = $3 AND desired IN ('RUNNING', 'LOGGED_OUT', 'DELETED') AND moving_to IS NULL`, uid, worker, epoch)
	return err
}

// MovedOn lists those of the sessions that have a higher epoch than the given one, or are gone.
func MovedOn(ctx context.Context, q Querier, sessions []uuid.UUID, epochs []int64) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `SELECT t.uid FROM unnest($1::uuid[], $2::bigint[]) AS t (uid, epoch)
		WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.uid = t.uid AND s.epoch = t.epoch AND s.desired = 'RUNNING')`, sessions, epochs)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Held is what became of a worker's confirmation that it holds a session.
type Held struct {
	Wanted      bool // it should still hold it
	OtherProxy  bool // but by way of another proxy: nothing is confirmed
	RejectCalls bool // what it should know by now
	From        string
	Reason      string
	Took        time.Duration // since it was assigned; 0 unless it has moved
	Webhooks    []Woken
}

// ConfirmHeld remembers that a worker, in its term, holds a session at an epoch, as the session was when it was read. If the session has
// moved there, it says so to the subscribers, once.
func ConfirmHeld(ctx context.Context, db *DB, s *Session, worker string, term int64) (h Held, err error) {
	err = db.InPgxTxLast(ctx, func(tx pgx.Tx, last *pgx.Batch) error {
		h = Held{}
		var from, reason *string
		var took float64
		err := tx.QueryRow(ctx, `UPDATE sessions s SET held_term = CASE WHEN s.proxy IS NOT DISTINCT FROM $5 THEN $4::bigint ELSE 0 END, held_at = now(), moved_from = NULL, updated_at = now()
			FROM (SELECT uid, moved_from, moved_reason FROM sessions
				WHERE uid = $1 AND worker_id = $2 AND epoch = $3 AND desired = 'RUNNING' FOR NO KEY UPDATE) was
			WHERE s.uid = was.uid RETURNING was.moved_from, was.moved_reason,
				coalesce(extract(epoch FROM clock_timestamp() - s.moved_at), 0)::float8, coalesce(s.settings->'calls'->'reject' = 'true', false),
				s.proxy IS DISTINCT FROM $5`,
			s.UID, worker, s.Epoch, term, s.Proxy).Scan(&from, &reason, &took, &h.RejectCalls, &h.OtherProxy)
		if h.Wanted, err = Found(err); err != nil || from == nil || reason == nil || *from == worker {
			return err
		}
		h.From, h.Reason, h.Took = *from, *reason, time.Duration(took*float64(time.Second))
		data := webhook.SessionMigrated{From: h.From, To: worker, Reason: h.Reason}
		if err := queueAudit(last, Audit{Service: "runner", Message: "session.migrated", Details: data, Session: s.ID, Worker: worker}); err != nil {
			return err
		}
		return queueEmit(last, []Event{{Session: s.UID, Type: "session.migrated", Data: data, At: time.Now()}}, &h.Webhooks)
	})
	return h, err
}
