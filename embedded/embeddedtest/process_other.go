//go:build !linux

package embeddedtest

import "syscall"

// dieWithUs does nothing: the kernel offers nothing for it.
func dieWithUs(*syscall.SysProcAttr) {}
