package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is a child of ours: one of Kurir's, or a yardstick.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string // file that takes what it prints
	exited chan struct{}
	err    error // how it ended; valid once exited is closed
}

// startProcess runs a program in a group of its own, so that the terminal's Ctrl-C reaches us alone; it ends with us, however we
// end. It prints into a file, as it does where it runs in earnest, and costs nobody's time.
func startProcess(name, folder string, env []string, path string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(folder, name+".log"), exited: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir, p.cmd.Env = folder, append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + folder}, env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for the kernel, the thread that forked is the parent
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

const stopGrace = 30 * time.Second

// stop asks a process to end, and kills it where that does not help. One that had ended before is a failure.
func (p *process) stop() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s ended by itself: %w\n%s", p.name, errors.Join(errEnded, p.err), p.tail())
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		if p.err != nil {
			return fmt.Errorf("%s ended with %w\n%s", p.name, p.err, p.tail())
		}
		return nil
	case <-time.After(stopGrace):
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
	return fmt.Errorf("%s had to be killed\n%s", p.name, p.tail())
}

var errEnded = errors.New("nobody stopped it")

// tail is the last that it printed.
func (p *process) tail() string {
	const most = 3000
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// runTool runs a program to its end and returns what it printed.
func runTool(ctx context.Context, env []string, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", filepath.Base(path), err, said.String())
	}
	return said.String(), nil
}

// eventually waits for a condition and says what it saw last.
func eventually(ctx context.Context, within time.Duration, what string, done func() (bool, string)) error {
	late := time.After(within)
	for {
		ok, saw := done()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late:
			return fmt.Errorf("not within %s: %s; saw: %s", within, what, saw)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
