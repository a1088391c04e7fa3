package worker

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kernel is what stands in files of a system, by their paths below the mount of its groups.
type kernel struct {
	t    *testing.T
	proc string
	sys  string
	now  time.Time
}

// newKernel has a process in the groups that /proc/self/cgroup names.
func newKernel(t *testing.T, memberships string, files map[string]string) *kernel {
	k := &kernel{t: t, proc: t.TempDir(), sys: t.TempDir(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	require.NoError(t, os.Mkdir(k.proc+"/42", 0o700))
	require.NoError(t, os.Symlink("42", k.proc+"/self"))
	require.NoError(t, os.WriteFile(k.proc+"/42/cgroup", []byte(memberships), 0o600))
	k.write(files)
	return k
}

func (k *kernel) write(files map[string]string) {
	k.t.Helper()
	for name, text := range files {
		name = filepath.Join(k.sys, name)
		require.NoError(k.t, os.MkdirAll(filepath.Dir(name), 0o700))
		require.NoError(k.t, os.WriteFile(name, []byte(text), 0o600))
	}
}

// after is the usage of 2 s in which the files have become these, on a machine of 4 cores and 1,000 bytes.
func (k *kernel) after(g groups, files map[string]string) Usage {
	k.t.Helper()
	k.write(files)
	k.now = k.now.Add(2 * time.Second)
	return g.within(machineBusy, 4, 1000, k.now)
}

var machineBusy = Usage{CPU: 11, Memory: 22}

func TestUsageOfAContainer(t *testing.T) {
	half := map[string]string{ // 0.5 cores and 400 bytes, in /app
		"app/cpu.max": "50000 100000\n", "app/cpu.stat": "usage_usec 7000000\nuser_usec 1\n", "app/memory.max": "400\n", "app/memory.current": "150\n",
		"app/memory.stat": "anon 90\ninactive_anon 7\ninactive_file 50\nactive_file 10\n",
	}
	with := func(more map[string]string) map[string]string {
		all := maps.Clone(half)
		maps.Copy(all, more)
		return all
	}
	v1 := map[string]string{
		"cpu/docker/x/cpu.cfs_quota_us": "50000\n", "cpu/docker/x/cpu.cfs_period_us": "100000\n", "cpuacct/docker/x/cpuacct.usage": "7000000000\n",
		"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n", "cpuacct/cpuacct.usage": "90000000000\n",
		"memory/docker/x/memory.limit_in_bytes": "400\n", "memory/docker/x/memory.usage_in_bytes": "150\n",
		"memory/docker/x/memory.stat":  "inactive_file 10\ntotal_inactive_file 50\n",
		"memory/memory.limit_in_bytes": "9223372036854771712\n", "memory/memory.usage_in_bytes": "900\n", "memory/memory.stat": "total_inactive_file 0\n",
	}
	v1Path := "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n0::/docker/x\n"
	quarter := map[string]string{"app/cpu.stat": "usage_usec 7250000\n"} // 0.25 s in 2 s of 0.5 cores
	for name, c := range map[string]struct {
		in          string
		before, now map[string]string
		want        Usage
	}{
		"its own limits":                             {"0::/app\n", half, quarter, Usage{25, 25}},
		"idle":                                       {"0::/app\n", half, nil, Usage{0, 25}},
		"no more than all of it":                     {"0::/app\n", half, map[string]string{"app/cpu.stat": "usage_usec 9000000\n", "app/memory.current": "900\n"}, Usage{100, 100}},
		"a counter that begins anew":                 {"0::/app\n", half, map[string]string{"app/cpu.stat": "usage_usec 5\n"}, Usage{0, 25}},
		"less than nothing":                          {"0::/app\n", half, map[string]string{"app/memory.current": "10\n"}, Usage{0, 0}},
		"limits that change meanwhile":               {"0::/app\n", half, map[string]string{"app/memory.max": "200", "app/cpu.max": "25000 100000", "app/cpu.stat": "usage_usec 7250000\n"}, Usage{50, 50}},
		"limits that end meanwhile":                  {"0::/app\n", half, map[string]string{"app/memory.max": "max", "app/cpu.max": "max 100000"}, machineBusy},
		"the groups above bound it too":              {"0::/app/web\n", with(map[string]string{"app/web/cgroup.procs": "42"}), quarter, Usage{25, 25}},
		"the tightest of several":                    {"0::/app/web\n", with(map[string]string{"app/web/memory.max": "110", "app/web/memory.current": "99", "app/web/memory.stat": "inactive_file 0"}), quarter, Usage{25, 90}},
		"an inner one that is looser":                {"0::/app/web\n", with(map[string]string{"app/web/memory.max": "900", "app/web/memory.current": "99", "app/web/memory.stat": "inactive_file 0"}), quarter, Usage{25, 25}},
		"its group is mounted as the topmost":        {"0::/kubepods/pod1/c\n", map[string]string{"cpu.max": "50000 100000", "cpu.stat": "usage_usec 0", "memory.max": "400", "memory.current": "100", "memory.stat": "inactive_file 0"}, map[string]string{"cpu.stat": "usage_usec 500000"}, Usage{50, 25}},
		"a path out of its namespace":                {"0::/../../other\n", map[string]string{"memory.max": "400", "memory.current": "100", "memory.stat": "inactive_file 0"}, nil, Usage{11, 25}},
		"memory alone":                               {"0::/app\n", with(map[string]string{"app/cpu.max": "max 100000"}), quarter, Usage{11, 25}},
		"CPU alone":                                  {"0::/app\n", with(map[string]string{"app/memory.max": "max"}), quarter, Usage{25, 22}},
		"more than the machine has":                  {"0::/app\n", with(map[string]string{"app/memory.max": "1000", "app/cpu.max": "400000 100000"}), quarter, machineBusy},
		"the topmost group, which tells of no limit": {"0::/\n", map[string]string{"cpu.stat": "usage_usec 1", "memory.stat": "inactive_file 0"}, nil, machineBusy},
		"files that say nothing":                     {"0::/app\n", with(map[string]string{"app/memory.current": "", "app/cpu.max": "many", "app/cpu.stat": "usage_usec"}), nil, machineBusy},
		"files that are not there":                   {"0::/app\n", map[string]string{"app/memory.max": "400", "app/cpu.max": "50000 100000"}, nil, machineBusy},
		"a limit of nothing":                         {"0::/app\n", with(map[string]string{"app/memory.max": "0", "app/cpu.max": "0 100000"}), nil, machineBusy},
		"version 1":                                  {v1Path, v1, map[string]string{"cpuacct/docker/x/cpuacct.usage": "7250000000\n"}, Usage{25, 25}},
		"version 1, mounted as the topmost":          {"5:memory:/docker/y\n", map[string]string{"memory/memory.limit_in_bytes": "400", "memory/memory.usage_in_bytes": "100", "memory/memory.stat": "total_inactive_file 0"}, nil, Usage{11, 25}},
		"version 1 without limits":                   {"5:memory:/\n4:cpu:/\n0::/\n", v1, nil, machineBusy},
		"no groups":                                  {"", nil, nil, machineBusy},
		"what is no line of memberships":             {"app\n", half, nil, machineBusy},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t, c.in, c.before)
			g := groupsOf(k.proc, k.sys)
			k.after(g, nil)
			require.InDeltaMapValues(t, map[string]float64{"cpu": c.want.CPU, "memory": c.want.Memory}, func() map[string]float64 {
				got := k.after(g, c.now)
				return map[string]float64{"cpu": got.CPU, "memory": got.Memory}
			}(), 1e-6)
		})
	}
	require.Equal(t, machineBusy, groupsOf(t.TempDir(), t.TempDir()).within(machineBusy, 4, 1000, time.Now()), "no Linux")
	require.Equal(t, machineBusy, groupsOf("/nowhere", "/nowhere").within(machineBusy, 4, 1000, time.Now()), "no Linux")
}

// The first sample knows of no time before, and claims nothing.
func TestFirstUsageOfAContainer(t *testing.T) {
	k := newKernel(t, "0::/app\n", map[string]string{"app/cpu.max": "50000 100000", "app/cpu.stat": "usage_usec 7000000"})
	require.InDelta(t, 0, groupsOf(k.proc, k.sys).within(machineBusy, 4, 1000, k.now).CPU, 0.01)
}

// What this system says, whatever it is, is a percentage.
func TestUsageHere(t *testing.T) {
	usage := usageHere()
	for range 2 {
		u := usage(t.Context())
		require.True(t, u.CPU >= 0 && u.CPU <= 100 && u.Memory > 0 && u.Memory <= 100, "%+v", u)
	}
}
