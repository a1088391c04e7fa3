package embedded

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// setDeathSignal has the kernel send sig to the child when the thread that started it ends, so that a kill -9 of ours
// leaves no orphan.
func setDeathSignal(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// commandLine returns the command line of a process, its words joined by blanks; "" if it does not exist, or is a zombie.
func commandLine(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}
