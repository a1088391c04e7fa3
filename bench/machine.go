package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/prometheus/procfs"
)

// machine is what it was measured on, and what else ran there.
type machine struct {
	Cores      int     `json:"cores"`
	Processor  string  `json:"processor"`
	MemoryGB   float64 `json:"memoryGB"`
	Kernel     string  `json:"kernel"`
	Disk       string  `json:"disk"` // kind of file system of the servers' data
	Go         string  `json:"go"`
	PostgreSQL string  `json:"postgresql"`
	Redis      string  `json:"redis"`
	Load1      float64 `json:"load1"` // processes that ran or waited when it began, over a minute
	Load5      float64 `json:"load5"`
}

func describeMachine(data string) machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Kernel: firstLine("/proc/sys/kernel/osrelease"), Disk: fileSystemOf(data)}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return m
	}
	if load, err := fs.LoadAvg(); err == nil {
		m.Load1, m.Load5 = load.Load1, load.Load5
	}
	if memory, err := fs.Meminfo(); err == nil && memory.MemTotal != nil {
		m.MemoryGB = float64(*memory.MemTotal) / (1 << 20)
	}
	if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 {
		m.Processor = cpus[0].ModelName
	}
	return m
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

var fileSystems = map[int64]string{0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x794C7630: "overlayfs", 0x2FC12FC1: "zfs", tmpfs: "memory"}

func fileSystemOf(folder string) string {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil {
		return err.Error()
	}
	if name, ok := fileSystems[fs.Type]; ok {
		return name
	}
	return fmt.Sprintf("%#x", fs.Type)
}
