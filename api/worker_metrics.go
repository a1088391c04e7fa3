package api

import (
	"context"
	"time"
)

// WorkerMetrics is how busy the workers were.
type WorkerMetrics struct {
	Range       string         `json:"range" example:"24h"`
	StepSeconds int            `json:"stepSeconds" doc:"What one point stands for" example:"900"`
	Workers     []WorkerSeries `json:"workers" doc:"By workerId, those that said something in that time; removed ones too"`
}

// WorkerSeries is how busy one worker was.
type WorkerSeries struct {
	WorkerID string        `json:"workerId" example:"worker-001"`
	Points   []WorkerPoint `json:"points" doc:"Oldest first; a time without a point is one in which nothing was heard"`
}

// WorkerPoint is the average of one step.
type WorkerPoint struct {
	At           time.Time `json:"at" doc:"When the step begins"`
	CPUUsage     float64   `json:"cpuUsage" doc:"Percent"`
	MemoryUsage  float64   `json:"memoryUsage" doc:"Percent"`
	SessionCount float64   `json:"sessionCount"`
	MessageCount int64     `json:"messageCount" doc:"Since the worker's process began, at the end of the step; a restart begins at 0"`
}

func (a *API) workerMetrics(ctx context.Context, in *RangeInput) (*Reply[WorkerMetrics], error) {
	w, _, err := a.window(ctx, in)
	if err != nil {
		return nil, err
	}
	read, err := a.workerReadings(ctx, w)
	if err != nil {
		return nil, databaseFault(err)
	}
	answer := WorkerMetrics{Range: in.Range, StepSeconds: int(w.Step.Seconds()), Workers: []WorkerSeries{}}
	for _, r := range read.each { // by worker and time
		if n := len(answer.Workers); n == 0 || answer.Workers[n-1].WorkerID != r.WorkerID {
			answer.Workers = append(answer.Workers, WorkerSeries{WorkerID: r.WorkerID})
		}
		series := &answer.Workers[len(answer.Workers)-1]
		series.Points = append(series.Points, WorkerPoint{At: r.At.UTC(), CPUUsage: r.CPUUsage, MemoryUsage: r.MemoryUsage,
			SessionCount: r.SessionCount, MessageCount: r.MessageCount})
	}
	return reply(answer), nil
}
