package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

// diagnosis is what the doctor said, by check.
type diagnosis struct {
	t      *testing.T
	text   string
	checks map[string][]finding
	err    error
}

func examined(t *testing.T, env ...string) diagnosis {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), []string{"doctor", "--json"}, env, &out, &out)
	d := diagnosis{t: t, text: out.String(), checks: map[string][]finding{}, err: err}
	var said struct {
		OK     bool
		Checks []finding
	}
	require.NoError(t, json.Unmarshal(out.Bytes(), &said), d.text)
	require.Equal(t, said.OK, err == nil, "%v: %s", err, d.text)
	for _, f := range said.Checks {
		d.checks[f.Check] = append(d.checks[f.Check], f)
		if f.Status == failing {
			require.NotEmpty(t, f.Advice, "a failure says what to do: %+v", f)
		}
	}
	return d
}

// says demands a line with a text and a status.
func (d diagnosis) says(check, status, text string) {
	d.t.Helper()
	for _, f := range d.checks[check] {
		if f.Status == status && strings.Contains(f.Found, text) {
			return
		}
	}
	d.t.Errorf("no %s of %s with %q in %s", status, check, text, d.text)
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	const masterKey, mailPassword = "bWFzdGVyLWtleS1vZi0zMi1ieXRlcy1pbi10ZXN0cy4=", "the-password-of-mail"
	home, store, database := t.TempDir(), embeddedtest.NewRedis(t, ""), modelstest.URL(t)
	alive := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health/live" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	t.Cleanup(alive.Close)
	env := []string{"KURIR_HOME=" + home, "DATABASE_URL=" + database, "REDIS_URL=" + store.URL(), "ENCRYPTION_KEY=" + masterKey, "DATABASE_MAX_CONNS=4", "PUBLIC_URL=" + alive.URL}
	with := func(more ...string) []string { return append(append([]string{}, env...), more...) }

	t.Run("well", func(t *testing.T) {
		d := examined(t, env...)
		require.NoError(t, d.err)
		for check, text := range map[string]string{"configuration": "development", "database": "PostgreSQL", "migrations": "up to date", "partitions": "are there", "connections": "in use",
			"redis": "noeviction", "clock": "PostgreSQL", "media": "GB are free", "mail": "no mail server", "public URL": "answers"} {
			d.says(check, fine, text)
		}
		d.says("workers", warning, "none has registered")
		d.says("redis", fine, "filled again from PostgreSQL")
		require.NoFileExists(t, filepath.Join(home, "secrets.json"), "looking makes nothing")
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), []string{"doctor"}, env, &out, &out))
		require.Regexp(t, `(?m)^ok +migrations +the schema is up to date$`, out.String())
		require.Contains(t, out.String(), "-> Start one:")
	})
	t.Run("a worker that is gone", func(t *testing.T) {
		db := modelstest.Open(t, database)
		modelstest.Worker(t, db, "w1", 10) // its lease lives, and its name leads nowhere
		modelstest.Worker(t, db, "w2", 10)
		_, err := db.Pool.Exec(t.Context(), "UPDATE workers SET lease_expires_at = now() - interval '1 minute', last_heartbeat = now() - interval '1 hour' WHERE id = 'w2'")
		require.NoError(t, err)
		d := examined(t, env...)
		d.says("workers", failing, "w1 cannot be reached at http://w1")
		d.says("workers", failing, "w2 has no lease; heard of: 1h0m")
		_, err = db.Pool.Exec(t.Context(), "UPDATE workers SET removed_at = now()")
		require.NoError(t, err)
	})
	t.Run("credentials of linked phones", func(t *testing.T) {
		db, name := modelstest.Open(t, database), "kurir_whatsapp_"+strconv.Itoa(os.Getpid())
		u, err := url.Parse(database)
		require.NoError(t, err)
		u.User = url.UserPassword(name, "of-the-worker")
		for _, sql := range []string{"CREATE ROLE " + name + " LOGIN PASSWORD 'of-the-worker'", "CREATE SCHEMA kurir_whatsapp", "CREATE TABLE kurir_whatsapp.kurir_sessions ()",
			"CREATE FUNCTION kurir_whatsapp.kurir_fence() RETURNS int LANGUAGE sql AS 'SELECT 1'", "GRANT USAGE ON SCHEMA kurir_whatsapp TO " + name} {
			_, err := db.Pool.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		examined(t, env...).says("linked phones", fine, "has the schema kurir_whatsapp")
		d := examined(t, with("DATABASE_URL="+u.String())...)
		d.says("linked phones", warning, name+" must not read all of it")
		require.Contains(t, d.checks["linked phones"][0].Advice, `TO "`+name+`"`)
	})
	t.Run("a schema of another version", func(t *testing.T) {
		d := examined(t, with("DATABASE_URL="+embeddedtest.DB(t))...)
		d.says("migrations", failing, "0001_accounts")
		db := modelstest.Open(t, database)
		exec := func(sql string) {
			_, err := db.Pool.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		exec("INSERT INTO bun_migrations (name, group_id, migrated_at) VALUES ('9999', 99, now())")
		d = examined(t, env...)
		require.NoError(t, d.err, "it stops nothing")
		d.says("migrations", warning, "9999")
		present := "events_" + time.Now().UTC().Format("200601")
		exec("DROP TABLE " + present)
		examined(t, env...).says("partitions", failing, present)
	})
	t.Run("a Redis that drops queues", func(t *testing.T) {
		options, err := redis.ParseURL(store.URL())
		require.NoError(t, err)
		client := redis.NewClient(options)
		defer client.Close()
		require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err())
		examined(t, env...).says("redis", failing, "allkeys-lru")
	})
	t.Run("production without PUBLIC_URL", func(t *testing.T) {
		examined(t, "KURIR_ENV=production").says("public URL", warning, "codes in place of links")
	})
	t.Run("too few connections", func(t *testing.T) {
		examined(t, with("DATABASE_MAX_CONNS=4000")...).says("connections", warning, "12008")
	})
	t.Run("nothing answers, and no secret is told", func(t *testing.T) {
		closed := strconv.Itoa(embeddedtest.Port(t))
		d := examined(t, with("DATABASE_URL=postgres://kurir:databasepassword@127.0.0.1:"+closed+"/kurir", "REDIS_URL=redis://:redispassword@127.0.0.1:"+closed,
			"SMTP_HOST=127.0.0.1", "SMTP_PORT="+closed, "SMTP_USER=kurir", "SMTP_PASS="+mailPassword, "SMTP_FROM=kurir@example.com", "PUBLIC_URL=http://127.0.0.1:"+closed)...)
		for check, text := range map[string]string{"database": "PostgreSQL does not answer", "redis": "Redis does not answer", "mail": "127.0.0.1:" + closed, "public URL": "refused"} {
			d.says(check, failing, text)
		}
		require.NoFileExists(t, filepath.Join(home, "secrets.json"))
		d.silent(masterKey, mailPassword, "databasepassword", "redispassword")
		for _, broken := range []string{"postgres://kurir:database password@x:y:z/kurir", "postgres://kurir:data%zzpassword@host/kurir", "postgres://kurir:a@datapassword@host:port/kurir"} {
			d = examined(t, with("DATABASE_URL="+broken, "REDIS_URL="+strings.Replace(broken, "postgres", "redis", 1))...)
			d.says("database", failing, "")
			d.says("redis", failing, "REDIS_URL")
			d.silent("database password", "data%zzpassword", "datapassword")
		}
	})
	t.Run("a mail server", func(t *testing.T) {
		port, greeted := mailServer(t)
		d := examined(t, with("SMTP_HOST=127.0.0.1", "SMTP_PORT="+port, "SMTP_FROM=kurir@example.com")...)
		d.says("mail", fine, "takes mail")
		require.Contains(t, <-greeted, "EHLO")
		d = examined(t, with("SMTP_HOST=127.0.0.1", "SMTP_PORT="+port, "SMTP_FROM=kurir@example.com", "SMTP_USER=u", "SMTP_PASS="+mailPassword)...)
		d.says("mail", failing, "STARTTLS")
		require.NotContains(t, <-greeted, base64.StdEncoding.EncodeToString([]byte(mailPassword)))
	})
	t.Run("a configuration that is not right", func(t *testing.T) {
		d := examined(t, "PORT=abc", "CORS_ORIGIN=https://a.example.com/path", "KURIR_ENV=production", "JWT_SECRET=short", "MEDIA_URL=/proc/nothing")
		for _, text := range []string{"PORT: expected a whole number", "CORS_ORIGIN", "DATABASE_URL is not set", "JWT_SECRET is too short"} {
			d.says("configuration", failing, text)
		}
		d.says("media", failing, "/proc")
		d.says("mail", warning, "")
	})
}

func (d diagnosis) silent(secrets ...string) {
	d.t.Helper()
	for _, secret := range secrets {
		require.NotContains(d.t, d.text, secret)
	}
}

// mailServer greets, and knows no TLS. It tells what each client said.
func mailServer(t *testing.T) (port string, said chan string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	said = make(chan string, 8)
	ended := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			said <- converse(c)
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, said
}

func converse(c net.Conn) string {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write([]byte("220 here\r\n"))
	var all strings.Builder
	buffer := make([]byte, 512)
	for {
		n, err := c.Read(buffer)
		all.Write(buffer[:n])
		if err != nil {
			return all.String()
		}
		switch command := strings.ToUpper(string(buffer[:min(n, 4)])); command {
		case "EHLO":
			_, _ = c.Write([]byte("250-here\r\n250 8BITMIME\r\n"))
		case "QUIT":
			_, _ = c.Write([]byte("221 bye\r\n"))
			return all.String()
		default:
			_, _ = c.Write([]byte("250 ok\r\n"))
		}
	}
}

func TestOriginsAreChecked(t *testing.T) {
	for _, good := range []string{"", "*", "https://app.example.com", "https://a.example.com, http://localhost:3000"} {
		require.NoError(t, checkOrigins(good), good)
	}
	for _, bad := range []string{"*,https://a.example.com", "app.example.com", "https://a.example.com/", "https://a.example.com/path", "null", "https://*.example.com", "https://u:p@a.example.com", "ftp://a.example.com", ","} {
		require.ErrorContains(t, checkOrigins(bad), "CORS_ORIGIN", bad)
	}
}

func TestScrub(t *testing.T) {
	password := "p@ss/word"
	c := &config{DatabaseURL: "postgres://u:" + url.QueryEscape(password) + "@host/db", JWTSecret: "first-secret,second-secret"}
	require.Equal(t, "a (secret) b (secret) c (secret) d (secret)", c.scrub("a "+password+" b "+url.QueryEscape(password)+" c first-secret d second-secret"))
}

// An older state is believed, so it is worse than none.
func TestWhatRedisComesBackWith(t *testing.T) {
	for _, tt := range []struct {
		appends, fsync, save, found string
		older                       bool
	}{
		{"0", "everysec", "", "keeps nothing", false},
		{"0", "always", "3600 1 300 100", "snapshot", true},
		{"1", "always", "", "as it was", false},
		{"1", "always", "3600 1", "as it was", false},
		{"1", "everysec", "", "last second", true},
		{"1", "no", "3600 1", "last second", true},
		{"", "", "", "", false}, // it does not say
	} {
		found, older := comesBackWith(tt.appends, tt.fsync, tt.save)
		require.Contains(t, found, tt.found, "%+v", tt)
		require.Equal(t, tt.older, older, "%+v", tt)
	}
}
