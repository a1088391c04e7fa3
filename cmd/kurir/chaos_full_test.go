//go:build chaos

package main

import "time"

// size is the full form, for make chaos.
var size = load{sessions: 50, messages: 10_000, clients: 64, redisAway: 10 * time.Second}
