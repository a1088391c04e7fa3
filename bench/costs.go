package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/procfs"
)

// loadName is this process, which makes the load and plays the subscriber.
const loadName = "load"

// watched is a process whose costs are measured; of a family, with those that it has forked.
type watched struct {
	name   string
	pid    int
	family bool
}

// cost is what a process took while a case ran.
type cost struct {
	Process string  `json:"process"`
	CPU     float64 `json:"cpuSeconds"`
	PeakMB  float64 `json:"peakMB"`       // resident; PostgreSQL's shared memory counts once
	Per     float64 `json:"cpuMicroPer"`  // CPU microseconds for each of what was done
	PerMin  float64 `json:"cpuSecPerMin"` // CPU seconds a minute
}

const ticks = 100.0 // USER_HZ, which is the same on all Linux that Go runs on

// serversOf finds the PostgreSQL and the Redis that a process has started.
func serversOf(parent int) (found []watched, err error) {
	children, err := childrenOf(parent)
	if err != nil {
		return nil, err
	}
	for _, p := range children {
		switch name, _ := p.Comm(); name {
		case "postgres":
			found = append(found, watched{name: "postgres", pid: p.PID, family: true})
		case "redis-server", "valkey-server":
			found = append(found, watched{name: "redis", pid: p.PID})
		}
	}
	if len(found) != 2 {
		return nil, fmt.Errorf("PostgreSQL and Redis should be two children of ours, not %d", len(found))
	}
	return found, nil
}

func childrenOf(parent int) (children procfs.Procs, err error) {
	all, err := procfs.AllProcs()
	for _, p := range all {
		if s, err := p.Stat(); err == nil && s.PPID == parent {
			children = append(children, p)
		}
	}
	return children, err
}

// cpu is the CPU time in seconds since the process began; of a family, what has ended counts too.
func (w watched) cpu() float64 {
	p, err := procfs.NewProc(w.pid)
	if err != nil {
		return 0
	}
	s, err := p.Stat()
	if err != nil {
		return 0
	}
	spent := float64(s.UTime + s.STime)
	if w.family {
		spent += float64(s.CUTime + s.CSTime)
		children, _ := childrenOf(w.pid)
		for _, c := range children {
			if s, err := c.Stat(); err == nil {
				spent += float64(s.UTime + s.STime)
			}
		}
	}
	return spent / ticks
}

// resident is the memory now; of a family, what each has for itself, and what they share, once.
func (w watched) resident() float64 {
	var members procfs.Procs
	if w.family {
		members, _ = childrenOf(w.pid)
	}
	if p, err := procfs.NewProc(w.pid); err == nil {
		members = append(members, p)
	}
	var own, shared uint64
	for _, p := range members {
		if s, err := p.NewStatus(); err == nil {
			own += s.RssAnon
			shared = max(shared, s.RssShmem+s.RssFile)
		}
	}
	return float64(own+shared) / (1 << 20)
}

// peak is the most memory that a process had since forgetPeak.
func (w watched) peak() float64 {
	p, err := procfs.NewProc(w.pid)
	if err != nil {
		return 0
	}
	s, err := p.NewStatus()
	if err != nil {
		return 0
	}
	return float64(s.VmHWM) / (1 << 20)
}

// forgetPeak has the kernel begin anew with the peak. Where it does not allow that, the peak is that of the process's life.
func (w watched) forgetPeak() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", w.pid), []byte("5"), 0)
}

// meter measures costs between its start and its end.
type meter struct {
	watched []watched
	began   time.Time
	before  map[string]float64
	mu      sync.Mutex
	peaks   map[string]float64 // of families
	stop    chan struct{}
	group   sync.WaitGroup
}

func (r *rig) meter() *meter { return newMeter(r.watched) }

func newMeter(watched []watched) *meter {
	m := &meter{watched: watched, before: map[string]float64{}, peaks: map[string]float64{}, stop: make(chan struct{})}
	for _, w := range watched {
		w.forgetPeak()
		m.before[w.name] = w.cpu()
	}
	m.began = time.Now()
	m.group.Go(m.sample)
	return m
}

// sample looks at families each second: the kernel knows the peak of one process only.
func (m *meter) sample() {
	for {
		for _, w := range m.watched {
			if w.family {
				m.mu.Lock()
				m.peaks[w.name] = max(m.peaks[w.name], w.resident())
				m.mu.Unlock()
			}
		}
		select {
		case <-m.stop:
			return
		case <-time.After(time.Second):
		}
	}
}

// end returns what each process has cost.
func (m *meter) end() (costs []cost) {
	seconds := time.Since(m.began).Seconds()
	spent := make([]float64, len(m.watched))
	for i, w := range m.watched {
		spent[i] = w.cpu() - m.before[w.name]
	}
	close(m.stop)
	m.group.Wait()
	for i, w := range m.watched {
		c := cost{Process: w.name, CPU: spent[i], PeakMB: w.peak(), PerMin: spent[i] / seconds * 60}
		if w.family {
			c.PeakMB = m.peaks[w.name]
		}
		costs = append(costs, c)
	}
	return costs
}

// charge notes costs, and what they come to for each of what was done.
func (f *figures) charge(costs []cost) {
	f.Costs = costs
	for i := range costs {
		if f.Count > 0 {
			costs[i].Per = costs[i].CPU / f.Count * 1e6
		}
	}
}
