package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// build makes the program that is measured: kurir as it is shipped, since what it links to and carries along is in memory, too; or, to
// see where its time goes, its test binary, which is the same program and writes profiles when it ends.
func (b *bench) build(ctx context.Context) error {
	b.binary = filepath.Join(b.home, "kurir")
	args := []string{"build", "-buildvcs=false", "-ldflags", "-s -w", "-o", b.binary, "./cmd/kurir"}
	if b.profiles != "" {
		if err := os.MkdirAll(b.profiles, 0o750); err != nil {
			return err
		}
		args = []string{"test", "-c", "-vet=off", "-buildvcs=false", "-o", b.binary, "./cmd/kurir"}
	}
	if b.kurir != "" {
		path, err := filepath.Abs(b.kurir)
		b.binary = path
		return err
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = b.out, b.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build kurir: %w", err)
	}
	return nil
}

// versionOf is what git says of the source.
func versionOf(ctx context.Context, source string) string {
	cmd := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty")
	cmd.Dir = source
	out, err := cmd.Output()
	if err != nil {
		return "dev"
	}
	return strings.TrimSpace(string(out))
}

const tmpfs = 0x01021994

// onDisk refuses a folder in memory: an fsync there costs nothing, and the figures would be worth as much.
func onDisk(folder string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(folder, &fs); err != nil {
		return err
	}
	if fs.Type == tmpfs {
		return fmt.Errorf("%s is in memory: name a folder on a disk with -data", folder)
	}
	return nil
}
