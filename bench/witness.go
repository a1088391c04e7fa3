package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// witnessed is what the simulated network reports.
type witnessed struct {
	Messages, Duplicates, Reordered, DoubleConnections int64
}

func (r *rig) witness(ctx context.Context) (w witnessed, err error) {
	status, answer, err := exchange(ctx, plain, http.MethodGet, r.network+"/report", "", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("report of the network: %d %.100s", status, answer)
	}
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(answer, &w)
}

// allShown waits until the phones show so many messages more, and fails where one was shown twice, or before an earlier one.
func (r *rig) allShown(ctx context.Context, before witnessed, more int) error {
	var w witnessed
	err := eventually(ctx, time.Minute, fmt.Sprintf("phones show %d more messages", more), func() (ok bool, saw string) {
		var err error
		w, err = r.witness(ctx)
		return err == nil && w.Messages >= before.Messages+int64(more), fmt.Sprint(w, err)
	})
	if err != nil {
		return err
	}
	if w.Duplicates+w.Reordered+w.DoubleConnections > 0 {
		return fmt.Errorf("the network saw %d duplicates, %d reordered messages, %d double connections", w.Duplicates, w.Reordered, w.DoubleConnections)
	}
	r.say("the network: %d messages, 0 duplicates, 0 reordered", w.Messages)
	return nil
}
