//go:build !linux

package embedded

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal does nothing: only Linux can tie the life of a child to ours. Elsewhere a kill -9 of ours leaves
// orphans, which the next start stops.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// commandLine returns the command line of a process, its words joined by blanks; "" if it does not exist.
func commandLine(pid int) string {
	out, err := exec.Command("ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
