//go:build !chaos

package main

import "time"

// size is the small form, for make test.
var size = load{sessions: 10, messages: 1000, clients: 16, redisAway: 3 * time.Second}
