package api

import (
	"context"
	"time"

	"kurir/models"
)

// WorkerSample is how a worker was, on the average of one step.
type WorkerSample struct {
	Timestamp    time.Time `json:"timestamp" doc:"When the step begins" example:"2026-01-31T10:00:00Z"`
	CPUUsage     float64   `json:"cpuUsage" doc:"Percent" example:"52.3"`
	MemoryUsage  float64   `json:"memoryUsage" doc:"Percent" example:"68.9"`
	SessionCount float64   `json:"sessionCount" example:"25"`
}

// WorkerStatistics is how a worker was in a range.
type WorkerStatistics struct {
	WorkerID    string         `json:"workerId" example:"worker-001"`
	Endpoint    string         `json:"endpoint" example:"http://10.0.0.7:8001"`
	AvgCPU      float64        `json:"avgCpu" doc:"Percent: the average of the samples" example:"52.3"`
	AvgMemory   float64        `json:"avgMemory" doc:"Percent, likewise" example:"68.9"`
	AvgSessions float64        `json:"avgSessions" example:"25"`
	Samples     []WorkerSample `json:"samples" doc:"Oldest first; a step without a sample is one in which nothing was heard"`
}

// FleetPoint is how all workers were in one step.
type FleetPoint struct {
	At             time.Time `json:"at" doc:"When the step begins" example:"2026-01-31T10:00:00Z"`
	Workers        int       `json:"workers" doc:"That were heard of; 0: nothing is known of this step" example:"4"`
	AvgCPUUsage    float64   `json:"avgCpuUsage" doc:"Percent" example:"52.3"`
	AvgMemoryUsage float64   `json:"avgMemoryUsage" doc:"Percent" example:"68.9"`
	Sessions       float64   `json:"sessions" doc:"Of all workers that were there at the same time, on the average of the step" example:"89"`
}

// WorkerAnalytics is how busy the fleet was.
type WorkerAnalytics struct {
	Period
	Workers []WorkerStatistics `json:"workers" doc:"By workerId, those that said something in that time; removed ones too"`
	Series  []FleetPoint       `json:"series" doc:"Oldest first, without gaps. The last step is under way"`
}

func (a *API) workerAnalytics(ctx context.Context, in *RangeInput) (*Reply[WorkerAnalytics], error) {
	w, _, err := a.window(ctx, in)
	if err != nil {
		return nil, err
	}
	read, err := a.workerReadings(ctx, w)
	if err != nil {
		return nil, databaseFault(err)
	}
	answer := WorkerAnalytics{Period: period(in, w), Workers: statistics(read.each), Series: fleetSeries(w, read.fleet)}
	ids := make([]string, len(answer.Workers))
	for i := range answer.Workers {
		ids[i] = answer.Workers[i].WorkerID
	}
	endpoints, err := models.EndpointsOf(ctx, a.db.Pool, ids)
	if err != nil {
		return nil, databaseFault(err)
	}
	for i := range answer.Workers {
		answer.Workers[i].Endpoint = endpoints[answer.Workers[i].WorkerID]
	}
	return reply(answer), nil
}

// statistics gathers readings, which come by worker and time.
func statistics(readings []models.Reading) []WorkerStatistics {
	list := []WorkerStatistics{}
	for _, r := range readings {
		if n := len(list); n == 0 || list[n-1].WorkerID != r.WorkerID {
			list = append(list, WorkerStatistics{WorkerID: r.WorkerID})
		}
		s := &list[len(list)-1]
		s.Samples = append(s.Samples, WorkerSample{Timestamp: r.At.UTC(), CPUUsage: tenths(r.CPUUsage), MemoryUsage: tenths(r.MemoryUsage), SessionCount: tenths(r.SessionCount)})
		s.AvgCPU, s.AvgMemory, s.AvgSessions = s.AvgCPU+r.CPUUsage, s.AvgMemory+r.MemoryUsage, s.AvgSessions+r.SessionCount
	}
	for i := range list {
		s, n := &list[i], float64(len(list[i].Samples))
		s.AvgCPU, s.AvgMemory, s.AvgSessions = tenths(s.AvgCPU/n), tenths(s.AvgMemory/n), tenths(s.AvgSessions/n)
	}
	return list
}

func fleetSeries(w models.Window, readings []models.FleetReading) []FleetPoint {
	series := make([]FleetPoint, w.Steps())
	for i := range series {
		series[i].At = w.Start(i)
	}
	for _, r := range readings {
		p := &series[w.Index(r.At)]
		p.Workers, p.AvgCPUUsage, p.AvgMemoryUsage, p.Sessions = r.Workers, tenths(r.CPUUsage), tenths(r.MemoryUsage), tenths(r.Sessions)
	}
	return series
}
