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
		{time.Second, jobs.KindLeases, "ends leases that were not renewed and gives the sessions of workers that are gone to others"},
		{10 * time.Second, jobs.KindReconcile, "repairs what is not as it should be: sessions not held, in trouble, or half moved"},
		{time.Minute, jobs.KindRebalanceTick, "moves sessions away from workers that have too much to do"},
		{15 * time.Second, jobs.KindScaling, "works out how many workers there should be"},
		{c.ProbeInterval, jobs.KindProbe, "asks workers how they are; informs people and placement"},
		{10 * time.Second, jobs.KindExpire, "ends messages whose time is over while their session is away"},
		{time.Hour, jobs.KindPartitions, "makes the partitions of the coming months, seals those that are over"},
		{10 * time.Minute, jobs.KindMediaUpkeep, "drops media that no message refers to and nobody used for a day"},
		{time.Second, jobs.KindIndexWords, "makes the documents that search reads, of messages that are new"},
		{10 * time.Minute, jobs.KindRetention, "drops messages, events and deliveries whose time is over"},
		{10 * time.Minute, jobs.KindKeysExpiring, "has owners told of API keys that end soon"},
		{5 * time.Second, jobs.KindCountUsage, "counts messages that were sent"},
		{5 * time.Second, jobs.KindCountAnalytics, "counts messages and users by time, for administrators"},
		{10 * time.Minute, jobs.KindClosePeriods, "closes months of which the time to wait is over"},
		{time.Hour, jobs.KindForget, "drops finished jobs, idempotency keys, audit lines, worker metrics, counts of analytics and dead runners whose time is over; thins metrics"},
	}
}
