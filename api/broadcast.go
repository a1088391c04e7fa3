package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"kurir/fault"
	"kurir/models"
	"kurir/wire"
)

// BroadcastInput is a command for workers.
type BroadcastInput struct {
	Body struct {
		Command   string          `json:"command" minLength:"1" maxLength:"40" pattern:"^[a-z_]{1,40}$" doc:"ping asks how they are; reconnect opens the connections of all their sessions anew; log_level takes data.level: debug, info, warn or error" example:"log_level"`
		Data      json.RawMessage `json:"data,omitempty" doc:"A JSON object for the command, up to 4 KB" example:"{\"level\":\"debug\"}"`
		WorkerIDs []string        `json:"workerIds,omitempty" minItems:"1" maxItems:"1000" doc:"Left out: all that are alive" example:"[\"worker-001\"]"`
	}
}

// Broadcast is what became of a command.
type Broadcast struct {
	Results   []CommandResult `json:"results" doc:"By workerId"`
	Succeeded int             `json:"succeeded"`
	Failed    int             `json:"failed"`
}

// CommandResult is what became of a command at one worker.
type CommandResult struct {
	WorkerID string          `json:"workerId" example:"worker-001"`
	OK       bool            `json:"ok"`
	Answer   json.RawMessage `json:"answer" doc:"What the worker said; null if it failed"`
	Code     *string         `json:"code" doc:"Why it failed, for programs: a worker's code, worker_not_found, worker_offline, worker_unreachable or worker_timeout" example:"unsupported"`
	Error    *string         `json:"error" doc:"Why it failed, for people"`
	TookMs   int64           `json:"tookMs"`
}

const (
	commandData    = 4 << 10 // bytes
	commandAnswer  = 16 << 10
	commandTimeout = 5 * time.Second
	commandsAtOnce = 16
)

var (
	errWorkerOffline   = fault.New(fault.Unavailable, "worker_offline", "The worker is not online, so it was not asked.")
	errWorkerUnreached = fault.New(fault.Unavailable, "worker_unreachable", "The worker cannot be reached, or broke the connection off; it may have carried out the command.")
	errWorkerSilent    = fault.New(fault.Unavailable, "worker_timeout", "The worker did not answer in time; it may have carried out the command.")
)

// broadcast tells workers something, side by side. A worker that fails is a result, not a failure of the request.
func (a *API) broadcast(ctx context.Context, in *BroadcastInput) (*Reply[Broadcast], error) {
	data, err := parseObject("data", in.Body.Data, commandData)
	if err != nil {
		return nil, err
	}
	for i, id := range in.Body.WorkerIDs {
		if err := checkWorkerID(fmt.Sprintf("workerIds[%d]", i), id); err != nil {
			return nil, err
		}
	}
	workers, err := models.Workers(ctx, a.db)
	if err != nil {
		return nil, databaseFault(err)
	}
	known := map[string]*models.WorkerLoad{}
	asked := slices.Clone(in.Body.WorkerIDs)
	for i := range workers {
		known[workers[i].ID] = &workers[i]
		if in.Body.WorkerIDs == nil && workers[i].LeaseLive {
			asked = append(asked, workers[i].ID)
		}
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if err := a.audit(ctx, a.db.Pool, models.Audit{Message: "workers.broadcast",
		Details: map[string]any{"command": in.Body.Command, "workers": len(asked)}}); err != nil {
		return nil, databaseFault(err)
	}
	answer := Broadcast{Results: make([]CommandResult, len(asked))}
	var group errgroup.Group
	group.SetLimit(commandsAtOnce)
	for i, id := range asked {
		group.Go(func() error {
			answer.Results[i] = a.command(ctx, id, known[id], wire.Command{Command: in.Body.Command, Data: data})
			return nil
		})
	}
	_ = group.Wait() // the functions return none
	for _, r := range answer.Results {
		if r.OK {
			answer.Succeeded++
		} else {
			answer.Failed++
		}
	}
	return reply(answer), nil
}

// command tells one worker something; w is nil if there is none.
func (a *API) command(ctx context.Context, id string, w *models.WorkerLoad, c wire.Command) CommandResult {
	switch {
	case w == nil:
		return failed(id, errNoWorker)
	case !w.LeaseLive:
		return failed(id, errWorkerOffline)
	}
	began := time.Now()
	r := a.callCommand(ctx, id, c)
	r.TookMs = time.Since(began).Milliseconds()
	return r
}

func (a *API) callCommand(ctx context.Context, id string, c wire.Command) CommandResult {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	client, err := a.workers.Of(ctx, id)
	if err != nil {
		return failed(id, errWorkerUnreached)
	}
	said, err := client.Command(ctx, c)
	var refusal *wire.Error
	switch {
	case err == nil && len(said) > commandAnswer:
		return failed(id, fault.New(fault.Unavailable, wire.CodeBadAnswer, "The worker's answer is longer than 16 KB."))
	case err == nil:
		return CommandResult{WorkerID: id, OK: true, Answer: said}
	case errors.As(err, &refusal):
		return failed(id, &fault.Error{Code: short(refusal.Code), Sentence: short(refusal.Message)})
	case errors.Is(err, context.DeadlineExceeded):
		return failed(id, errWorkerSilent)
	}
	return failed(id, errWorkerUnreached)
}

func failed(worker string, f *fault.Error) CommandResult {
	return CommandResult{WorkerID: worker, Code: &f.Code, Error: &f.Sentence}
}
