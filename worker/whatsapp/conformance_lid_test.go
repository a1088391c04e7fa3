//go:build whatsapp && !race

package whatsapp

import (
	"testing"

	"kurir/worker"
	"kurir/worker/enginetest"
)

// The same, where WhatsApp has gone over to LIDs: people are still known by their numbers here.
func TestConformanceByLID(t *testing.T) {
	n := newNetwork(t)
	n.migrated = 1
	enginetest.Run(t, func(t *testing.T) (worker.Engine, enginetest.Network) { return n.engine(t), n })
}
