package api

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"kurir/fault"
	"kurir/models"
)

// defaultRoom is the brief's.
const defaultRoom = 50

// roomOr is the room that a worker is given or, where it is left out, the default. 0 is a worker that takes no session.
func roomOr(room *int) int {
	if room == nil {
		return defaultRoom
	}
	return *room
}

var workerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// notWorkers are addresses beside those of the workers.
var notWorkers = []string{"broadcast", "metrics", "register"}

func checkWorkerID(field, id string) error {
	if !workerName.MatchString(id) {
		return fault.Field(field, "expected up to 64 letters, digits, dots, - and _")
	}
	if slices.Contains(notWorkers, id) {
		return fault.Field(field, "no worker can have this name: it is an address of ours")
	}
	return nil
}

// parseEndpoint brings a worker's endpoint to the form in which it is compared and called.
func parseEndpoint(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return "", fault.Field("endpoint", "expected an http or https URL")
	}
	return strings.TrimSuffix(raw, "/"), nil
}

// WorkerResource is a worker as an administrator sees it.
type WorkerResource struct {
	ID            string     `json:"id" example:"worker-001"`
	Endpoint      string     `json:"endpoint"`
	Status        string     `json:"status" enum:"online,offline,maintenance" doc:"online and maintenance only while its lease lives"`
	Engine        string     `json:"engine" example:"simulator"`
	Version       string     `json:"version"`
	SessionCount  int        `json:"sessionCount"`
	MaxSessions   int        `json:"maxSessions" doc:"What the worker offers, or what an administrator allows it if that is less"`
	CPUUsage      float64    `json:"cpuUsage" doc:"Percent"`
	MemoryUsage   float64    `json:"memoryUsage" doc:"Percent"`
	MessageCount  int64      `json:"messageCount"`
	Uptime        int64      `json:"uptime" doc:"Seconds"`
	Term          int64      `json:"term"`
	Description   *string    `json:"description"`
	Problem       *string    `json:"problem" doc:"What is wrong with it, and what to do; null if nothing is known to be"`
	ProblemSince  *time.Time `json:"problemSince"`
	RestingUntil  *time.Time `json:"restingUntil" doc:"Until then others get new sessions first: its lease lapsed repeatedly, or it could not reach the network"`
	LapsedAt      *time.Time `json:"lapsedAt" doc:"When its lease lapsed last"`
	LastHeartbeat time.Time  `json:"lastHeartbeat"`
	CreatedAt     time.Time  `json:"createdAt"`
}

func workerResource(w *models.WorkerLoad) WorkerResource {
	status := w.Status
	if !w.LeaseLive {
		status = models.WorkerOffline
	}
	return WorkerResource{ID: w.ID, Endpoint: w.Endpoint, Status: strings.ToLower(status), Engine: w.Engine, Version: w.Version,
		SessionCount: w.SessionCount, MaxSessions: w.Room(), CPUUsage: w.CPUUsage, MemoryUsage: w.MemoryUsage, MessageCount: w.MessageCount,
		Uptime: w.Uptime, Term: w.Term, Description: w.Description, Problem: w.Problem, ProblemSince: utc(w.ProblemSince),
		RestingUntil: future(w.RestingUntil), LapsedAt: utc(w.LapsedAt), LastHeartbeat: w.LastHeartbeat.UTC(), CreatedAt: w.CreatedAt.UTC()}
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
	WorkerID string `path:"workerId" maxLength:"64" doc:"The worker's ID"`
}

// check turns away what no worker can be called.
func (w OneWorker) check() error {
	if !workerName.MatchString(w.WorkerID) {
		return errNoWorker
	}
	return nil
}

func (a *API) getWorker(ctx context.Context, in *OneWorker) (*Reply[WorkerResource], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	w, err := models.LoadOf(ctx, a.db, in.WorkerID)
	if err := found(err, errNoWorker); err != nil {
		return nil, err
	}
	return reply(workerResource(w)), nil
}

// future is a time that is still to come, else nil.
func future(t *time.Time) *time.Time {
	if t == nil || t.Before(time.Now()) {
		return nil
	}
	return utc(t)
}
