package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/models"
	"kurir/wire"
)

// KindMigrateSession has a session held by another worker: because its worker is gone, is emptied, has too much to do,
// cannot reach the network, or because an administrator wants it. What is accepted meanwhile waits in the lane.
const KindMigrateSession = models.KindMigrateSession

// Where a move stands, in the job's progress.
const (
	moveReserving = "reserving" // room at the next worker
	moveReleasing = "releasing" // by the present one: it finishes its sends and disconnects
	moveWaiting   = "waiting"   // for room: nobody holds the session
	moveCreating  = "creating"  // at the next one
)

const (
	releaseTimeout = 15 * time.Second // a worker gives its sends 5 s and the disconnecting another 5 s
	createTimeout  = 10 * time.Second
	moveWait       = 2 * time.Second
)

// moveProgress is the job's progress, and with the state left out its result.
type moveProgress struct {
	State     string `json:"state,omitempty"`
	SessionID string `json:"sessionId"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Reason    string `json:"reason"`
}

// migrateSession is level-triggered: each step looks at the rows and does what is next, so that it may be killed on any
// line and be run again. Room is reserved before the release, so that no session is let go of that nobody can take. Only
// when the worker has confirmed the release, or its lease is over, does the session get another one.
func (r *Runner) migrateSession(ctx context.Context, j *models.Job) (any, error) {
	var p models.MoveParams
	if err := json.Unmarshal(j.Params, &p); err != nil {
		return nil, errNoSubject.WithCause(err)
	}
	for {
		s, w, err := r.subject(ctx, j)
		if err != nil {
			return nil, err
		}
		progress := moveProgress{SessionID: s.ID, From: p.From, Reason: p.Reason}
		at := func(state, to string) {
			progress.State, progress.To = state, to
			r.progress(ctx, j, progress)
		}
		switch {
		case s.Desired != models.DesiredRunning:
			return skipped, nil
		case s.WorkerID == nil:
			at(moveWaiting, "")
			return nil, later{moveWait} // the lease tick places it as soon as there is room
		case s.Epoch != p.Epoch:
			at(moveCreating, w.ID)
			held, err := r.hold(ctx, s, w)
			switch {
			case errors.Is(err, errMovedOn):
				continue
			case cannotHold(err) && r.roomElsewhere(ctx, w.ID):
				p.Epoch = s.Epoch // on to the next one, from here
				if err := models.SetMoveEpoch(ctx, r.db.Pool, j.ID, p.Epoch); err != nil {
					return nil, fmt.Errorf("note refusal of %s: %w", s.UID, err)
				}
				r.log.Warn("worker cannot hold a session, trying another one", "session", s.UID, "worker", w.ID, "error", err)
				continue
			case err != nil:
				return nil, err
			}
			progress.State = ""
			r.log.Info("session moved", "session", s.UID, "from", p.From, "to", w.ID, "reason", p.Reason, "status", held.Status)
			return progress, nil
		}
		if err := r.letGo(ctx, s, w, p, at); err != nil {
			return nil, err
		}
	}
}

var skipped = map[string]string{"skipped": "the session is no longer wanted"}

// letGo has the session's worker release it and gives it to the next one.
func (r *Runner) letGo(ctx context.Context, s *models.Session, w *models.Worker, p models.MoveParams, at func(state, to string)) error {
	target := ""
	if s.MovingTo != nil {
		target = *s.MovingTo // if that is gone by then, FinishMove finds another one
	} else {
		at(moveReserving, "")
		err := r.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
			target, err = models.ReserveMove(ctx, tx, s.UID, s.Epoch, "")
			return err
		})
		switch {
		case errors.Is(err, models.ErrNotRunning):
			return nil // it has changed meanwhile: look again
		case errors.Is(err, models.ErrNoWorker):
			return errNoRoom
		case err != nil:
			return fmt.Errorf("reserve room for %s: %w", s.UID, err)
		}
	}
	at(moveReleasing, target)
	worker := r.workers.client(w)
	err := worker.control(ctx, releaseTimeout, func(ctx context.Context) error { return worker.Release(ctx, s.UID.String(), s.Epoch) })
	if err != nil {
		live, liveErr := models.LeaseLive(ctx, r.db, w.ID, w.Term)
		if liveErr != nil {
			return fmt.Errorf("read lease of %s: %w", w.ID, liveErr)
		}
		if !live && wire.Code(err) != wire.CodeLeaseLost {
			r.log.Info("worker is gone, its lease decides", "session", s.UID, "worker", w.ID, "error", err)
			return later{time.Second} // the lease tick takes it from here, or the worker is back under a new term
		}
		return ErrWorkerUnavailable.WithCause(fmt.Errorf("release session %s on %s: %w", s.UID, w.ID, err))
	}
	moved, err := models.FinishMove(ctx, r.db, s.UID, s.Epoch, w.Term, p.Reason)
	if err != nil {
		return fmt.Errorf("assign session %s: %w", s.UID, err)
	}
	r.waker.Webhooks(moved.Webhooks...)
	return nil
}

// errNoRoom ends a move: the session stays where it is, which is better than nowhere.
var errNoRoom = fault.New(fault.Conflict, models.ErrNoWorker.Code, "No other worker has room for the session now; it stays where it is.")

// moveFailed gives back what a move has reserved. The session stays where it is.
func (r *Runner) moveFailed(ctx context.Context, j *models.Job, cause error) {
	var p models.MoveParams
	_ = json.Unmarshal(j.Params, &p) // an empty reason is as good
	r.metrics.MoveFailed(p.Reason)
	if j.SessionUID == nil {
		return
	}
	if err := models.CancelMove(ctx, r.db.Pool, *j.SessionUID); err != nil {
		r.log.Error("reserved room not given back, left to reconcile", "session", j.SessionUID, "error", err)
	}
	r.audit(ctx, models.Audit{Level: "WARN", Message: "session.migration_failed", Session: j.SessionUID.String(), Worker: p.From,
		Details: map[string]string{"reason": p.Reason, "error": sentence(cause)}})
}

// errMovedOn says that the session has been assigned elsewhere, deleted or given another proxy while a worker was asked to hold it.
var errMovedOn = errors.New("the session has moved on")

// hold has a worker create a session and confirms it. It is what both creating and moving end in.
func (r *Runner) hold(ctx context.Context, s *models.Session, w *models.Worker) (wire.SessionState, error) {
	rejects := s.RejectsCalls()
	state, err := r.create(ctx, s, w, rejects)
	if err != nil {
		return state, err
	}
	held, err := models.ConfirmHeld(ctx, r.db, s, w.ID, w.Term)
	if err != nil {
		return state, fmt.Errorf("confirm session %s: %w", s.UID, err)
	}
	if held.From != "" {
		r.metrics.Moved(held.Reason, held.Took)
		r.waker.Webhooks(held.Webhooks...)
	}
	if !held.Wanted || held.OtherProxy {
		return state, errMovedOn // the heartbeat's answer has the worker drop it, or it is created again
	}
	// A change before the confirmation was taken for one that the worker knows of; a later one has it create again.
	if held.RejectCalls != rejects {
		if state, err = r.create(ctx, s, w, held.RejectCalls); err != nil {
			return state, err
		}
	}
	return state, nil
}

// create has a worker create a session. If the worker let go of this epoch, by a move that ended early, the session is given the
// next one, for another try.
func (r *Runner) create(ctx context.Context, s *models.Session, w *models.Worker, rejectCalls bool) (state wire.SessionState, err error) {
	var proxy []byte
	if s.Proxy != nil {
		if proxy, err = r.vault.Open(models.SealProxy, s.Proxy); err != nil { // never without it
			return state, fmt.Errorf("open proxy of %s: %w", s.UID, err)
		}
	}
	worker := r.workers.client(w)
	err = worker.control(ctx, createTimeout, func(ctx context.Context) (err error) {
		state, err = worker.Create(ctx, wire.CreateSession{SessionID: s.UID.String(), UserID: s.UserID.String(), SessionName: s.Name, Epoch: s.Epoch,
			Proxy: string(proxy), RejectCalls: rejectCalls})
		return err
	})
	if wire.Code(err) == wire.CodeStaleEpoch {
		if err := models.RaiseEpoch(ctx, r.db.Pool, s.UID, w.ID, s.Epoch); err != nil {
			return state, fmt.Errorf("raise epoch of %s: %w", s.UID, err)
		}
	}
	if err != nil {
		return state, ErrWorkerUnavailable.WithCause(fmt.Errorf("create session %s on %s: %w", s.UID, w.ID, err))
	}
	return state, nil
}

// cannotHold reports whether a worker has said that it does not hold a session and cannot.
func cannotHold(err error) bool {
	switch wire.Code(err) {
	case wire.CodeFull, wire.CodeEngineFailed, wire.CodeUnsupported:
		return true
	}
	return false
}

func (r *Runner) roomElsewhere(ctx context.Context, worker string) bool {
	ok, err := models.RoomElsewhere(ctx, r.db.Pool, worker)
	if err != nil {
		r.log.Warn("no other worker found", "worker", worker, "error", err)
	}
	return ok && err == nil
}

// start enqueues jobs that were just committed.
func (r *Runner) start(ctx context.Context, kind string, jobs ...uuid.UUID) {
	r.queue.StartJobs(ctx, kind, jobs)
}
