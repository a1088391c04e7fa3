package worker

import (
	"context"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/mem"
)

const sampleEvery = 2 * time.Second

// Usage is how busy the machine is, in percent of the whole, 0 to 100.
type Usage struct {
	CPU    float64
	Memory float64
}

// MachineUsage reads the machine's figures. CPU is the mean since the call before.
func MachineUsage(ctx context.Context) Usage {
	var u Usage
	if c, err := cpu.PercentWithContext(ctx, 0, false); err == nil && len(c) == 1 {
		u.CPU = c[0]
	}
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		u.Memory = m.UsedPercent
	}
	return u
}

// sampler keeps the last sample, so that heartbeats and /health never wait for one.
type sampler struct {
	sample func(context.Context) Usage

	mu   sync.Mutex
	last Usage
}

func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		u := s.sample(ctx)
		s.mu.Lock()
		s.last = u
		s.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *sampler) get() Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}
