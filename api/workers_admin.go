package api

import (
	"cmp"
	"context"
	"encoding/base32"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
	"kurir/wire"
)

var (
	errNoWorker     = fault.New(fault.NotFound, "worker_not_found", "There is no such worker.")
	errWorkerExists = fault.New(fault.Conflict, "worker_exists", "There is a worker with this workerId. Choose another one, or leave it out.")
	errEndpointUsed = fault.New(fault.Conflict, "endpoint_taken", "Another live worker has this endpoint.")
)

// AnnounceWorkerInput announces a worker whose process is still to register.
type AnnounceWorkerInput struct {
	OnceHeader
	Body struct {
		WorkerID    string  `json:"workerId,omitempty" minLength:"1" maxLength:"64" doc:"The WORKER_ID that its process will have. Left out: we make one" example:"worker-ext-001"`
		Endpoint    string  `json:"endpoint" minLength:"1" maxLength:"2048" doc:"Where we will reach the worker" example:"http://192.168.1.100:8001"`
		MaxSessions *int    `json:"maxSessions,omitempty" minimum:"0" maximum:"1000000" doc:"What it is allowed, however much it offers. Default: 50" example:"20"`
		Description *string `json:"description,omitempty" maxLength:"500" example:"Rack 3"`
	}
}

// AnnouncedWorker is a worker that was announced.
type AnnouncedWorker struct {
	WorkerID  string `json:"workerId" example:"worker-ext-001"`
	Reachable bool   `json:"reachable" doc:"Whether a worker answers at the endpoint already; problem says what is wrong if none does"`
	WorkerResource
}

func (a *API) announceWorker(ctx context.Context, in *AnnounceWorkerInput) (*Reply[AnnouncedWorker], error) {
	id := in.Body.WorkerID
	if id == "" {
		id = madeWorkerID(newResourceID(ctx))
	}
	if err := checkWorkerID("workerId", id); err != nil {
		return nil, err
	}
	endpoint, err := parseEndpoint(in.Body.Endpoint)
	if err != nil {
		return nil, err
	}
	room := roomOr(in.Body.MaxSessions)
	added, err := a.announce(ctx, id, endpoint, room, in.Body.Description)
	if err != nil {
		return nil, err
	}
	w, err := models.LoadOf(ctx, a.db, id)
	if err := found(err, errNoWorker); err != nil {
		return nil, err
	}
	waits := w.Problem != nil && *w.Problem == models.ProblemNotRegistered
	// Under an Idempotency-Key, it may be what the first request made before it died.
	if again := in.Key != "" && waits && w.Endpoint == endpoint && w.SessionCap != nil && *w.SessionCap == room; !added && !again {
		return nil, errWorkerExists
	}
	answer := AnnouncedWorker{WorkerID: id, WorkerResource: workerResource(w)}
	problem := a.look(ctx, endpoint)
	if answer.Reachable = problem == ""; !answer.Reachable {
		if waits {
			problem += " " + *w.Problem
		}
		answer.Problem = &problem
	}
	return reply(answer), nil
}

// announce adds a worker, and says whether there was none.
func (a *API) announce(ctx context.Context, id, endpoint string, room int, description *string) (added bool, err error) {
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if taken, err := models.EndpointTaken(ctx, tx, endpoint, id); err != nil || taken {
			return cmp.Or[error](err, errEndpointUsed)
		}
		if added, err = models.AnnounceWorker(ctx, tx, id, endpoint, room, description); err != nil || !added {
			tellNothing(ctx)
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "worker.announced", Worker: id, Details: map[string]any{"endpoint": endpoint, "maxSessions": room}})
	})
	return added, stored(err)
}

// madeWorkerID is the ID of a worker that was announced without one.
func madeWorkerID(request uuid.UUID) string {
	return "worker-ext-" + strings.ToLower(base32.HexEncoding.EncodeToString(request[11:])) // the random end of a UUIDv7
}

const lookTimeout = 3 * time.Second

// look asks whether a worker answers at an endpoint, and says what is wrong otherwise. No secret goes along: nobody knows
// yet who is there.
func (a *API) look(ctx context.Context, endpoint string) (problem string) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := wire.NewClient(a.http, wire.Target{Endpoint: endpoint}).Health(ctx)
	var refusal *wire.Error
	switch {
	case err == nil:
		return ""
	case wire.Code(err) == wire.CodeBadAnswer:
		return "What answers at this endpoint is no worker of Kurir's: check it, and proxies on the way."
	case errors.As(err, &refusal):
		return "The worker at this endpoint refuses to say how it is: " + short(refusal.Code) + "."
	case errors.Is(err, context.DeadlineExceeded):
		return "Nothing answered at this endpoint within 3 seconds: a firewall may drop packets on the way."
	}
	return "Nobody can be reached at this endpoint from here now."
}

// UpdateWorkerInput changes what an administrator wants of a worker.
type UpdateWorkerInput struct {
	OneWorker
	Body WorkerFields
}

// WorkerFields are the changes; what is left out stays.
type WorkerFields struct {
	MaxSessions *int    `json:"maxSessions,omitempty" minimum:"0" maximum:"1000000" doc:"What it is allowed, however much it offers. Sessions beyond it move away bit by bit" example:"20"`
	Description *string `json:"description,omitempty" maxLength:"500" example:"Rack 3"`
	Status      *string `json:"status,omitempty" enum:"online,maintenance" doc:"maintenance: it keeps its sessions and gets no new ones; online ends that, and a drain too" example:"maintenance"`
}

func (a *API) updateWorker(ctx context.Context, in *UpdateWorkerInput) (*Reply[WorkerResource], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	if in.Body == (WorkerFields{}) {
		return nil, fault.Field("body", "expected at least one of maxSessions, description and status")
	}
	change := models.WorkerChange{SessionCap: in.Body.MaxSessions, Description: in.Body.Description}
	if in.Body.Status != nil {
		maintenance := *in.Body.Status == "maintenance"
		change.Maintenance = &maintenance
	}
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if ok, err := models.ChangeWorker(ctx, tx, in.WorkerID, change); err != nil || !ok {
			return cmp.Or[error](err, errNoWorker)
		}
		return a.audit(ctx, tx, models.Audit{Message: "worker.changed", Worker: in.WorkerID, Details: in.Body})
	})
	if err != nil {
		return nil, stored(err)
	}
	return a.getWorker(ctx, &in.OneWorker)
}

// RemoveWorkerInput names a worker that is to go.
type RemoveWorkerInput struct {
	OneWorker
	Force bool `query:"force" doc:"Remove it at once, without moving its sessions first: they are given to others when its lease is over"`
}

// LeavingWorker is a worker that is being emptied, or was removed.
type LeavingWorker struct {
	WorkerID string  `json:"workerId" example:"worker-001"`
	Status   string  `json:"status" enum:"draining,removed"`
	JobID    *string `json:"jobId" format:"uuid" doc:"The job that moves its sessions away; null if it was removed at once"`
}

func (a *API) removeWorker(ctx context.Context, in *RemoveWorkerInput) (*Started[LeavingWorker], error) {
	if !in.Force {
		return a.startDrain(ctx, in.OneWorker, models.MoveRemoved, "worker.removal_requested")
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if ok, err := models.RemoveWorker(ctx, tx, in.WorkerID); err != nil || !ok {
			return cmp.Or[error](err, errNoWorker)
		}
		return a.audit(ctx, tx, models.Audit{Message: "worker.removed", Worker: in.WorkerID, Details: map[string]bool{"force": true}})
	})
	if err != nil {
		return nil, stored(err)
	}
	a.tick(ctx, jobs.KindLeases)
	return &Started[LeavingWorker]{Status: http.StatusOK,
		Body: Body[LeavingWorker]{Success: true, Data: LeavingWorker{WorkerID: in.WorkerID, Status: "removed"}}}, nil
}

func (a *API) drainWorker(ctx context.Context, in *OneWorker) (*Started[LeavingWorker], error) {
	return a.startDrain(ctx, *in, models.MoveDrain, "worker.drain_requested")
}

// startDrain puts a worker into maintenance and has a job empty it; the one that does so already, if there is one.
func (a *API) startDrain(ctx context.Context, in OneWorker, reason, message string) (*Started[LeavingWorker], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	user, maintenance := callerOf(ctx).user.ID, true
	var job uuid.UUID
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		ok, err := models.ChangeWorker(ctx, tx, in.WorkerID, models.WorkerChange{Maintenance: &maintenance})
		if err != nil || !ok {
			return cmp.Or[error](err, errNoWorker)
		}
		if job, err = models.StartDrain(ctx, tx, in.WorkerID, reason, &user); err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: message, Worker: in.WorkerID, Details: map[string]string{"job": job.String()}})
	})
	if err != nil {
		return nil, stored(err)
	}
	a.queue.StartJob(ctx, jobs.KindDrainWorker, job)
	id := job.String()
	return started(http.StatusAccepted, job, "", LeavingWorker{WorkerID: in.WorkerID, Status: "draining", JobID: &id}), nil
}
