package worker

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
)

// Control groups are how Linux limits a container. The kernel tells of them in files, whose names stand in cgroup-v2.rst and cgroup-v1/
// of its documentation. No library fits: those that read them all come with the managing of groups, by eBPF and D-Bus, or look at the
// innermost group alone.

// group limits a resource of the process, which is in it or in one below it. NaN stands for what the kernel does not tell.
type group struct {
	limit func() float64 // cores, or bytes
	used  func() float64 // seconds of one core since the group was made, or bytes now

	last float64 // of used, at
	at   time.Time
}

// groups are those of each resource.
type groups struct{ cpu, memory []*group }

// groupsOf finds them by where proc and the groups are mounted, in either version. There are none where there is no Linux.
func groupsOf(proc, mounted string) (g groups) {
	fs, err := procfs.NewFS(proc)
	if err != nil {
		return g
	}
	self, err := fs.Self()
	if err != nil {
		return g
	}
	entries, _ := self.Cgroups() // none, if they cannot be read
	for _, e := range entries {
		switch {
		case e.HierarchyID == 0:
			g.unified(mounted, e.Path)
		case slices.Contains(e.Controllers, "cpu"):
			g.cpuOfV1(mounted, e.Path)
		case slices.Contains(e.Controllers, "memory"):
			g.memoryOfV1(filepath.Join(mounted, "memory"), e.Path)
		}
	}
	return g
}

// unified is version 2, where a group limits all resources.
func (g *groups) unified(mounted, path string) {
	for _, dir := range upwards(mounted, path) {
		file := func(name string) string { return filepath.Join(mounted, dir, name) }
		g.cpu = append(g.cpu, &group{
			limit: func() float64 { return number(file("cpu.max"), "", 0) / number(file("cpu.max"), "", 1) },
			used:  func() float64 { return number(file("cpu.stat"), "usage_usec", 0) / 1e6 },
		})
		g.memory = append(g.memory, &group{
			limit: func() float64 { return number(file("memory.max"), "", 0) },
			used: func() float64 {
				return number(file("memory.current"), "", 0) - number(file("memory.stat"), "inactive_file", 0)
			},
		})
	}
}

// cpuOfV1: a second controller, which is mounted together with the first on most systems, tells what is used.
func (g *groups) cpuOfV1(mounted, path string) {
	for _, dir := range upwards(filepath.Join(mounted, "cpu"), path) {
		file := func(controller, name string) string { return filepath.Join(mounted, controller, dir, name) }
		g.cpu = append(g.cpu, &group{
			limit: func() float64 {
				return number(file("cpu", "cpu.cfs_quota_us"), "", 0) / number(file("cpu", "cpu.cfs_period_us"), "", 0)
			},
			used: func() float64 { return number(file("cpuacct", "cpuacct.usage"), "", 0) / 1e9 },
		})
	}
}

func (g *groups) memoryOfV1(mounted, path string) {
	for _, dir := range upwards(mounted, path) {
		file := func(name string) string { return filepath.Join(mounted, dir, name) }
		g.memory = append(g.memory, &group{
			limit: func() float64 { return number(file("memory.limit_in_bytes"), "", 0) },
			used: func() float64 {
				return number(file("memory.usage_in_bytes"), "", 0) - number(file("memory.stat"), "total_inactive_file", 0)
			},
		})
	}
}

// upwards are the folders of a group and of those above it. A container without a namespace of its own is told the path on its host, and
// has its own group mounted in place of the topmost.
func upwards(mounted, path string) (dirs []string) {
	dir := filepath.Clean("/" + path)
	if _, err := os.Stat(filepath.Join(mounted, dir)); err != nil {
		dir = "/"
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		dirs = append(dirs, dir)
	}
	return append(dirs, "/")
}

// number is the one at a place of a file's first line, or of the line that begins with the word, behind it.
func number(file, word string, place int) float64 {
	text, err := os.ReadFile(file) //nolint:gosec // the kernel's
	if err != nil {
		return math.NaN()
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if word != "" {
			if len(fields) == 0 || fields[0] != word {
				continue
			}
			fields = fields[1:]
		}
		return parse(fields, place)
	}
	return math.NaN()
}

func parse(fields []string, place int) float64 {
	if place >= len(fields) {
		return math.NaN()
	}
	if fields[place] == "max" {
		return math.Inf(1)
	}
	n, err := strconv.ParseFloat(fields[place], 64)
	if err != nil {
		return math.NaN()
	}
	return n
}

// within is the usage of a process that the groups limit, on a machine with so many cores and bytes of memory that is used as u says.
func (g groups) within(u Usage, cores, bytes float64, now time.Time) Usage {
	cpu := func(g *group) float64 {
		was, at := g.last, g.at
		g.last, g.at = g.used(), now
		return (g.last - was) / now.Sub(at).Seconds()
	}
	return Usage{
		CPU:    fullest(g.cpu, cores, u.CPU, cpu),
		Memory: fullest(g.memory, bytes, u.Memory, func(g *group) float64 { return g.used() }),
	}
}

// fullest is the usage of the group with the least left, in percent; otherwise, if none has a limit below what the machine has.
func fullest(list []*group, machine, otherwise float64, used func(*group) float64) float64 {
	most := math.NaN()
	for _, g := range list {
		limit, used := g.limit(), used(g)
		if share := used / limit; limit > 0 && limit < machine && !math.IsNaN(share) && !(share*100 <= most) {
			most = min(max(share*100, 0), 100)
		}
	}
	if math.IsNaN(most) {
		return otherwise
	}
	return most
}
