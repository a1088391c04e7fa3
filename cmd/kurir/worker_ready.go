package main

import (
	"context"
	"errors"

	"kurir/monitoring"
	"kurir/worker"
)

var errNoLease = errors.New("the gateway has granted no lease")

// leased makes a worker ready while it holds a lease, so that a rollout of workers ends at the first one that the gateway does not
// take, instead of going through all of them.
func leased(node *worker.Node) []monitoring.Check {
	return []monitoring.Check{{Name: "lease", Func: func(context.Context) error {
		if !node.Leased() {
			return errNoLease
		}
		return nil
	}}}
}
