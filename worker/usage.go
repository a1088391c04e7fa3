package worker

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/mem"
)

const sampleEvery = 2 * time.Second

// Usage is how busy the node is, in percent of what it may use, 0 to 100. Each figure is that of its container where that has a limit,
// else that of the machine.
type Usage struct {
	CPU    float64
	Memory float64
}

// usageHere reads the figures of where the process runs. CPU is the mean since the call before.
func usageHere() func(context.Context) Usage {
	groups, cores := groupsOf(procfs.DefaultMountPoint, cgroupMount), float64(runtime.NumCPU())
	return func(ctx context.Context) Usage {
		machine, bytes := machineUsage(ctx)
		return groups.within(machine, cores, bytes, time.Now())
	}
}

const cgroupMount = "/sys/fs/cgroup"

// machineUsage reads the machine's figures, and how many bytes of memory it has.
func machineUsage(ctx context.Context) (u Usage, bytes float64) {
	if c, err := cpu.PercentWithContext(ctx, 0, false); err == nil && len(c) == 1 {
		u.CPU = c[0]
	}
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		u.Memory, bytes = m.UsedPercent, float64(m.Total)
	}
	return u, bytes
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
