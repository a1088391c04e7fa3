//go:build !race

// Not under the race detector: whatsmeow reads and writes its socket without a lock where a connection breaks while something is
// sent (socket.FrameSocket), which it is made to here all the time. make test runs these without.

package whatsapp

import (
	"testing"

	"kurir/worker"
	"kurir/worker/enginetest"
)

// The suite that every engine has to pass, with the real whatsmeow, on a fake WhatsApp. It shows that the engine is consistent
// with whatsmeow; of WhatsApp it shows nothing.
func TestConformance(t *testing.T) {
	n := newNetwork(t)
	enginetest.Run(t, func(t *testing.T) (worker.Engine, enginetest.Network) { return n.engine(t), n })
}
