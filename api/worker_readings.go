package api

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"

	"kurir/models"
	"kurir/recent"
)

// readings keeps what was read of workers' metrics for a moment: it is up to a million rows, and dashboards ask again and again.
type readings struct {
	kept  *recent.Values[models.Window, workerReadings]
	asked singleflight.Group
}

// workerReadings are those of a window. Nobody changes them.
type workerReadings struct {
	fleet []models.FleetReading
	each  []models.Reading
}

const (
	readingsMost = 8 // windows: four ranges, and their next step
	readingsKept = 30 * time.Second
	readingsTime = 20 * time.Second // that reading may take, whoever goes meanwhile
)

func newReadings() *readings {
	return &readings{kept: recent.New[models.Window, workerReadings](readingsMost, readingsKept)}
}

// workerReadings reads a window, once for all who ask for it at the same time or soon after. That there was nothing is not kept:
// it costs nothing to see.
func (a *API) workerReadings(ctx context.Context, w models.Window) (workerReadings, error) {
	if r, ok := a.readings.kept.Get(w); ok {
		return r, nil
	}
	r, err, _ := a.readings.asked.Do(fmt.Sprint(w.From.Unix(), w.Step), func() (any, error) {
		within, cancel := context.WithTimeout(context.WithoutCancel(ctx), readingsTime)
		defer cancel()
		fleet, each, err := models.WorkerReadings(within, a.db.Pool, w)
		r := workerReadings{fleet, each}
		if err == nil && len(each) > 0 {
			a.readings.kept.Add(w, r)
		}
		return r, err
	})
	return r.(workerReadings), err
}
