package api

import (
	"context"
	"crypto/subtle"
	"net/url"
	"regexp"
	"strings"
	"time"

	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
	"kurir/wire"
)

// RegisterWorkerInput is a worker node that reports for work.
type RegisterWorkerInput struct {
	Body struct {
		WorkerID    string `json:"workerId" minLength:"1" maxLength:"64" example:"worker-001"`
		Endpoint    string `json:"endpoint" minLength:"1" maxLength:"2048" doc:"Where we reach the worker" example:"http://192.168.1.100:8001"`
		MaxSessions *int   `json:"maxSessions,omitempty" minimum:"0" maximum:"1000000" doc:"Default: 50" example:"50"`
		Engine      string `json:"engine,omitempty" maxLength:"40" example:"simulator"`
		Version     string `json:"version,omitempty" maxLength:"100"`
		Description string `json:"description,omitempty" maxLength:"500"`
	}
}

// defaultRoom is the brief's.
const defaultRoom = 50

var workerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

var (
	errWorkerLive   = fault.New(fault.Conflict, wire.CodeWorkerLive, "Another process holds a live lease under this workerId. Wait until it has lapsed.")
	errEndpointUsed = fault.New(fault.Conflict, "endpoint_taken", "Another live worker has this endpoint.")
	errNoWorker     = fault.New(fault.NotFound, "worker_not_found", "There is no such worker.")
	errWorkerSecret = fault.New(fault.Unauthenticated, wire.CodeUnauthenticated, "The secret of the worker's term is missing or wrong. Register again.")
)

func (a *API) registerWorker(ctx context.Context, in *RegisterWorkerInput) (*Reply[wire.Registered], error) {
	b := in.Body
	if !workerName.MatchString(b.WorkerID) {
		return nil, fault.Field("workerId", "expected up to 64 letters, digits, dots, - and _")
	}
	endpoint, err := url.Parse(b.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.User != nil {
		return nil, fault.Field("endpoint", "expected an http or https URL")
	}
	room := defaultRoom
	if b.MaxSessions != nil { // 0 is a worker that offers no room
		room = *b.MaxSessions
	}
	r := wire.Register{WorkerID: b.WorkerID, Endpoint: strings.TrimSuffix(b.Endpoint, "/"), MaxSessions: room,
		Engine: b.Engine, Version: b.Version, Description: b.Description}
	var term int64
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error {
		t, ok, err := models.RegisterWorker(ctx, tx, r, a.cfg.LeaseTTL)
		switch {
		case models.IsUnique(err, "workers_endpoint_key"):
			return errEndpointUsed
		case err == nil && !ok:
			return errWorkerLive
		}
		term = t
		return err
	})
	if err != nil {
		return nil, stored(err)
	}
	a.log.Info("worker registered", "worker", b.WorkerID, "endpoint", r.Endpoint, "term", term, "engine", b.Engine, "version", b.Version, "maxSessions", room)
	if err := a.queue.Tick(ctx, jobs.KindReconcile, time.Now().Truncate(time.Second)); err != nil {
		a.log.Warn("reconcile not enqueued, left to the scheduler", "error", err)
	}
	return reply(wire.Registered{WorkerID: b.WorkerID, Status: "registered", Term: term, Secret: a.vault.WorkerSecret(b.WorkerID, term),
		LeaseMs: a.cfg.LeaseTTL.Milliseconds(), HeartbeatMs: a.cfg.Heartbeat.Milliseconds()}), nil
}

// WorkerPath names a worker, and carries the secret of its term.
type WorkerPath struct {
	WorkerID string `path:"workerId" maxLength:"64" example:"worker-001"`
	Secret   string `header:"X-Worker-Secret" maxLength:"200" doc:"The secret that registering answered"`
}

// checkSecret makes sure that a call comes from the process that registered the term.
func (a *API) checkSecret(p WorkerPath, term int64) error {
	if subtle.ConstantTimeCompare([]byte(p.Secret), []byte(a.vault.WorkerSecret(p.WorkerID, term))) != 1 {
		return errWorkerSecret
	}
	return nil
}

// HeartbeatInput renews a lease.
type HeartbeatInput struct {
	WorkerPath
	Body struct {
		Status   string             `json:"status" enum:"online,maintenance,offline"`
		Term     int64              `json:"term" minimum:"1"`
		Metrics  wire.Metrics       `json:"metrics"`
		Sessions []wire.HeldSession `json:"sessions,omitempty" doc:"What the worker holds; absent: unknown, never none"`
	}
}

func (a *API) heartbeat(ctx context.Context, in *HeartbeatInput) (*Reply[wire.HeartbeatAnswer], error) {
	if err := a.checkSecret(in.WorkerPath, in.Body.Term); err != nil {
		return nil, err
	}
	h := wire.Heartbeat{Status: in.Body.Status, Term: in.Body.Term, Metrics: in.Body.Metrics, Sessions: in.Body.Sessions}
	current, err := models.RenewLease(ctx, a.db, in.WorkerID, h, a.cfg.LeaseTTL)
	if err != nil {
		return nil, databaseFault(err)
	}
	if !current {
		return nil, models.ErrStaleTerm
	}
	drop, err := models.ToDrop(ctx, a.db, in.WorkerID, h.Sessions)
	if err != nil {
		return nil, databaseFault(err)
	}
	if err := models.AddWorkerMetrics(ctx, a.db, in.WorkerID, h.Metrics); err != nil {
		a.log.Warn("worker metrics not kept", "worker", in.WorkerID, "error", err)
	}
	return reply(wire.HeartbeatAnswer{LeaseMs: a.cfg.LeaseTTL.Milliseconds(), Drop: drop}), nil
}

// EventsInput is a batch of events.
type EventsInput struct {
	WorkerPath
	Body struct {
		Term   int64        `json:"term" minimum:"1"`
		Events []wire.Event `json:"events" maxItems:"1000"`
	}
}

func (a *API) events(ctx context.Context, in *EventsInput) (*Reply[wire.EventBatchAnswer], error) {
	if err := a.checkSecret(in.WorkerPath, in.Body.Term); err != nil {
		return nil, err
	}
	batch := wire.EventBatch{Term: in.Body.Term, Events: in.Body.Events}
	stored, err := models.IngestEvents(ctx, a.db, a.log, in.WorkerID, batch)
	if err != nil {
		if fault.Of(err) == fault.Conflict {
			return nil, err
		}
		return nil, databaseFault(err)
	}
	a.waker.Messages(stored.Connected...)
	a.waker.Webhooks(stored.Webhooks...)
	for _, took := range stored.Sent {
		a.metrics.AcceptToSent(took)
	}
	return reply(wire.EventBatchAnswer{Next: stored.Next}), nil
}

// WorkerResource is a worker as an administrator sees it.
type WorkerResource struct {
	ID            string    `json:"id" example:"worker-001"`
	Endpoint      string    `json:"endpoint"`
	Status        string    `json:"status" enum:"online,offline,maintenance" doc:"online and maintenance only while its lease lives"`
	Engine        string    `json:"engine" example:"simulator"`
	Version       string    `json:"version"`
	SessionCount  int       `json:"sessionCount"`
	MaxSessions   int       `json:"maxSessions"`
	CPUUsage      float64   `json:"cpuUsage" doc:"Percent"`
	MemoryUsage   float64   `json:"memoryUsage" doc:"Percent"`
	MessageCount  int64     `json:"messageCount"`
	Uptime        int64     `json:"uptime" doc:"Seconds"`
	Term          int64     `json:"term"`
	Description   *string   `json:"description"`
	LastHeartbeat time.Time `json:"lastHeartbeat"`
	CreatedAt     time.Time `json:"createdAt"`
}

func workerResource(w *models.WorkerLoad) WorkerResource {
	status := w.Status
	if !w.LeaseLive {
		status = models.WorkerOffline
	}
	return WorkerResource{ID: w.ID, Endpoint: w.Endpoint, Status: strings.ToLower(status), Engine: w.Engine, Version: w.Version,
		SessionCount: w.SessionCount, MaxSessions: w.MaxSessions, CPUUsage: w.CPUUsage, MemoryUsage: w.MemoryUsage, MessageCount: w.MessageCount,
		Uptime: w.Uptime, Term: w.Term, Description: w.Description, LastHeartbeat: w.LastHeartbeat.UTC(), CreatedAt: w.CreatedAt.UTC()}
}

// WorkerList is all workers.
type WorkerList struct {
	Workers []WorkerResource `json:"workers"`
}

func (a *API) listWorkers(ctx context.Context, _ *struct{}) (*Reply[WorkerList], error) {
	rows, err := models.Workers(ctx, a.db)
	if err != nil {
		return nil, databaseFault(err)
	}
	list := WorkerList{Workers: make([]WorkerResource, 0, len(rows))}
	for i := range rows {
		list.Workers = append(list.Workers, workerResource(&rows[i]))
	}
	return reply(list), nil
}

// OneWorker names a worker for an administrator.
type OneWorker struct {
	WorkerID string `path:"workerId" maxLength:"64"`
}

func (a *API) getWorker(ctx context.Context, in *OneWorker) (*Reply[WorkerResource], error) {
	rows, err := models.Workers(ctx, a.db)
	if err != nil {
		return nil, databaseFault(err)
	}
	for i := range rows {
		if rows[i].ID == in.WorkerID {
			return reply(workerResource(&rows[i])), nil
		}
	}
	return nil, errNoWorker
}
