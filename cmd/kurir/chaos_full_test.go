//go:build chaos

package main

import (
	"time"

	"kurir/embedded/embeddedtest"
)

// size and fleet are the full form, for make chaos.
var (
	size  = load{sessions: 50, messages: 10_000, clients: 64, redisAway: 10 * time.Second}
	fleet = fleetSize{sessions: 300, rate: 200, lease: 12 * time.Second, heartbeat: 3 * time.Second, kills: 5, silent: 40 * time.Second,
		postgresAway: 30 * time.Second, trouble: 30 * time.Second, shutdownDelay: 2 * time.Second, cuts: []cuts{
			{gateway: embeddedtest.Hole, network: embeddedtest.Hole, loss: embeddedtest.NoAnswers},
			{gateway: embeddedtest.Refused, network: embeddedtest.Refused, loss: embeddedtest.NoRequests}}}
)
