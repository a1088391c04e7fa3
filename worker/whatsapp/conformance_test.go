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
