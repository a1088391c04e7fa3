package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

const collections = "../../collections"

// newman finds the runner that `make newman` has installed. Where it is not, the test says so and does nothing; CI has to have
// it. What the collection asks for is compared with the API in any case, in api.
func newman(t *testing.T) (path string, ok bool) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(collections, "node_modules", ".bin", "newman"))
	require.NoError(t, err)
	if _, err := os.Stat(path); err == nil {
		return path, true
	}
	require.Empty(t, os.Getenv("CI"), "newman is not installed: make newman")
	t.Log("NOT RUN: newman is not installed (make newman), so nobody has run the collection.")
	return "", false
}

// Somebody imports the collection and runs it as it is, against `kurir up`. All of it runs, and nothing of it stays.
func TestCollection(t *testing.T) {
	t.Parallel()
	runner, ok := newman(t)
	if !ok {
		return
	}
	hooks := &heard{}
	receiver := httptest.NewServer(hooks)
	defer receiver.Close()
	url := modelstest.URL(t)
	origin := kurirUp(t, "DATABASE_URL="+url, "REDIS_URL="+embeddedtest.NewRedis(t, "").URL())

	folder := t.TempDir()
	environment, report := filepath.Join(folder, "environment.json"), filepath.Join(folder, "report.json")
	writeEnvironment(t, environment, map[string]string{"origin": origin, "webhookUrl": receiver.URL + "/", "adminEmail": adminEmail, "adminPassword": adminPassword})
	cmd := exec.CommandContext(t.Context(), runner, "run", "kurir.postman_collection.json", "--environment", environment,
		"--reporters", "cli,json", "--reporter-json-export", report, "--color", "off", "--timeout-request", "45000", "--timeout", "300000")
	cmd.Dir = collections
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)

	raw, err := os.ReadFile(filepath.Join(collections, "kurir.postman_collection.json"))
	require.NoError(t, err)
	passedOver := requestNames(t, raw)
	total := len(passedOver)
	raw, err = os.ReadFile(report)
	require.NoError(t, err)
	var ran struct {
		Run struct {
			Executions []struct {
				Item     struct{ Name string }
				Response *struct{ Code int }
			}
		}
	}
	require.NoError(t, json.Unmarshal(raw, &ran))
	for _, e := range ran.Run.Executions {
		if e.Response != nil && e.Response.Code > 0 {
			passedOver = slices.DeleteFunc(passedOver, func(name string) bool { return name == e.Item.Name })
		}
	}
	require.Empty(t, passedOver, "requests that were not sent:\n%s", out)
	t.Logf("%d requests, %d sent", total, len(ran.Run.Executions))
	require.Contains(t, hooks.types(), "webhook.test", "the webhook of the collection gets its event")

	db := modelstest.Open(t, url)
	require.Eventually(t, func() bool {
		return modelstest.Scalar[int64](t, db, `SELECT (SELECT count(*) FROM users WHERE email <> $1) + (SELECT count(*) FROM sessions WHERE deleted_at IS NULL)`, adminEmail) == 0
	}, 20*time.Second, 50*time.Millisecond, "it cleans up")
}

func writeEnvironment(t *testing.T, path string, values map[string]string) {
	t.Helper()
	type value struct {
		Key     string `json:"key"`
		Value   string `json:"value"`
		Enabled bool   `json:"enabled"`
	}
	environment := struct {
		Name   string  `json:"name"`
		Values []value `json:"values"`
	}{Name: "test"}
	for key, v := range values {
		environment.Values = append(environment.Values, value{key, v, true})
	}
	raw, err := json.Marshal(environment)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, raw, 0o600))
}

// requestNames are those of all requests of a collection. Each has its own.
func requestNames(t *testing.T, raw json.RawMessage) (names []string) {
	t.Helper()
	var item struct {
		Name    string
		Item    []json.RawMessage
		Request json.RawMessage
	}
	require.NoError(t, json.Unmarshal(raw, &item))
	if item.Request != nil {
		names = append(names, item.Name)
	}
	for _, inner := range item.Item {
		for _, name := range requestNames(t, inner) {
			require.NotContains(t, names, name, "two requests with one name")
			names = append(names, name)
		}
	}
	return names
}

// kurirUp starts `kurir up` and returns its address. It is ended with the test, as by Ctrl-C.
func kurirUp(t *testing.T, env ...string) string {
	t.Helper()
	home := t.TempDir()
	origin := loopback(embeddedtest.Port(t))
	log := newTail(t, "up")
	cmd := exec.Command(os.Args[0], "up")
	cmd.Dir, cmd.Stdout, cmd.Stderr = home, log, log
	cmd.Env = append([]string{beKurir + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + home, "KURIR_HOME=" + home, "LOG_FILE_PATH=", "PORT=" + portOf(origin),
		"SIMNET_PORT=" + portOf(loopback(embeddedtest.Port(t))), "SIM_SCAN_DELAY=1s", "BCRYPT_ROUNDS=4", "DATABASE_MAX_CONNS=10",
		"ADMIN_EMAIL=" + adminEmail, "ADMIN_PASSWORD=" + adminPassword}, env...)
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("kurir up: %v:\n%s", err, log.notable(20))
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("kurir up does not stop:\n%s", log.notable(20))
		}
		if t.Failed() {
			t.Logf("kurir up:\n%s", log.notable(30))
		}
	})
	require.Eventually(t, func() bool {
		res, err := http.Get(origin + "/health/ready")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK && strings.Contains(log.notable(1000), "Kurir is running.")
	}, 60*time.Second, 50*time.Millisecond, "kurir up is ready")
	return origin
}

// heard is a webhook's receiver that takes everything.
type heard struct {
	mu     sync.Mutex
	events []string
}

func (h *heard) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var event struct{ Type string }
	raw, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(raw, &event)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, event.Type)
}

func (h *heard) types() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string{}, h.events...)
}
