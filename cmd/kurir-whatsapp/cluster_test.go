//go:build whatsapp

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/worker/whatsapp/wafake"
)

// beWorker makes the test binary kurir-whatsapp itself, whose WhatsApp is the fake at this address.
const beWorker = "KURIR_TEST_WAFAKE"

func TestMain(m *testing.M) {
	if at := os.Getenv(beWorker); at != "" {
		if err := work(at); err != nil {
			fmt.Fprintln(os.Stderr, "kurir-whatsapp:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	embeddedtest.Main(m)
}

// work is the program with a fake WhatsApp, which is told whose connections it gets. It ends with its parent too.
func work(at string) error {
	wafake.Trust()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	cfg, err := readConfig(os.Environ())
	if err != nil {
		return err
	}
	p := &program{environ: os.Environ(), stdout: io.Discard, stderr: os.Stderr, transport: wafake.Transport(at),
		through: func(way http.RoundTripper) http.RoundTripper { return wafake.Label(cfg.ID, way) }}
	return p.work(ctx, cfg, false, nil)
}

// buildKurir makes the program kurir, which no test of this package can be.
func buildKurir(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kurir")
	out, err := exec.Command("go", "build", "-o", path, "kurir/cmd/kurir").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

// cluster is Kurir as its operators run it, each part a process, with two workers for a fake WhatsApp.
type cluster struct {
	t       *testing.T
	kurir   string // the program
	network *wafake.Server
	home    string
	env     []string // of all processes
	api     int      // port
	procs   map[string]*process
	ways    map[string]*embeddedtest.Proxy // of each worker to the gateway
	tenant  *caller
	admin   *caller

	numbers []string // of the sessions' phones

	rounds int // of talk, so that no two texts are the same

	mu      sync.Mutex
	sent    []*outgoing
	written []incoming
	frozen  map[string]int // by number: how often its worker was frozen while somebody else took over
}

type process struct {
	name   string
	path   string
	args   []string
	env    []string
	cmd    *exec.Cmd
	in     io.Closer // of a worker, which ends with it
	said   *lines
	exited chan struct{}
	err    error
	ended  bool // by us
}

// lines keeps what a process said last.
type lines struct {
	mu   sync.Mutex
	text []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-256<<10):]
	return len(p), nil
}

// notable are the last lines that are no routine.
func (l *lines) notable() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for line := range bytes.Lines(l.text) {
		if !bytes.Contains(line, []byte(`"level":"INFO"`)) || os.Getenv("WHATSAPP_TEST_LOG") != "" {
			list = append(list, string(line))
		}
	}
	return strings.Join(list[max(0, len(list)-200):], "")
}

var workers = []string{"w0", "w1"}

// leaseTime is how long a worker may be silent. It is shorter than in production, as long as this machine bears it.
const leaseTime = 6 * time.Second

const password = "correct horse battery"

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, home: t.TempDir(), kurir: buildKurir(t), network: wafake.Start(t), api: embeddedtest.Port(t), procs: map[string]*process{},
		ways: map[string]*embeddedtest.Proxy{}, numbers: []string{ownNumber}, frozen: map[string]int{}}
	c.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "KURIR_HOME=" + c.home, "LOG_FILE_PATH=", "BCRYPT_ROUNDS=4", "SHUTDOWN_DELAY=0s", "WORKER_HANDOVER=1s",
		"DATABASE_URL=" + embeddedtest.DB(t), "REDIS_URL=" + embeddedtest.Redis(t), "DATABASE_MAX_CONNS=10", "PORT=" + strconv.Itoa(c.api),
		"LEASE_TTL=" + leaseTime.String(), "HEARTBEAT_INTERVAL=1s", "SELF_SERVICE_TIER=MAX", "LIMIT_SESSION_OPS_PER_MINUTE=1000000", "RATE_LIMIT_MAX_REQUESTS=1000000",
		"ADMIN_EMAIL=admin@example.com", "ADMIN_PASSWORD=" + password}
	migrate := exec.CommandContext(t.Context(), c.kurir, "migrate")
	migrate.Env = c.env
	out, err := migrate.CombinedOutput()
	require.NoError(t, err, string(out))
	gateway := fmt.Sprintf("127.0.0.1:%d", c.api)
	for _, id := range workers {
		c.ways[id] = embeddedtest.NewProxy(t, gateway)
	}
	c.tenant = &caller{t: t, base: "http://" + gateway + "/api/v1"}
	c.admin = &caller{t: t, base: c.tenant.base}
	t.Cleanup(c.stopAll)
	for _, part := range []string{"api", "runner", "scheduler"} {
		c.start(&process{name: part, path: c.kurir, args: []string{part}})
	}
	require.Eventually(t, func() bool {
		res, err := http.Get("http://" + gateway + "/health/ready")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	}, patience, 100*time.Millisecond)
	for _, id := range workers {
		c.start(&process{name: id, path: os.Args[0], env: []string{beWorker + "=" + c.network.Addr(), "WORKER_ID=" + id, "WORKER_PORT=0", "GATEWAY_URL=http://" + c.ways[id].Addr()}})
	}
	c.tenant.key = c.tenant.order(http.MethodPost, "/auth/register", map[string]any{"email": "me@example.com", "password": password, "tier": "max"})["apiKey"].(string)
	c.admin.token = c.admin.order(http.MethodPost, "/auth/login", map[string]any{"email": "admin@example.com", "password": password})["token"].(string)
	for _, id := range workers {
		c.online(id)
	}
	return c
}

func (c *cluster) start(p *process) {
	c.t.Helper()
	p.said, p.exited, p.ended, p.err = new(lines), make(chan struct{}), false, nil
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Env = append(append([]string{}, c.env...), p.env...)
	p.cmd.Dir = c.home
	p.cmd.Stdout, p.cmd.Stderr = p.said, p.said
	in, err := p.cmd.StdinPipe()
	require.NoError(c.t, err)
	p.in = in
	require.NoError(c.t, embeddedtest.Start(p.cmd, func(err error) {
		p.err = err
		close(p.exited)
	}), p.name)
	c.procs[p.name] = p
}

// kill ends a process as a power cut would.
func (c *cluster) kill(name string) {
	c.t.Helper()
	p := c.procs[name]
	p.ended = true
	require.NoError(c.t, p.cmd.Process.Kill())
	<-p.exited
}

// again starts a worker that was killed, and waits until it may hold sessions.
func (c *cluster) again(name string) {
	c.t.Helper()
	c.start(c.procs[name])
	c.online(name)
}

func (c *cluster) signal(name string, s syscall.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.procs[name].cmd.Process.Signal(s))
}

// online waits until a worker may hold sessions.
func (c *cluster) online(name string) {
	c.t.Helper()
	c.admin.until("/admin/workers", func(d map[string]any) bool {
		list, _ := d["workers"].([]any)
		for _, one := range list {
			if w := one.(map[string]any); w["id"] == name && w["status"] == "online" {
				return true
			}
		}
		return false
	})
}

// noneDied checks that no process has ended by itself.
func (c *cluster) noneDied() {
	c.t.Helper()
	for _, p := range c.procs {
		select {
		case <-p.exited:
			if !p.ended {
				c.t.Errorf("%s ended by itself: %v:\n%s", p.name, p.err, p.said.notable())
			}
		default:
		}
	}
}

// stopAll ends what was started and no more, the workers first, and checks that it ends well.
func (c *cluster) stopAll() {
	c.noneDied()
	for _, group := range [][]string{workers, {"scheduler", "runner"}, {"api"}} {
		late := time.After(20 * time.Second)
		for _, name := range group {
			if p := c.procs[name]; p != nil && !p.ended {
				_ = errors.Join(p.cmd.Process.Signal(syscall.SIGCONT), p.cmd.Process.Signal(syscall.SIGTERM)) // it may have ended
			}
		}
		for _, name := range group {
			p := c.procs[name]
			if p == nil {
				continue
			}
			select {
			case <-p.exited:
				if p.err != nil && !p.ended {
					c.t.Errorf("%s ended with %v", name, p.err)
				}
			case <-late:
				c.t.Errorf("%s does not stop", name)
				_ = p.cmd.Process.Kill()
				<-p.exited
			}
			_ = p.in.Close()
		}
	}
	if c.t.Failed() {
		for name, p := range c.procs {
			c.t.Logf("%s, last notable lines:\n%s", name, p.said.notable())
		}
	}
}

// step runs one part of a test, and proves then that nothing went wrong since the cluster began. A later part builds on the
// earlier ones.
func (c *cluster) step(name string, do func()) {
	whole := c.t
	began := time.Now()
	ok := whole.Run(name, func(t *testing.T) {
		c.t, c.tenant.t, c.admin.t = t, t, t
		defer func() { c.t, c.tenant.t, c.admin.t = whole, whole, whole }()
		do()
		c.prove()
		c.noneDied()
	})
	if !ok {
		whole.FailNow()
	}
	whole.Logf("%s: %s", name, time.Since(began).Round(100*time.Millisecond))
}
