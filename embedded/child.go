package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const (
	stopGrace   = 20 * time.Second // for the orderly shutdown: PostgreSQL writes out up to shared_buffers
	insistGrace = 3 * time.Second  // for each harder signal after that
	logLimit    = 8 << 20          // a log longer than this at start is moved to <name>.1
	tailLines   = 12
)

// child is a server or tool that we started.
type child struct {
	name   string
	cmd    *exec.Cmd
	log    string
	offset int64 // where in the log this run begins
	exited chan struct{}
	err    error // how it ended; valid once exited is closed
}

// command is what to run, as whom, and what the kernel sends it if we die first.
type command struct {
	path        string
	args        []string
	stdin       string
	acct        account
	log         string
	deathSignal syscall.Signal // 0: none
}

// startChild runs c in its own process group, so that the terminal's Ctrl-C reaches us alone and Stop keeps the order.
// Its environment is bare: ours holds secrets, and PG* variables would lead PostgreSQL's tools astray.
func startChild(c command) (*child, error) {
	if st, err := os.Stat(c.log); err == nil && st.Size() > logLimit {
		_ = os.Rename(c.log, c.log+".1")
	}
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	offset, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(c.path, c.args...)
	cmd.Dir = "/" // ours may be closed to the account
	cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "HOME=/"}
	if p, ok := os.LookupEnv("LD_LIBRARY_PATH"); ok {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+p)
	}
	cmd.Stdout, cmd.Stderr = out, out
	if c.stdin != "" {
		cmd.Stdin = strings.NewReader(c.stdin)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.acct.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.acct.uid), Gid: uint32(c.acct.gid)}
	}
	setDeathSignal(cmd.SysProcAttr, c.deathSignal)

	ch := &child{name: filepath.Base(c.path), cmd: cmd, log: c.log, offset: offset, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that forked for the end of the parent, so this thread waits until the
		// child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ch.err = cmd.Wait()
			close(ch.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", c.path, err)
	}
	return ch, nil
}

// runTool runs c to its end.
func runTool(ctx context.Context, c command) error {
	c.deathSignal = syscall.SIGKILL
	ch, err := startChild(c)
	if err != nil {
		return err
	}
	select {
	case <-ch.exited:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), ch.stop(ctx))
	}
	if ch.err != nil {
		return ch.failure()
	}
	return nil
}

// failure tells how the child ended, with the last lines of its log. Only for one that has exited.
func (c *child) failure() error {
	how := "exit status 0"
	if c.err != nil {
		how = c.err.Error()
	}
	return fmt.Errorf("%s ended (%s); the end of %s:\n%s", c.name, how, c.log, c.tail())
}

// tail returns the last lines that this run wrote to its log.
func (c *child) tail() string {
	f, err := os.Open(c.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	from := c.offset
	if st, err := f.Stat(); err == nil {
		from = max(from, st.Size()-4096)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, from, 4096))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}

// stop sends the signals one by one, each when the one before did not help in time, and kills at last. The end of ctx
// only cuts the first wait short. A nil child, and one that has ended, is stopped.
func (c *child) stop(ctx context.Context, signals ...syscall.Signal) error {
	if c == nil {
		return nil
	}
	grace := stopGrace
	for i, sig := range append(signals, syscall.SIGKILL) {
		select {
		case <-c.exited:
			return nil
		default:
		}
		_ = c.cmd.Process.Signal(sig)
		var end <-chan struct{}
		if i == 0 && sig != syscall.SIGKILL {
			end = ctx.Done()
		}
		select {
		case <-c.exited:
			if sig == syscall.SIGKILL {
				return fmt.Errorf("%s did not stop when asked and was killed", c.name)
			}
			return nil
		case <-end:
		case <-time.After(grace):
		}
		grace = insistGrace
	}
	return fmt.Errorf("%s (pid %d) cannot be killed", c.name, c.cmd.Process.Pid)
}
