package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

// TestSecretsAreNowhere runs the whole program, has it use secrets and private contents of every kind, some of them wrongly, and looks
// for them in all that it wrote beside the tables that are there to keep them.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	s := secrecy{of: map[string]string{}}
	// What processes are given.
	env := []string{"LOG_LEVEL=debug", "SIM_SCAN_DELAY=2s", "SMTP_HOST=127.0.0.1", "SMTP_PORT=1", "SMTP_FROM=kurir@example.com", "SMTP_USER=kurir", "WEBHOOK_RETRY_SCHEDULE=0s,1s,10s",
		"SMTP_PASS=" + s.make("mail password"), "JWT_SECRET_FILE=" + secretFile(t, s.make("JWT_SECRET")), "WORKER_AUTH_TOKEN=" + s.make("worker token"), "ADMIN_PASSWORD=" + s.make("administrator's password"),
		"ENCRYPTION_KEY=" + s.keep("ENCRYPTION_KEY", random()), "WEBHOOK_SECRET=" + s.keep("operator's webhook secret", "whsec_"+random())}
	logs := t.TempDir()
	c := plan{workers: 1, env: append(env, "LOG_FILE_PATH="+logs), password: s.of["administrator's password"]}.start(t)
	for _, line := range c.env {
		if name, value, _ := strings.Cut(line, "="); name == "DATABASE_URL" || name == "REDIS_URL" {
			u, err := url.Parse(value)
			require.NoError(t, err)
			password, _ := u.User.Password()
			s.keep("password in "+name, password)
		}
	}
	heard := listenIn(t, c.redis.URL())

	c.secretDeeds(s)

	found := s.search(t, map[string]string{"Redis' commands": heard(), "Redis' keys": allKeys(t, c.redis.URL()), "the process list": processList(t), "the log files": filesIn(t, logs),
		"jobs": rowsOf(c, "jobs"), "system_logs": rowsOf(c, "system_logs"), "what processes printed": c.printed(), "metrics and documentation": c.publicPages()})
	require.Empty(t, found)
}

// secrecy is what is to be found nowhere, by what it is.
type secrecy struct{ of map[string]string }

func (s secrecy) keep(what, secret string) string {
	s.of[what] = secret
	return secret
}

func (s secrecy) make(what string) string { return s.keep(what, "zq"+rand.Text()) }

// number makes a phone number, which is found by the digits after its country's.
func (s secrecy) number(what string) string {
	var digits strings.Builder
	for _, b := range []byte(rand.Text())[:8] {
		digits.WriteByte('1' + b%8)
	}
	return "62812" + s.keep(what, digits.String())
}

func (s secrecy) search(t *testing.T, places map[string]string) (found []string) {
	t.Helper()
	for place, text := range places {
		require.Greater(t, len(text), 100, "nothing was looked at in %s", place)
		for what, secret := range s.of {
			for _, form := range []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))} {
				if at := strings.Index(text, form); at >= 0 {
					found = append(found, fmt.Sprintf("%s stands in %s: …%s…", what, place, text[max(0, at-150):min(len(text), at+len(form)+50)]))
					break
				}
			}
		}
	}
	return found
}

// secretDeeds does with secrets what people do with them.
func (c *cluster) secretDeeds(s secrecy) {
	t, base := c.t, c.entries[0]+"/api/v1"
	s.keep("account key", c.apiKey)
	s.keep("administrator's token", c.admin)
	try := func(method, path string, want int, body any, headers ...string) {
		status, data, err := c.request(t.Context(), method, path, body, headers...)
		if want != http.StatusFound && !strings.Contains(path, "/link/") { // pages are no JSON
			require.NoError(t, err)
		}
		require.Equal(t, want, status, "%s %s: %s", method, path, data)
	}
	var account, login struct{ APIKey, Token string }
	person := map[string]any{"email": strings.ToLower(s.make("mail name")) + "@example.com", "password": s.make("password")}
	s.of["mail name"] = strings.ToLower(s.of["mail name"])
	c.call(http.MethodPost, "/auth/register", person, &account, 201)
	c.call(http.MethodPost, "/auth/login", person, &login, 200)
	try(http.MethodPost, base+"/auth/login", 401, map[string]any{"email": person["email"], "password": s.make("wrong password")})
	s.keep("another account's key", account.APIKey)
	s.keep("token", login.Token)

	// A session that is linked by a QR code, and one that waits for a pairing code; their webhooks fail.
	c.registered(1)
	c.hooks.answering(func(string) int { return http.StatusInternalServerError })
	hook := map[string]any{"url": c.hooks.url + "/" + s.make("webhook's path"), "secret": s.keep("webhook secret", "whsec_"+random()), "headers": map[string]string{"X-Token": s.make("webhook's header")}}
	var session struct{ APIKey string }
	proxy := "socks5://" + s.make("proxy's user") + ":" + s.make("proxy's password") + "@proxy.example.com:1080"
	c.call(http.MethodPost, "/sessions", map[string]any{"name": s.make("session's label"), "sessionId": "secret-shop", "proxy": proxy, "webhook": hook, "metadata": map[string]string{"note": s.make("metadata")}}, &session, http.StatusAccepted)
	s.keep("session key", session.APIKey)
	try(http.MethodPatch, base+"/sessions/secret-shop", 422, map[string]any{"proxy": "gopher://u:" + s.make("wrong proxy's password") + "@proxy.example.com"})
	var qr struct{ QR string }
	c.eventually(30*time.Second, "there is a QR code", func() (bool, string) {
		status, data, err := c.request(t.Context(), http.MethodGet, base+"/sessions/secret-shop/qr", nil)
		if err == nil && status == http.StatusOK {
			c.call(http.MethodGet, "/sessions/secret-shop/qr", nil, &qr, http.StatusOK)
		}
		return qr.QR != "", fmt.Sprint(status, string(data), err)
	})
	s.keep("QR code", qr.QR)
	var code struct{ Code string }
	status, data, err := c.request(t.Context(), http.MethodPost, base+"/sessions/secret-shop/pairing-code", map[string]any{"phoneNumber": "+" + s.number("paired number")})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "pairing: %s", data)
	require.NoError(t, json.Unmarshal(data, &code))
	s.keep("pairing code", code.Code)
	var link struct{ URL string }
	c.call(http.MethodPost, "/sessions/secret-shop/link", map[string]any{}, &link, http.StatusCreated)
	token := link.URL[strings.LastIndex(link.URL, "/")+1:]
	try(http.MethodGet, c.entries[0]+"/link/"+s.keep("link's token", token), 200, nil)
	c.eventually(30*time.Second, "the session is connected", func() (bool, string) {
		return modelstest.Scalar[int64](t, c.db, "SELECT count(*) FROM sessions WHERE status = 'CONNECTED'") == 1, ""
	})

	// Messages both ways, to people, to nobody, and wrong ones.
	to, nobody := s.number("recipient"), s.number("nobody")[:9]+"0000"
	s.keep("nobody", nobody[5:])
	send := func(want int, to, text string, headers ...string) {
		try(http.MethodPost, base+"/sessions/secret-shop/send", want, map[string]any{"to": to, "message": text}, headers...)
	}
	send(202, to, s.make("message"), "Idempotency-Key", s.make("idempotency key"))
	send(202, nobody, s.make("message to nobody"))
	send(422, to+"123456789", s.make("message to no number"))
	try(http.MethodPost, base+"/sessions/secret-shop/messages", 202, map[string]any{"to": to, "type": "image", "mediaUrl": c.pictures + "/" + s.make("medium's path") + ".png", "caption": s.make("caption")})
	try(http.MethodPost, base+"/sessions/secret-shop/contacts/check", 200, map[string]any{"numbers": []string{"+" + s.number("checked number")}})
	try(http.MethodGet, base+"/sessions/secret-shop/messages?q="+s.make("search"), 200, nil)
	try(http.MethodGet, base+"/sessions/secret-shop?apiKey="+session.APIKey, 200, nil, "Authorization", "Bearer "+session.APIKey)
	try(http.MethodGet, base+"/sessions/secret-shop", 401, nil, "Authorization", "Bearer kur_"+s.make("wrong key"))
	try(http.MethodGet, base+"/sessions/secret-shop", 401, nil, "Authorization", "Bearer ey."+s.make("wrong token"))
	try(http.MethodPost, base+"/admin/workers/register", 401, map[string]any{"workerId": "evil", "endpoint": "http://x"}, "Authorization", "Bearer "+s.make("wrong worker token"))
	try(http.MethodPost, base+"/auth/login?password="+s.make("password in a query"), 422, `{"password": "`+s.make("malformed password"))
	c.inject(modelstest.Scalar[string](t, c.db, "SELECT uid::text FROM sessions LIMIT 1"), "WA"+rand.Text())
	s.keep("incoming message", greeting)
	s.keep("sender", "81200022222")
	c.eventually(40*time.Second, "messages are settled, and webhooks have failed", func() (bool, string) {
		open := modelstest.Scalar[int64](t, c.db, "SELECT count(*) FROM messages WHERE direction = 'OUTBOUND' AND status IN ('PENDING', 'PROCESSING')")
		inbound := modelstest.Scalar[int64](t, c.db, "SELECT count(*) FROM messages WHERE direction = 'INBOUND'")
		failed := modelstest.Scalar[int64](t, c.db, "SELECT count(*) FROM webhook_deliveries WHERE attempts > 0")
		return open == 0 && inbound > 0 && failed > 0, fmt.Sprint(open, inbound, failed)
	})
	try(http.MethodDelete, base+"/sessions/secret-shop/contacts/"+to+"/data", 202, nil)
	c.eventually(30*time.Second, "the contact is forgotten, by the job too", func() (bool, string) {
		open := modelstest.Scalar[int64](t, c.db, "SELECT count(*) FROM jobs WHERE finished_at IS NULL")
		return open == 0, fmt.Sprint(open)
	})

	var out bytes.Buffer
	err = run(t.Context(), []string{"doctor"}, append(append([]string{}, c.env...), "PUBLIC_URL="+c.apis[0]), &out, &out)
	require.ErrorContains(t, err, "1 of ", "only the mail server is not there: %s", &out)
	require.Contains(t, out.String(), "w0 answers")
	for _, p := range c.procs {
		require.NoError(t, run(t.Context(), []string{"health", p.command}, append(append([]string{}, c.env...), p.env...), &out, &out), p.name)
	}
	_, _ = c.procs["api-0"].log.Write(out.Bytes())
}

func (c *cluster) printed() string {
	var all strings.Builder
	for _, p := range c.procs {
		p.log.mu.Lock()
		all.Write(p.log.buf)
		p.log.mu.Unlock()
	}
	return all.String()
}

func (c *cluster) publicPages() string {
	var all strings.Builder
	for _, p := range c.procs {
		for _, path := range []string{"/metrics", "/openapi.json", "/docs", "/health"} {
			if p.url == "" {
				continue
			}
			res, err := c.http.Get(p.url + path)
			require.NoError(c.t, err)
			_, err = io.Copy(&all, res.Body)
			require.NoError(c.t, errors.Join(err, res.Body.Close()))
		}
	}
	return all.String()
}

func rowsOf(c *cluster, table string) string {
	rows := modelstest.Scalar[string](c.t, c.db, "SELECT coalesce(string_agg(r::text, E'\\n'), '') FROM "+table+" r")
	return table + strings.Repeat("-", 100) + rows // may be empty
}

func processList(t *testing.T) string {
	var all strings.Builder
	lists, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, list := range lists {
		text, _ := os.ReadFile(list) // it may have ended
		all.Write(append(bytes.ReplaceAll(text, []byte{0}, []byte(" ")), '\n'))
	}
	require.Contains(t, all.String(), " runner")
	return all.String()
}

func filesIn(t *testing.T, folder string) string {
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	}))
	return all.String()
}

// allKeys is what a Redis holds.
func allKeys(t *testing.T, at string) string {
	options, err := redis.ParseURL(at)
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close()
	var all strings.Builder
	keys, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		var value any
		switch kind := client.Type(t.Context(), key).Val(); kind {
		case "hash":
			value = client.HGetAll(t.Context(), key).Val()
		case "list":
			value = client.LRange(t.Context(), key, 0, -1).Val()
		case "set":
			value = client.SMembers(t.Context(), key).Val()
		case "zset":
			value = client.ZRange(t.Context(), key, 0, -1).Val()
		default:
			value = client.Get(t.Context(), key).Val()
		}
		fmt.Fprintln(&all, key, value)
	}
	return all.String()
}

// listenIn hears all commands to a Redis, tasks and what they carry among them, from now on. Some Redis are only looked at afterwards.
func listenIn(t *testing.T, at string) (heard func() string) {
	u, err := url.Parse(at)
	require.NoError(t, err)
	conn, err := net.Dial("tcp", u.Host)
	require.NoError(t, err)
	password, _ := u.User.Password()
	_, err = fmt.Fprintf(conn, "AUTH %s\r\nMONITOR\r\n", password)
	require.NoError(t, err)
	var mu sync.Mutex
	var all bytes.Buffer
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buffer)
			mu.Lock()
			all.Write(buffer[:n])
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}
