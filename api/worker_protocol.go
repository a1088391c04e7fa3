package api

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
	"kurir/webhook"
	"kurir/wire"
)

// RegisterWorkerInput is a worker node that reports for work.
type RegisterWorkerInput struct {
	Secret string `header:"X-Worker-Secret" maxLength:"200" doc:"The secret of previousTerm"`
	Body   struct {
		_           struct{} `additionalProperties:"true"` // a newer worker may say more
		WorkerID    string   `json:"workerId" minLength:"1" maxLength:"64" example:"worker-001"`
		Endpoint    string   `json:"endpoint" minLength:"1" maxLength:"2048" doc:"Where we reach the worker" example:"http://192.168.1.100:8001"`
		MaxSessions *int     `json:"maxSessions,omitempty" minimum:"0" maximum:"1000000" doc:"Default: 50" example:"50"`
		Engine      string   `json:"engine,omitempty" maxLength:"40" example:"simulator"`
		Version     string   `json:"version,omitempty" maxLength:"100"`
		Description string   `json:"description,omitempty" maxLength:"500"`
		Protocol    int      `json:"protocol,omitempty" minimum:"0" doc:"Version of the worker protocol that it speaks; absent: 1"`
		Previous    int64    `json:"previousTerm,omitempty" minimum:"0" doc:"Term that the same process had, and in which it holds nothing any more: it need not wait for that lease to lapse"`
	}
}

var (
	errProtocol     = fault.New(fault.Conflict, wire.CodeUnsupportedProtocol, "This gateway and the worker do not speak the same version of the protocol. Upgrade the older one.")
	errWorkerSecret = fault.New(fault.Unauthenticated, wire.CodeUnauthenticated, "The secret of the worker's term is missing or wrong. Register again.")
)

func (a *API) registerWorker(ctx context.Context, in *RegisterWorkerInput) (*Reply[wire.Registered], error) {
	b := in.Body
	if b.Protocol > wire.Protocol {
		a.metrics.RegistrationRefused(errProtocol.Code)
		a.log.Warn("worker not registered: it speaks a newer protocol", "worker", b.WorkerID, "protocol", b.Protocol, "ours", wire.Protocol, "version", b.Version)
		return nil, errProtocol
	}
	if err := checkWorkerID("workerId", b.WorkerID); err != nil {
		return nil, err
	}
	endpoint, err := parseEndpoint(b.Endpoint)
	if err != nil {
		return nil, err
	}
	r := wire.Register{WorkerID: b.WorkerID, Endpoint: endpoint, MaxSessions: roomOr(b.MaxSessions),
		Engine: b.Engine, Version: b.Version, Description: b.Description, PreviousTerm: b.Previous}
	resumed := b.Previous > 0 && a.checkSecret(WorkerPath{WorkerID: b.WorkerID, Secret: in.Secret}, b.Previous) == nil
	var term int64
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		term, err = models.RegisterWorker(ctx, tx, r, a.cfg.LeaseTTL, resumed)
		if models.IsUnique(err, "workers_endpoint_key") {
			return errEndpointUsed
		}
		if err != nil {
			return err
		}
		if err = a.vault.NoteWorkerKey(ctx, tx, b.WorkerID); err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "worker.registered", Worker: b.WorkerID, Details: map[string]any{"endpoint": endpoint, "term": term,
			"resumed": resumed, "engine": b.Engine, "version": b.Version, "maxSessions": r.MaxSessions}})
	})
	if err != nil {
		err = stored(err)
		a.metrics.RegistrationRefused(fault.Code(err))
		a.log.Warn("worker not registered", "worker", b.WorkerID, "endpoint", r.Endpoint, "error", err)
		return nil, err
	}
	a.log.Info("worker registered", "worker", b.WorkerID, "endpoint", r.Endpoint, "term", term, "engine", b.Engine, "version", b.Version, "maxSessions", r.MaxSessions)
	a.tick(ctx, jobs.KindReconcile, jobs.KindLeases) // what it holds is created, and what waits for room placed
	return reply(wire.Registered{WorkerID: b.WorkerID, Status: "registered", Term: term, Secret: a.vault.WorkerSecret(b.WorkerID, term),
		LeaseMs: a.cfg.LeaseTTL.Milliseconds(), HeartbeatMs: a.cfg.Heartbeat.Milliseconds()}), nil
}

// tick has periodic jobs run now rather than at their next turn.
func (a *API) tick(ctx context.Context, kinds ...string) {
	for _, kind := range kinds {
		if err := a.queue.Nudge(ctx, kind); err != nil {
			a.log.Warn("job not enqueued, left to the scheduler", "kind", kind, "error", err)
		}
	}
}

// WorkerPath names a worker, and carries the secret of its term.
type WorkerPath struct {
	WorkerID string `path:"workerId" maxLength:"64" doc:"The worker's ID" example:"worker-001"`
	Secret   string `header:"X-Worker-Secret" maxLength:"200" doc:"The secret that registering answered"`
}

// checkSecret makes sure that a call comes from the process that registered the term.
func (a *API) checkSecret(p WorkerPath, term int64) error {
	if !a.vault.IsWorkerSecret(p.WorkerID, term, p.Secret) {
		return errWorkerSecret
	}
	return nil
}

// HeartbeatInput renews a lease.
type HeartbeatInput struct {
	WorkerPath
	Body struct {
		_        struct{}           `additionalProperties:"true"`
		Status   string             `json:"status" enum:"online,maintenance,offline"`
		Term     int64              `json:"term" minimum:"1"`
		Metrics  wire.Metrics       `json:"metrics"`
		Sessions []wire.HeldSession `json:"sessions,omitempty" nullable:"true" doc:"What the worker holds; absent or null: unknown, never none"`
	}
}

// HeartbeatReply renews a lease, with the sentence that the brief has in its place.
type HeartbeatReply struct {
	Body struct {
		Body[wire.HeartbeatAnswer]
		Message string `json:"message" example:"Heartbeat updated"`
	}
}

func beaten(answer wire.HeartbeatAnswer) *HeartbeatReply {
	r := &HeartbeatReply{}
	r.Body.Body, r.Body.Message = Body[wire.HeartbeatAnswer]{Success: true, Data: answer}, "Heartbeat updated"
	return r
}

func (a *API) heartbeat(ctx context.Context, in *HeartbeatInput) (*HeartbeatReply, error) {
	if err := a.checkSecret(in.WorkerPath, in.Body.Term); err != nil {
		return nil, err
	}
	h := wire.Heartbeat{Status: in.Body.Status, Term: in.Body.Term, Metrics: in.Body.Metrics, Sessions: in.Body.Sessions}
	current, err := models.RenewLease(ctx, a.db, in.WorkerID, h, a.cfg.LeaseTTL)
	if err != nil {
		return nil, databaseFault(err)
	}
	if !current {
		return nil, stored(models.WhyNotCurrent(ctx, a.db, in.WorkerID))
	}
	if h.Status == wire.HeartbeatOffline {
		a.log.Info("worker has left", "worker", in.WorkerID, "term", h.Term)
		a.auditDone(ctx, models.Audit{Message: "worker.left", Worker: in.WorkerID, Details: map[string]int64{"term": h.Term}})
		a.tick(ctx, jobs.KindLeases)
		return beaten(wire.HeartbeatAnswer{}), nil
	}
	answer := wire.HeartbeatAnswer{LeaseMs: a.cfg.LeaseTTL.Milliseconds()}
	if h.Sessions != nil {
		holding, err := models.CompareHeld(ctx, a.db, in.WorkerID, h.Term, h.Sessions)
		if err != nil {
			return nil, databaseFault(err)
		}
		answer.Drop = holding.Drop
		a.repaired(ctx, in.WorkerID, "dropped", len(holding.Drop))
		a.repaired(ctx, in.WorkerID, "lost", holding.Lost)
	}
	if h.Status == wire.HeartbeatMaintenance && len(h.Sessions) > 0 {
		if answer.HandOver, err = a.handOver(ctx, in.WorkerID); err != nil {
			return nil, err
		}
	}
	if err := models.AddWorkerMetrics(ctx, a.db, in.WorkerID, h.Metrics); err != nil {
		a.log.Warn("worker metrics not kept", "worker", in.WorkerID, "error", err)
	}
	return beaten(answer), nil
}

func (a *API) repaired(ctx context.Context, worker, kind string, n int) {
	if n == 0 {
		return
	}
	a.metrics.Repairs(kind, n)
	a.log.Info("sessions repaired", "kind", kind, "worker", worker, "count", n)
	a.auditDone(ctx, models.Audit{Message: "sessions.repaired", Worker: worker, Details: map[string]any{"kind": kind, "count": n}})
}

// handOver has the sessions of a worker that is about to stop move away, and says whether it should wait for that:
// not if nobody has room.
func (a *API) handOver(ctx context.Context, worker string) (bool, error) {
	var job uuid.UUID
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		job = uuid.Nil
		room, err := models.RoomElsewhere(ctx, tx, worker)
		if err != nil {
			return err
		}
		if !room { // or what is on its way has reserved the last of it
			if moves, err := models.OnTheWay(ctx, tx, worker); err != nil || !moves {
				return err
			}
		}
		job, err = models.StartDrain(ctx, tx, worker, models.MoveShutdown, nil)
		return err
	})
	if err != nil {
		return false, databaseFault(err) // the worker asks again
	}
	if job != uuid.Nil {
		a.queue.StartJob(ctx, models.KindDrainWorker, job)
	}
	return job != uuid.Nil, nil
}

// beat notes that this process can take heartbeats, until ctx ends: leases lapse only while some process can.
func (a *API) beat(ctx context.Context) {
	every := time.NewTicker(max(min(a.cfg.LeaseTTL/10, time.Second), 50*time.Millisecond))
	defer every.Stop()
	for {
		call, cancel := context.WithTimeout(ctx, time.Second)
		if err := models.Beat(call, a.db.Pool, a.cfg.LeaseTTL); err != nil && ctx.Err() == nil {
			a.log.Debug("heartbeats cannot be taken now", "error", err)
		}
		cancel()
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// EventsInput is a batch of events.
type EventsInput struct {
	WorkerPath
	Body struct {
		_      struct{}     `additionalProperties:"true"`
		Term   int64        `json:"term" minimum:"1"`
		Events []wire.Event `json:"events" maxItems:"1000" nullable:"true" doc:"Null is an empty list"`
	}
}

func (a *API) events(ctx context.Context, in *EventsInput) (*Reply[wire.EventBatchAnswer], error) {
	if err := a.checkSecret(in.WorkerPath, in.Body.Term); err != nil {
		return nil, err
	}
	batch := wire.EventBatch{Term: in.Body.Term, Events: in.Body.Events}
	defer a.follow(ctx, batch.Events)()
	ingested, err := models.IngestEvents(ctx, a.db, a.log, in.WorkerID, batch)
	if err != nil {
		return nil, stored(err)
	}
	a.waker.Messages(ingested.Connected...)
	a.waker.Webhooks(ingested.Webhooks...)
	for _, took := range ingested.Sent {
		a.metrics.AcceptToSent(took)
	}
	for event, outcome := range map[string]string{webhook.EventMessageReceived: "received", webhook.EventMessageDelivered: "delivered", webhook.EventMessageRead: "read"} {
		a.metrics.Messages(outcome, ingested.Told[event])
	}
	return reply(wire.EventBatchAnswer{Next: ingested.Next}), nil
}
