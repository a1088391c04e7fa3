//go:build !chaos

package main

import (
	"time"

	"kurir/embedded/embeddedtest"
)

// size and fleet are the small form, for make test. A network that is silent is given up after 15 s only, so here it refuses.
var (
	size  = load{sessions: 10, messages: 1000, clients: 16, redisAway: 3 * time.Second}
	fleet = fleetSize{sessions: 24, rate: 15, lease: 4 * time.Second, heartbeat: time.Second, kills: 1, silent: 10 * time.Second,
		postgresAway: 6 * time.Second, trouble: 3 * time.Second, shutdownDelay: time.Second, cuts: []cuts{
			{gateway: embeddedtest.Hole, network: embeddedtest.Refused, loss: embeddedtest.NoAnswers}}}
)
