package main

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

// beKurir makes the test binary the program itself, so that whole-program tests run what they were built with, race
// detector included.
const beKurir = "KURIR_TEST_BE_KURIR"

func TestMain(m *testing.M) {
	if os.Getenv(beKurir) != "" {
		stop := profile(os.Getenv("KURIR_TEST_PROFILES"), os.Args[1])
		main()
		stop()
		os.Exit(0)
	}
	embeddedtest.Main(m)
}

// profile writes a CPU profile of this process, and at its end those of what it allocated, of who made others wait for locks (mutex), and of
// who waited, for whatever (block), into a folder, if one is given. One contention in ten is looked at, and all waits above 10 µs: profiles
// count the others by these, and looking at each would be what the CPU profile shows.
func profile(folder, name string) (stop func()) {
	if folder == "" {
		return func() {}
	}
	path := fmt.Sprintf("%s/%s-%d.", folder, name, os.Getpid())
	file, err := os.Create(path + "pprof")
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		panic(err)
	}
	runtime.SetMutexProfileFraction(10)
	runtime.SetBlockProfileRate(int(10 * time.Microsecond))
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
		for _, kind := range []string{"allocs", "mutex", "block"} {
			if file, err = os.Create(path + kind + ".pprof"); err == nil {
				_ = pprof.Lookup(kind).WriteTo(file, 0)
				_ = file.Close()
			}
		}
		runtime.SetMutexProfileFraction(0)
		runtime.SetBlockProfileRate(0)
	}
}

// plan is what a cluster is made of, beside one network and two of each of runner and scheduler.
type plan struct {
	apis     int // 2 if 0
	workers  int
	postgres *embeddedtest.PostgresHandle // nil: a database of the tests' own server
	balanced bool                         // clients and workers reach the api processes through a balancer
	cuttable bool                         // the ways between workers, gateway and network can be cut
	env      []string                     // of all processes
	password string                       // of the administrator; "": adminPassword
	redis    string                       // URL; "": a Redis of its own
	binary   string                       // the program, which makes the schema too; "": the tests' own
}

// cluster is Kurir as its operators run it: separate processes on one PostgreSQL and one Redis.
type cluster struct {
	t          *testing.T
	plan       plan
	dir        string
	db         *models.DB
	redis      *embeddedtest.RedisHandle // nil: the plan's
	binary     string                    // what is started
	env        []string
	simnet     string   // URL
	apis       []string // URLs
	entries    []string // URLs that clients use
	http       *http.Client
	subscribed []string // what the webhook of the account hears
	procs      map[string]*process
	ways       map[string]*ways // of workers, where they can be cut
	hooks      *subscriber
	apiKey     string
	admin      string // an administrator's token

	pictures string // URL
	mediaID  string // of a picture in the store
	cancels  sync.WaitGroup

	mu          sync.Mutex
	accepted    []accepted // all messages
	uncancelled error      // of the calls to cancel some
}

type process struct {
	name    string
	command string
	url     string // where it answers for its health; "" for workers and network
	env     []string
	cmd     *exec.Cmd
	log     *tail
	exited  chan struct{}
	err     error
	ended   bool // by us
}

// newCluster starts a cluster of two workers.
func newCluster(t *testing.T, env ...string) *cluster {
	t.Helper()
	return plan{workers: 2, env: env}.start(t)
}

const (
	adminEmail    = "admin@example.com"
	adminPassword = "correct horse battery"
)

func (p plan) start(t *testing.T) *cluster {
	t.Helper()
	began := time.Now()
	c := &cluster{t: t, plan: p, dir: t.TempDir(), procs: map[string]*process{}, ways: map[string]*ways{}, hooks: newSubscriber(t), pictures: servePictures(t),
		http: &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}}
	url := p.databaseURL(t)
	if c.binary = cmp.Or(p.binary, os.Args[0]); p.redis == "" {
		c.redis = embeddedtest.NewRedis(t, "")
		t.Logf("Redis: %s", c.redis.Kind())
		p.redis = c.redis.URL()
	}
	c.simnet = loopback(embeddedtest.Port(t))
	c.env = append([]string{
		beKurir + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "KURIR_HOME=" + c.dir, "LOG_FILE_PATH=", "KURIR_TEST_PROFILES=" + os.Getenv("KURIR_TEST_PROFILES"),
		"GOGC=" + os.Getenv("GOGC"),
		"DATABASE_URL=" + url, "REDIS_URL=" + p.redis, "DATABASE_MAX_CONNS=10", "BCRYPT_ROUNDS=4",
		"SELF_SERVICE_TIER=MAX", "LIMIT_SESSIONS_MAX=1000", "LIMIT_MESSAGES_PER_HOUR_MAX=10000000", "LIMIT_SESSION_OPS_PER_MINUTE=1000000",
		"RATE_LIMIT_MAX_REQUESTS=1000000", "LIMIT_REGISTRATIONS_PER_HOUR=1000000", "WORKER_MAX_SESSIONS=400", "WORKER_HANDOVER=1s", "SHUTDOWN_DELAY=0s", "SIMNET_URL=" + c.simnet, "SIM_SCAN_DELAY=10ms", "SIM_REPLY=none",
		"WEBHOOK_ALLOW_CIDRS=127.0.0.0/8", "MEDIA_ALLOW_CIDRS=127.0.0.0/8", "SIMNET_PORT=" + portOf(c.simnet), "CORS_ORIGIN=*",
		"ADMIN_EMAIL=" + adminEmail, "ADMIN_PASSWORD=" + cmp.Or(p.password, adminPassword),
	}, p.env...)
	c.migrate()
	c.db = modelstest.Open(t, url)
	c.launch()
	t.Logf("up after %s", round(time.Since(began)))
	return c
}

// migrate brings the schema to what the present binary wants.
func (c *cluster) migrate() {
	c.t.Helper()
	if c.binary == os.Args[0] {
		require.NoError(c.t, run(c.t.Context(), []string{"migrate"}, c.env, io.Discard, io.Discard))
		return
	}
	cmd := exec.CommandContext(c.t.Context(), c.binary, "migrate")
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	require.NoError(c.t, err, "%s", out)
}

// databaseURL is an empty database of the plan's server, or of KURIR_TEST_DATABASE_URL, to measure; or one of the tests' own
// server, which does without fsync, with the schema in it.
func (p plan) databaseURL(t *testing.T) string {
	t.Helper()
	if p.postgres != nil {
		return p.postgres.URL()
	}
	if url := os.Getenv("KURIR_TEST_DATABASE_URL"); url != "" {
		return url
	}
	return modelstest.URL(t)
}

func (c *cluster) launch() {
	for range cmp.Or(c.plan.apis, 2) {
		c.apis = append(c.apis, loopback(embeddedtest.Port(c.t)))
	}
	c.entries = c.apis
	if c.plan.balanced {
		c.entries = []string{newBalancer(c.t, c.apis).url}
	}
	nodes := make([]site, c.plan.workers)
	for i := range nodes {
		nodes[i] = c.newSite(i)
	}
	c.t.Cleanup(c.stopAll) // before what stands between the processes goes away
	c.start("simnet", "simnet", "")
	for i, url := range c.apis {
		c.start(fmt.Sprintf("api-%d", i), "api", url, "PORT="+portOf(url))
	}
	for _, url := range append(c.apis, c.entries...) {
		c.eventually(20*time.Second, "api is ready", func() (bool, string) { return c.healthy(url) })
	}
	for _, s := range nodes {
		c.startWorker(s)
	}
	for i := range 2 {
		for _, command := range []string{"runner", "scheduler"} {
			url := loopback(embeddedtest.Port(c.t))
			c.start(fmt.Sprintf("%s-%d", command, i), command, url, "METRICS_PORT="+portOf(url))
		}
	}
	var registered, login struct{ APIKey, Token string }
	c.call(http.MethodPost, "/auth/register", map[string]any{"email": "tenant@example.com", "password": "correct horse", "tier": "max"}, &registered, 201)
	c.call(http.MethodPost, "/auth/login", map[string]any{"email": adminEmail, "password": cmp.Or(c.plan.password, adminPassword)}, &login, 200)
	c.apiKey, c.admin = registered.APIKey, login.Token
}

// site is where a worker node runs and what it sees of the others.
type site struct{ id, listen, endpoint, gateway, network string }

func (c *cluster) newSite(i int) site {
	c.t.Helper()
	s := site{id: fmt.Sprintf("w%d", i), listen: loopback(embeddedtest.Port(c.t)), gateway: c.entries[i%len(c.entries)], network: c.simnet}
	s.endpoint = s.listen
	if c.plan.cuttable {
		w := newWays(c.t, s.gateway, s.listen, s.network)
		c.ways[s.id] = w
		s.gateway, s.endpoint, s.network = "http://"+w.toGateway.Addr(), "http://"+w.toWorker.Addr(), "http://"+w.toNetwork.Addr()
	}
	return s
}

// startWorker starts a worker node; its ID, w0, w1, and so on, is the name of its process.
func (c *cluster) startWorker(s site) {
	c.t.Helper()
	c.start(s.id, "worker", "", "WORKER_ID="+s.id, "WORKER_PORT="+portOf(s.listen), "WORKER_ENDPOINT="+s.endpoint, "GATEWAY_URL="+s.gateway, "SIMNET_URL="+s.network, c.metricsPort())
}

func (c *cluster) metricsPort() string { return fmt.Sprintf("METRICS_PORT=%d", embeddedtest.Port(c.t)) }

func loopback(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }

func portOf(url string) string { return url[strings.LastIndex(url, ":")+1:] }

func (c *cluster) start(name, command, url string, env ...string) {
	c.t.Helper()
	c.procs[name] = &process{name: name, command: command, url: url, env: env}
	c.again(name)
}

// again starts a process that has ended, as it was.
func (c *cluster) again(name string) {
	c.t.Helper()
	before := c.procs[name]
	p := &process{name: name, command: before.command, url: before.url, env: before.env, log: before.log, exited: make(chan struct{})}
	if p.log == nil {
		p.log = newTail(c.t, name)
	}
	p.cmd = exec.Command(c.binary, p.command)
	p.cmd.Env = append(append([]string{}, c.env...), p.env...)
	p.cmd.Dir = c.dir
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	require.NoError(c.t, embeddedtest.Start(p.cmd, func(err error) {
		p.err = err
		close(p.exited)
	}))
	c.procs[name] = p
}

// kill ends a process as a power cut would, and returns when it did.
func (c *cluster) kill(name string) time.Time {
	c.t.Helper()
	p := c.procs[name]
	p.ended = true
	at := time.Now()
	require.NoError(c.t, p.cmd.Process.Kill())
	<-p.exited
	return at
}

// terminate ends processes as an operator does, sees that they end well, and returns how long that took.
func (c *cluster) terminate(within time.Duration, names ...string) time.Duration {
	c.t.Helper()
	at := time.Now()
	for _, name := range names {
		c.procs[name].ended = true
		c.signal(name, syscall.SIGTERM)
	}
	late := time.After(within)
	for _, name := range names {
		p := c.procs[name]
		select {
		case <-p.exited:
		case <-late:
			c.t.Fatalf("%s has not ended within %s of SIGTERM:\n%s", name, within, p.log.notable(20))
		}
		require.NoError(c.t, p.err, "%s:\n%s", name, p.log.notable(20))
	}
	return time.Since(at)
}

func (c *cluster) signal(name string, signal os.Signal) {
	c.t.Helper()
	require.NoError(c.t, c.procs[name].cmd.Process.Signal(signal))
}

// noneDied checks that no process has ended by itself.
func (c *cluster) noneDied() {
	c.t.Helper()
	for name, p := range c.procs {
		select {
		case <-p.exited:
			if !p.ended {
				c.t.Errorf("%s ended by itself: %v:\n%s", name, p.err, p.log.notable(20))
			}
		default:
		}
	}
}

// stopAll ends all processes, kind by kind, and checks that each ended well. Workers go first, while there is somebody to
// tell.
func (c *cluster) stopAll() {
	c.noneDied()
	began := time.Now()
	for _, commands := range []string{"worker", "scheduler runner", "api", "simnet"} {
		var ending []*process
		for _, p := range c.procs {
			if strings.Contains(commands, p.command) && !p.ended {
				_ = p.cmd.Process.Signal(syscall.SIGTERM)
				ending = append(ending, p)
			}
		}
		late := time.After(30 * time.Second)
		for _, p := range ending {
			select {
			case <-p.exited:
				if p.err != nil {
					c.t.Errorf("%s ended with %v:\n%s", p.name, p.err, p.log.notable(60))
				}
			case <-late:
				c.t.Errorf("%s does not stop:\n%s", p.name, p.log.notable(20))
				_ = p.cmd.Process.Kill()
				<-p.exited
			}
		}
	}
	spent := map[string]time.Duration{}
	for _, p := range c.procs {
		spent[p.command] += (p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()).Round(100 * time.Millisecond)
	}
	c.t.Logf("stopped in %s; processor time of the processes that ran last: %v", round(time.Since(began)), spent)
	if c.t.Failed() {
		for name, p := range c.procs {
			c.t.Logf("%s, last notable lines:\n%s", name, p.log.notable(15))
		}
	}
}

func (c *cluster) healthy(url string) (bool, string) {
	res, err := c.http.Get(url + "/health/ready")
	if err != nil {
		return false, err.Error()
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode == http.StatusOK, string(body)
}

// eventually waits for a condition and says what it saw last.
func (c *cluster) eventually(within time.Duration, what string, done func() (bool, string)) {
	c.t.Helper()
	deadline := time.Now().Add(within)
	for {
		ok, saw := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %s: %s; saw: %s", within, what, saw)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// step runs one part of a test whose parts share a cluster. A later part builds on the earlier ones.
func (c *cluster) step(name string, do func()) {
	whole := c.t
	began := time.Now()
	ok := whole.Run(name, func(t *testing.T) {
		c.t = t
		defer func() { c.t = whole }()
		do()
		c.noneDied()
	})
	if !ok {
		whole.FailNow()
	}
	whole.Logf("%s: %s", name, time.Since(began).Round(100*time.Millisecond))
}

// tail keeps the last part of what a process printed, for the report of a failed test, and all of it in a file if
// KURIR_TEST_LOGS names a folder.
type tail struct {
	mu   sync.Mutex
	buf  []byte
	file *os.File
}

func newTail(t *testing.T, name string) *tail {
	l := &tail{}
	if folder := os.Getenv("KURIR_TEST_LOGS"); folder != "" {
		file, err := os.CreateTemp(folder, filepath.Base(t.Name())+"-"+name+"-*.log")
		require.NoError(t, err)
		l.file = file // until the end of the tests
	}
	return l
}

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		_, _ = l.file.Write(b)
	}
	l.buf = append(l.buf, b...)
	if over := len(l.buf) - 512<<10; over > 0 {
		l.buf = l.buf[over:]
	}
	return len(b), nil
}

// notable are the lines that are no routine.
func (l *tail) notable(most int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	scan := bufio.NewScanner(bytes.NewReader(l.buf))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		if text := scan.Text(); !strings.Contains(text, `"level":"INFO"`) {
			lines = append(lines, text)
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
