// Package scheduler turns clock ticks into tasks. Any number of schedulers may run: a task's ID holds its tick, so a tick
// is enqueued once. It decides nothing and knows no database.
package scheduler

import (
	"time"

	"kurir/jobs"
)

// entry is one periodic job.
type entry struct {
	every time.Duration // ticks lie at whole multiples of it since the epoch, so that all schedulers agree
	kind  string
	why   string
}

// entries is all of Kurir's clockwork.
func entries(c Config) []entry {
	return []entry{
		{time.Second, jobs.KindSweep, "wakes lanes and jobs that are due and in nobody's hand: retries, scheduled rows, lost hints, killed runners"},
		{10 * time.Second, jobs.KindReconcile, "has workers create the sessions that are assigned to them and that they do not hold"},
		{c.ProbeInterval, jobs.KindProbe, "asks workers how they are; only informs"},
		{10 * time.Second, jobs.KindExpire, "ends messages whose time is over while their session is away"},
		{time.Hour, jobs.KindPartitions, "makes the partitions of the coming months"},
		{time.Hour, jobs.KindForget, "drops finished jobs, idempotency keys, worker metrics and dead runners whose time is over"},
	}
}
