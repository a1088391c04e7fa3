package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

// beKurir makes the test binary the program itself, so that whole-program tests run what they were built with, race
// detector included.
const beKurir = "KURIR_TEST_BE_KURIR"

func TestMain(m *testing.M) {
	if os.Getenv(beKurir) != "" {
		stop := profile(os.Getenv("KURIR_TEST_PROFILES"))
		main()
		stop()
		os.Exit(0)
	}
	embeddedtest.Main(m)
}

// profile writes a CPU profile of this process into a folder, if one is given.
func profile(folder string) (stop func()) {
	if folder == "" {
		return func() {}
	}
	file, err := os.Create(fmt.Sprintf("%s/%s-%d.pprof", folder, os.Args[1], os.Getpid()))
	if err == nil {
		err = pprof.StartCPUProfile(file)
	}
	if err != nil {
		panic(err)
	}
	return func() { pprof.StopCPUProfile(); _ = file.Close() }
}

// cluster is Kurir as its operators run it: separate processes on one PostgreSQL and one Redis.
type cluster struct {
	t      *testing.T
	db     *models.DB
	redis  *embeddedtest.RedisHandle
	env    []string
	simnet string
	apis   []string
	http   *http.Client
	procs  map[string]*process
	apiKey string
	hooks  *subscriber
}

type process struct {
	name    string
	cmd     *exec.Cmd
	log     *tail
	exited  chan struct{}
	err     error
	stopped bool // by us
}

// tail keeps the last part of what a process printed, for the report of a failed test.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (l *tail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	if over := len(l.buf) - 64<<10; over > 0 {
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

// newCluster starts two of each kind, and one network.
func newCluster(t *testing.T, extra ...string) *cluster {
	t.Helper()
	url := databaseURL(t)
	c := &cluster{t: t, db: modelstest.Open(t, url), redis: embeddedtest.NewRedis(t, ""), procs: map[string]*process{}, hooks: newSubscriber(t),
		http: &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}}
	t.Logf("Redis: %s", c.redis.Kind())
	simnetPort := freePort(t)
	c.simnet = fmt.Sprintf("http://127.0.0.1:%d", simnetPort)
	home := t.TempDir()
	c.env = append([]string{
		beKurir + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + home, "KURIR_HOME=" + home, "LOG_FILE_PATH=", "KURIR_TEST_PROFILES=" + os.Getenv("KURIR_TEST_PROFILES"),
		"DATABASE_URL=" + url, "REDIS_URL=" + c.redis.URL(), "DATABASE_MAX_CONNS=10", "BCRYPT_ROUNDS=4", "SELF_SERVICE_TIER=MAX", "LIMIT_SESSIONS_MAX=1000",
		"WORKER_MAX_SESSIONS=100", "SIMNET_URL=" + c.simnet, "SIM_SCAN_DELAY=10ms", "SIM_REPLY=none", "WEBHOOK_ALLOW_CIDRS=127.0.0.0/8",
		"SIMNET_PORT=" + fmt.Sprint(simnetPort), "CORS_ORIGIN=*",
	}, extra...)
	c.start("simnet", "simnet")
	for i := range 2 {
		port := freePort(t)
		c.apis = append(c.apis, fmt.Sprintf("http://127.0.0.1:%d", port))
		c.start(fmt.Sprintf("api-%d", i), "api", fmt.Sprintf("PORT=%d", port))
	}
	for _, api := range c.apis {
		c.eventually(20*time.Second, "api is ready", func() (bool, string) { return c.healthy(api) })
	}
	for i := range 2 {
		port := freePort(t)
		c.start(fmt.Sprintf("worker-%d", i), "worker", fmt.Sprintf("WORKER_ID=w%d", i), fmt.Sprintf("WORKER_PORT=%d", port),
			fmt.Sprintf("WORKER_ENDPOINT=http://127.0.0.1:%d", port), "GATEWAY_URL="+c.apis[i])
		c.start(fmt.Sprintf("runner-%d", i), "runner")
		c.start(fmt.Sprintf("scheduler-%d", i), "scheduler")
	}
	t.Cleanup(c.stopAll)
	var registered struct{ APIKey string }
	c.call(http.MethodPost, "/auth/register", map[string]any{"email": "tenant@example.com", "password": "correct horse", "tier": "max"}, &registered, 201)
	c.apiKey = registered.APIKey
	return c
}

// databaseURL is a database of the tests' own server, which does without fsync; or, to measure, an empty one of
// KURIR_TEST_DATABASE_URL, which is migrated as an operator would.
func databaseURL(t *testing.T) string {
	t.Helper()
	url := os.Getenv("KURIR_TEST_DATABASE_URL")
	if url == "" {
		return modelstest.URL(t)
	}
	require.NoError(t, run(t.Context(), []string{"migrate"}, []string{"DATABASE_URL=" + url}, io.Discard, io.Discard))
	return url
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func (c *cluster) start(name, command string, env ...string) {
	c.t.Helper()
	p := &process{name: name, log: &tail{}, exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], command)
	p.cmd.Env = append(append([]string{}, c.env...), env...)
	p.cmd.Dir = c.t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	require.NoError(c.t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	c.procs[name] = p
}

// kill ends a process as a power cut would.
func (c *cluster) kill(name string) {
	c.t.Helper()
	p := c.procs[name]
	p.stopped = true
	require.NoError(c.t, p.cmd.Process.Kill())
	<-p.exited
}

// stopAll ends all processes in order and checks that each ended well.
func (c *cluster) stopAll() {
	for _, kind := range []string{"scheduler", "runner", "worker", "api", "simnet"} {
		for name, p := range c.procs {
			if !strings.HasPrefix(name, kind) || p.stopped {
				continue
			}
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-p.exited:
				if p.err != nil {
					c.t.Errorf("%s ended with %v:\n%s", name, p.err, p.log.notable(60))
				}
			case <-time.After(30 * time.Second):
				c.t.Errorf("%s does not stop:\n%s", name, p.log.notable(20))
				_ = p.cmd.Process.Kill()
				<-p.exited
			}
		}
	}
	if c.t.Failed() {
		for name, p := range c.procs {
			c.t.Logf("%s, last notable lines:\n%s", name, p.log.notable(15))
		}
	}
}

func (c *cluster) healthy(api string) (bool, string) {
	res, err := c.http.Get(api + "/health/ready")
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
		<-time.After(200 * time.Millisecond)
	}
}

// request makes one call and returns status and data.
func (c *cluster) request(ctx context.Context, method, url string, body any, headers ...string) (int, json.RawMessage, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(encoded))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Api-Key", c.apiKey)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return res.StatusCode, nil, err
	}
	var envelope struct {
		Data json.RawMessage
		Code string
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return res.StatusCode, nil, fmt.Errorf("answer %q: %w", answer, err)
	}
	if envelope.Data == nil {
		return res.StatusCode, answer, nil
	}
	return res.StatusCode, envelope.Data, nil
}

func (c *cluster) call(method, path string, body, into any, want int) {
	c.t.Helper()
	status, data, err := c.request(c.t.Context(), method, c.apis[0]+"/api/v1"+path, body)
	require.NoError(c.t, err)
	require.Equal(c.t, want, status, "%s %s: %s", method, path, data)
	if into != nil {
		require.NoError(c.t, json.Unmarshal(data, into))
	}
}

// linkedSessions makes sessions with a webhook each and waits until all are connected.
func (c *cluster) linkedSessions(n int) []string {
	c.t.Helper()
	c.eventually(20*time.Second, "both workers are registered", func() (bool, string) {
		n := modelstest.Scalar[int64](c.t, c.db, `SELECT count(*) FROM workers WHERE lease_expires_at > now()`)
		return n == 2, fmt.Sprint(n)
	})
	names := make([]string, n)
	var group sync.WaitGroup
	for i := range names {
		names[i] = fmt.Sprintf("s%03d", i)
		group.Go(func() {
			c.call(http.MethodPost, "/sessions", map[string]any{"name": names[i], "sessionId": names[i],
				"webhook": map[string]any{"url": c.hooks.url + "/" + names[i], "secret": hookSecret}}, nil, 202)
		})
	}
	group.Wait()
	c.eventually(60*time.Second, "all sessions are connected", func() (bool, string) {
		n := modelstest.Scalar[int64](c.t, c.db, `SELECT count(*) FROM sessions WHERE status = 'CONNECTED'`)
		return int(n) == len(names), fmt.Sprint(n)
	})
	return names
}

func (c *cluster) report() simnet.Report {
	c.t.Helper()
	res, err := c.http.Get(c.simnet + "/report")
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	var r simnet.Report
	require.NoError(c.t, json.NewDecoder(res.Body).Decode(&r))
	return r
}

// subscriber is a webhook receiver that verifies signatures with the official library and remembers what came.
type subscriber struct {
	url string

	mu     sync.Mutex
	seen   map[string]map[int64]string // by session: type by sequence
	events map[string]int              // by type, each sequence once
	bad    []string
	answer func(session string) int
}

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func newSubscriber(t *testing.T) *subscriber {
	s := &subscriber{seen: map[string]map[int64]string{}, events: map[string]int{}, answer: func(string) int { return http.StatusNoContent }}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	verifier, werr := standard.NewWebhook(hookSecret)
	if err = errors.Join(err, werr); err == nil {
		err = verifier.Verify(body, r.Header)
	}
	var e struct {
		Type, SessionID string
		Sequence        int64
	}
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	session := strings.TrimPrefix(r.URL.Path, "/")
	if err == nil && e.SessionID != session {
		err = fmt.Errorf("event of %s came to %s", e.SessionID, session)
	}
	if err != nil {
		s.bad = append(s.bad, err.Error())
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	status := s.answer(session)
	w.WriteHeader(status)
	if status >= 300 {
		return
	}
	if s.seen[session] == nil {
		s.seen[session] = map[int64]string{}
	}
	if known, again := s.seen[session][e.Sequence]; again && known != e.Type {
		s.bad = append(s.bad, fmt.Sprintf("%s: sequence %d is %s and %s", session, e.Sequence, known, e.Type))
	} else if !again {
		s.seen[session][e.Sequence] = e.Type
		s.events[e.Type]++
	}
}

// complete reports whether each session's sequence has come without gaps up to the webhook's counter.
func (s *subscriber) complete(want map[string]int64) (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for session, next := range want {
		for seq := int64(1); seq < next; seq++ {
			if _, ok := s.seen[session][seq]; !ok {
				return false, fmt.Sprintf("%s: sequence %d of %d is missing", session, seq, next-1)
			}
		}
		if int64(len(s.seen[session])) != next-1 {
			return false, fmt.Sprintf("%s: %d events, expected %d", session, len(s.seen[session]), next-1)
		}
	}
	return true, ""
}
