package main

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/procfs"
)

// loadName is this process, which makes the load and plays the subscriber.
const loadName = "load"

// gatewayName is api, runner and scheduler together: they are one program, which is in memory once.
const gatewayName = "api + runner + scheduler"

var gatewayParts = []string{"api", "runner", "scheduler"}

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

// resident is the memory of a family now.
func (w watched) resident() float64 {
	members, _ := childrenOf(w.pid)
	if p, err := procfs.NewProc(w.pid); err == nil {
		members = append(members, p)
	}
	return resident(members)
}

// resident is the memory of processes of one program now: what each has for itself, and what they share, once.
func resident(members procfs.Procs) float64 {
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
	gateway procfs.Procs
	began   time.Time
	before  map[string]float64
	mu      sync.Mutex
	peaks   map[string]float64 // of families, and of the gateway
	stop    chan struct{}
	group   sync.WaitGroup
}

func (r *rig) meter() *meter { return newMeter(r.watched) }

func newMeter(watched []watched) *meter {
	m := &meter{watched: watched, before: map[string]float64{}, peaks: map[string]float64{}, stop: make(chan struct{})}
	for _, w := range watched {
		w.forgetPeak()
		m.before[w.name] = w.cpu()
		if p, err := procfs.NewProc(w.pid); err == nil && slices.Contains(gatewayParts, w.name) {
			m.gateway = append(m.gateway, p)
		}
	}
	m.began = time.Now()
	m.group.Go(m.sample)
	return m
}

// sample looks at families and at the gateway each second: the kernel knows the peak of one process only.
func (m *meter) sample() {
	note := func(name string, memory float64) {
		m.mu.Lock()
		m.peaks[name] = max(m.peaks[name], memory)
		m.mu.Unlock()
	}
	for {
		for _, w := range m.watched {
			if w.family {
				note(w.name, w.resident())
			}
		}
		note(gatewayName, resident(m.gateway))
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
	return m.withGateway(costs, seconds)
}

// withGateway adds the gateway's line, unless not all of it was there.
func (m *meter) withGateway(costs []cost, seconds float64) []cost {
	if len(m.gateway) < len(gatewayParts) {
		return costs
	}
	sum := cost{Process: gatewayName, PeakMB: m.peaks[gatewayName]}
	for _, c := range costs {
		if slices.Contains(gatewayParts, c.Process) {
			sum.CPU += c.CPU
		}
	}
	sum.PerMin = sum.CPU / seconds * 60
	return append(costs, sum)
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
