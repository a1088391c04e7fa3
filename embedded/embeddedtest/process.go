package embeddedtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Process is a server of one test that package embedded does not run.
type Process struct {
	t      testing.TB
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
	ended  bool // by us
}

// installed finds a program under the first of its names that there is. Where there is none, the test says so and goes without;
// CI has to have it.
func installed(t testing.TB, pkg string, names ...string) (path string, ok bool) {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
		for _, folder := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin"} { // not in everybody's PATH
			if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
				return path, true
			}
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed: apt-get install %s", names[0], pkg)
	}
	t.Logf("NOT RUN: %s is not installed (Debian: apt-get install %s)", names[0], pkg)
	return "", false
}

// servant is whom servers run as where root tests: some refuse to run as root. Nil: whoever tests.
func servant() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
			gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
			if errors.Join(err1, err2) == nil {
				return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
			}
		}
	}
	return nil
}

// place makes a folder for a server of a test.
func place(t testing.TB, name string) string {
	t.Helper()
	f, n, err := next()
	if err != nil {
		t.Fatalf("a folder for %s: %v", name, err)
	}
	path := filepath.Join(f.path, fmt.Sprintf("%s-%d", name, n))
	if err := os.Mkdir(path, 0o711); err != nil {
		t.Fatal(err)
	}
	give(t, path)
	return path
}

// put writes a file of a server's.
func put(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	give(t, path)
}

func give(t testing.TB, path string) {
	t.Helper()
	if s := servant(); s != nil {
		if err := os.Chown(path, int(s.Uid), int(s.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// startProcess starts a server in its folder. It is killed at the end of the test, and by the kernel (on Linux) should we die first.
func startProcess(t testing.TB, folder, path string, args ...string) *Process {
	t.Helper()
	p := &Process{t: t, log: filepath.Join(folder, "log"), exited: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(path, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = folder, out, out
	p.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "HOME=/"}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: servant()}
	if err := Start(p.cmd, func(error) { close(p.exited) }); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	t.Cleanup(p.Kill)
	return p
}

// Start starts a process that ends with us: the kernel (on Linux) kills it should we die first, frozen or not. ended is told how it
// ended, when it has.
func Start(cmd *exec.Cmd, ended func(error)) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	dieWithUs(cmd.SysProcAttr)
	started := make(chan error)
	go func() {
		// The kernel takes the end of the thread that forked for that of the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended(cmd.Wait())
		}
	}()
	return <-started
}

// Kill ends the process as a power cut would, and returns when it has.
func (p *Process) Kill() {
	p.t.Helper()
	if !p.ended {
		select {
		case <-p.exited:
			p.t.Errorf("%s ended by itself:\n%s", p.cmd.Path, p.tail())
		default:
		}
	}
	p.ended = true
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// tail is the end of what it printed.
func (p *Process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// await waits until a server is as it should be.
func await(t testing.TB, what string, processes []*Process, ready func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return
		}
		for _, p := range processes {
			select {
			case <-p.exited:
				if !p.ended {
					p.ended = true
					t.Fatalf("%s: %s has ended:\n%s", what, p.cmd.Path, p.tail())
				}
			default:
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not in time: %s: %v", what, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
