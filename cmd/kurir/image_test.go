//go:build image

package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/message"
)

// TestImage lays out the image as deploy/Dockerfile does, and runs Kurir in it as docker-compose.yml has it run: alone in its
// PID namespace, as a user without rights, on a root that cannot be written to. So the image needs nothing else.
func TestImage(t *testing.T) {
	require.Zero(t, os.Getuid(), "mounting needs root")
	im := layOut(t, "v0.0.0-test")
	require.Equal(t, []string{"/kurir"}, im.entrypoint)
	require.Equal(t, []string{"api"}, im.command)
	program, err := elf.Open(filepath.Join(im.folder, "kurir"))
	require.NoError(t, err)
	for _, part := range program.Progs {
		require.NotContains(t, []elf.ProgType{elf.PT_INTERP, elf.PT_DYNAMIC}, part.Type, "it is linked statically")
	}
	require.NoError(t, program.Close())

	// A server whose certificate the roots of the image know.
	site := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(site.Close)
	roots, err := os.OpenFile(filepath.Join(im.folder, "etc/ssl/certs/ca-certificates.crt"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, pem.Encode(roots, &pem.Block{Type: "CERTIFICATE", Bytes: site.Certificate().Raw}))
	require.NoError(t, roots.Close())

	h := &host{t: t, image: im, secrets: t.TempDir(), media: t.TempDir()}
	require.NoError(t, os.Chmod(h.secrets, 0o755))
	require.NoError(t, os.Chown(h.media, im.user, im.user))
	simnet, port := embeddedtest.Port(t), embeddedtest.Port(t)
	database := embeddedtest.DB(t)
	for name, secret := range map[string]string{"database_url": database, "jwt_secret": random(), "encryption_key": random(), "worker_auth_token": random(), "admin_password": adminPassword} {
		require.NoError(t, os.WriteFile(filepath.Join(h.secrets, name), []byte(secret+"\n"), 0o444))
	}
	h.env = []string{"KURIR_ENV=production", "TZ=Asia/Jakarta", "DATABASE_URL_FILE=/run/secrets/database_url", "REDIS_URL=" + embeddedtest.NewRedis(t, "").URL(),
		"JWT_SECRET_FILE=/run/secrets/jwt_secret", "ENCRYPTION_KEY_FILE=/run/secrets/encryption_key", "WORKER_AUTH_TOKEN_FILE=/run/secrets/worker_auth_token",
		"PORT=" + strconv.Itoa(port), "MEDIA_URL=/media", "LOG_FILE_PATH=./logs", "DATABASE_MAX_CONNS=8", "PUBLIC_URL=" + site.URL,
		"SIMNET_PORT=" + strconv.Itoa(simnet), "SIMNET_URL=" + loopback(simnet), "GATEWAY_URL=" + loopback(port)}

	require.Equal(t, "kurir v0.0.0-test\n", h.once(nil, "version"))
	require.Contains(t, h.once([]string{"ADMIN_EMAIL=" + adminEmail, "ADMIN_PASSWORD_FILE=/run/secrets/admin_password"}, "migrate"), "made the administrator")
	api := h.start(nil, "api")
	for _, command := range []string{"runner", "scheduler"} {
		h.start([]string{"METRICS_PORT=" + strconv.Itoa(embeddedtest.Port(t))}, command)
	}
	h.start(nil, "simnet")
	worker := strconv.Itoa(embeddedtest.Port(t))
	h.start([]string{"WORKER_ID=w1", "WORKER_PORT=" + worker, "WORKER_ENDPOINT=http://127.0.0.1:" + worker}, "worker", "--engine=simulator")
	for _, c := range h.running {
		h.healthy(c)
	}

	// It has its pages, and can write where it should.
	for path, want := range map[string]string{"/docs": "Kurir", "/openapi.json": `"openapi"`, "/health": `"status":"ok"`} {
		require.Contains(t, h.get(loopback(port)+path), want)
	}
	h.messaging(loopback(port) + "/api/v1")
	kept, err := filepath.Glob(filepath.Join(h.media, "*/*"))
	require.NoError(t, err)
	require.NotEmpty(t, kept, "the medium is in the volume")
	require.Contains(t, api.log.all(), "+07:00", "the time zone is known")

	// TLS is verified with the roots of the image; the doctor sees all that a process needs.
	said, err := h.command(nil, "doctor").CombinedOutput()
	require.NoError(t, err, "%s", said)
	require.Regexp(t, `(?m)^ok +public URL +`+site.URL+` answers$`, string(said))
	require.Regexp(t, `(?m)^ok +workers +w1 answers`, string(said))

	// Health of what is not there, and an end in good order.
	_, err = h.command([]string{"PORT=" + strconv.Itoa(embeddedtest.Port(t))}, "health", "api").CombinedOutput()
	require.Error(t, err)
	for i := len(h.running) - 1; i >= 0; i-- {
		h.running[i].stop()
	}
}

// host runs containers.
type host struct {
	t              *testing.T
	image          *rootfs
	secrets, media string
	env            []string
	running        []*container
}

type container struct {
	t       *testing.T
	args    []string
	cmd     *exec.Cmd
	first   int // its first process, as this machine numbers it
	log     *tail
	exited  chan struct{}
	err     error
	stopped bool
}

// enter mounts what a container sees besides its image, and becomes its first process. The mount namespace is its own, so nothing of
// it is left.
const enter = `set -eu
root=$1 user=$2 workdir=$3 secrets=$4 media=$5; shift 5
mount --bind "$root" "$root"
mkdir -p "$root/proc" "$root/dev" "$root/run/secrets"; touch "$root/etc/resolv.conf" "$root/etc/hosts" "$root/dev/null"
mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
mount --bind /etc/hosts "$root/etc/hosts"
mount --bind /dev/null "$root/dev/null"
mount -t proc proc "$root/proc"
mount --bind "$secrets" "$root/run/secrets"
mount -o remount,bind,ro "$root/run/secrets"
mount --bind "$media" "$root/media"
mount -t tmpfs -o "uid=$user" tmpfs "$root/tmp"
mount -t tmpfs -o "uid=$user" tmpfs "$root$workdir"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs unshare --root="$root" --wd="$workdir" --setgid="$user" --setuid="$user" "$@"`

func (h *host) command(env []string, args ...string) *exec.Cmd {
	im := h.image
	words := append([]string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter, "sh", im.folder, strconv.Itoa(im.user), im.workdir, h.secrets, h.media}, im.entrypoint...)
	cmd := exec.Command("unshare", append(words, args...)...)
	cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH")}, h.env...), env...)
	return cmd
}

func (h *host) once(env []string, args ...string) string {
	h.t.Helper()
	out, err := h.command(env, args...).CombinedOutput()
	require.NoError(h.t, err, "%v: %s", args, out)
	return string(out)
}

func (h *host) start(env []string, args ...string) *container {
	h.t.Helper()
	c := &container{t: h.t, args: args, log: newTail(h.t, args[0]), exited: make(chan struct{})}
	c.cmd = h.command(env, args...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	require.NoError(h.t, c.cmd.Start())
	go func() {
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	h.t.Cleanup(func() {
		if !c.stopped {
			_ = c.cmd.Process.Kill() // --kill-child ends the rest
			<-c.exited
		}
	})
	c.until("it has a first process", func() bool {
		list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", c.cmd.Process.Pid))
		c.first, _ = strconv.Atoi(strings.TrimSpace(string(list)))
		return c.first > 0
	})
	h.running = append(h.running, c)
	return c
}

// healthy runs the image's HEALTHCHECK in a running container, as Docker does, until it succeeds.
func (h *host) healthy(c *container) {
	h.t.Helper()
	environ := c.cmd.Env
	c.until("it is healthy", func() bool {
		user := strconv.Itoa(h.image.user)
		check := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(c.first), "--mount", "--pid", "--root", "--setuid", user, "--setgid", user}, h.image.check...)...)
		check.Env = environ
		out, err := check.CombinedOutput()
		return err == nil && string(out) == c.args[0]+" is healthy\n"
	})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.first))
	require.NoError(h.t, err)
	require.Regexp(h.t, fmt.Sprintf(`(?m)^Uid:(\t%d){4}$`, h.image.user), string(status))
	require.Regexp(h.t, `(?m)^CapEff:\t0+$`, string(status))
	require.Regexp(h.t, `(?m)^NoNewPrivs:\t1$`, string(status))
}

func (c *container) until(what string, is func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); <-time.After(50 * time.Millisecond) {
		select {
		case <-c.exited:
			c.t.Fatalf("%v has ended: %v:\n%s", c.args, c.err, c.log.all())
		default:
		}
		require.True(c.t, time.Now().Before(deadline), "%v: not so in time: %s:\n%s", c.args, what, c.log.all())
	}
}

// stop ends it as Docker does.
func (c *container) stop() {
	c.t.Helper()
	require.NoError(c.t, syscall.Kill(c.first, syscall.SIGTERM))
	<-c.exited
	c.stopped = true
	require.NoError(c.t, c.err, "%v: %s", c.args, c.log.all())
}

// messaging links a session and sends through it, so that every process has its part.
func (h *host) messaging(base string) {
	h.t.Helper()
	var login struct{ Token string }
	h.call(http.MethodPost, base+"/auth/login", "", `{"email":"`+adminEmail+`","password":"`+adminPassword+`"}`, &login)
	h.call(http.MethodPost, base+"/sessions", login.Token, `{"name":"Shop","sessionId":"shop"}`, nil)
	var medium struct{ MediaID string }
	h.call(http.MethodPost, base+"/sessions/shop/media", login.Token, string(sampleOf(h.t, message.Document, 1).content), &medium)
	h.running[0].until("the session is linked", func() bool {
		var session struct{ Status string }
		h.call(http.MethodGet, base+"/sessions/shop", login.Token, "", &session)
		return strings.EqualFold(session.Status, "connected")
	})
	var sent struct{ Status string }
	h.call(http.MethodPost, base+"/sessions/shop/messages", login.Token, `{"to":"6281234567890","type":"document","mediaId":"`+medium.MediaID+`"}`, &sent)
	require.Equal(h.t, "sent", sent.Status)
}

func (h *host) call(method, address, token, body string, into any) {
	h.t.Helper()
	r, err := http.NewRequest(method, address, strings.NewReader(body))
	require.NoError(h.t, err)
	r.Header.Set("Content-Type", "application/json")
	if strings.HasPrefix(body, "%PDF") {
		r.Header.Set("Content-Type", "application/pdf")
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Prefer", "wait=20")
	answer := struct{ Data any }{into}
	require.NoError(h.t, json.Unmarshal([]byte(h.do(r)), &answer))
}

func (h *host) get(address string) string {
	h.t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	require.NoError(h.t, err)
	return h.do(r)
}

func (h *host) do(r *http.Request) string {
	h.t.Helper()
	res, err := http.DefaultClient.Do(r)
	require.NoError(h.t, err)
	defer func() { _ = res.Body.Close() }()
	var body bytes.Buffer
	_, err = body.ReadFrom(res.Body)
	require.NoError(h.t, err)
	require.Less(h.t, res.StatusCode, 300, "%s: %s", r.URL, &body)
	return body.String()
}

func (l *tail) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
