package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

func TestSeveralSecrets(t *testing.T) {
	good, other := "JWT_SECRET=one secret of many bytes, another secret of many", base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("b"), 32))
	read := func(env ...string) (*config, error) {
		c, err := readConfig(append([]string{"KURIR_ENV=production", "DATABASE_URL=postgres://x", "REDIS_URL=redis://x", good, "WORKER_AUTH_TOKEN=" + other,
			"ENCRYPTION_KEY=" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("a"), 32)) + " , " + other}, env...))
		require.NoError(t, err)
		return c, c.need()
	}
	c, err := read()
	require.NoError(t, err)
	require.Equal(t, []string{"one secret of many bytes", "another secret of many"}, several(c.JWTSecret))
	require.Equal(t, [][]byte{bytes.Repeat([]byte("a"), 32), bytes.Repeat([]byte("b"), 32)}, c.encryptionKeys)
	require.NotContains(t, c.redacted().String(), "secret of many")
	for _, bad := range []struct{ variable, what string }{{"JWT_SECRET=one secret of many bytes,", "JWT_SECRET has an empty part"}, {"JWT_SECRET=,", "JWT_SECRET has an empty part"},
		{"JWT_SECRET=one secret of many bytes,short", "JWT_SECRET is too short"}, {"WORKER_AUTH_TOKEN=one token of many bytes,worker-secret-token", "WORKER_AUTH_TOKEN is too short or publicly known"},
		{"ENCRYPTION_KEY=" + other + ",c2hvcnQ=", "ENCRYPTION_KEY must be 32 bytes"}, {"ENCRYPTION_KEY=" + other + ",", "ENCRYPTION_KEY"}, {"ENCRYPTION_KEY=" + other + ";" + other, "ENCRYPTION_KEY must be 32 bytes"}} {
		_, err := read(bad.variable)
		require.ErrorContains(t, err, bad.what)
	}
}

// The key of a database is changed as docs/keys.md says, and a process with the wrong one does not start.
func TestRotateEncryptionKey(t *testing.T) {
	url := modelstest.URL(t)
	db := modelstest.Open(t, url)
	old, next := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("a"), 32)), base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("b"), 32))
	home := t.TempDir()
	env := func(keys string) []string {
		return []string{"KURIR_HOME=" + home, "LOG_FILE_PATH=", "DATABASE_URL=" + url, "REDIS_URL=redis://127.0.0.1:1", "ENCRYPTION_KEY=" + keys, "SHUTDOWN_DELAY=0s"}
	}
	rotate := func(keys string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), []string{"rotate-encryption-key"}, env(keys), &out, io.Discard)
		return out.String(), err
	}
	vault := func(letter string) *models.Vault {
		v, err := models.NewVault(bytes.Repeat([]byte(letter), 32))
		require.NoError(t, err)
		return v
	}
	user := modelstest.User(t, db)
	_, err := db.Pool.Exec(t.Context(), `INSERT INTO webhooks (id, user_id, url, events, secret) VALUES ($1, $2, 'https://example.com', '{*}', $3)`,
		models.NewID(), user.ID, vault("a").Seal(models.SealWebhookSecret, []byte("secret")))
	require.NoError(t, err)

	modelstest.Worker(t, db, "w1", 1)
	session := modelstest.Session(t, db, user, "shop")
	_, err = db.Pool.Exec(t.Context(), `UPDATE workers SET lease_expires_at = now()`)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `UPDATE sessions SET proxy = $2 WHERE uid = $1`, session.UID, vault("a").Seal(models.SealProxy, []byte("http://u:p@proxy.example.com")))
	require.NoError(t, err)

	// An API of before the rotation runs on.
	at := loopback(embeddedtest.Port(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"api"}, append(env(old), "PORT="+portOf(at)), io.Discard, io.Discard)
	}()
	require.Eventually(t, func() bool {
		resp, err := http.Get(at + "/health/ready")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == 200
	}, 20*time.Second, 10*time.Millisecond)
	for _, command := range []string{"api", "runner", "scheduler", "rotate-encryption-key"} {
		err := run(t.Context(), []string{command}, append(env(next), "PORT="+portOf(loopback(embeddedtest.Port(t)))), io.Discard, io.Discard)
		require.ErrorContains(t, err, "ENCRYPTION_KEY cannot decrypt what the database holds", command)
		require.NotContains(t, err.Error(), next)
	}

	out, err := rotate(next + "," + old)
	require.Contains(t, out, "webhooks.secret: 1 encrypted anew under the key "+vault("b").KeyIDs()[0])
	require.Contains(t, out, "sessions.proxy: 1 encrypted anew")
	require.ErrorContains(t, err, "processes still encrypt under another key")
	require.ErrorContains(t, err, "kurir api key "+vault("a").KeyIDs()[0])
	cancel()
	require.NoError(t, <-ended)
	require.Eventually(t, func() bool {
		out, err = rotate(next + "," + old)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond, "%v", err)
	require.Contains(t, out, "webhooks.secret: 0 encrypted anew")
	require.Contains(t, out, "ENCRYPTION_KEY may be given without the others now: "+vault("a").KeyIDs()[0])
	out, err = rotate(next)
	require.NoError(t, err)
	require.False(t, strings.Contains(out, "without the others"))
	_, err = rotate(old)
	require.ErrorContains(t, err, "ENCRYPTION_KEY cannot decrypt")
	plain, err := vault("b").Open(models.SealWebhookSecret, modelstest.Scalar[[]byte](t, db, `SELECT secret FROM webhooks`))
	require.NoError(t, err)
	require.Equal(t, "secret", string(plain))
	plain, err = vault("b").Open(models.SealProxy, modelstest.Scalar[[]byte](t, db, `SELECT proxy FROM sessions`))
	require.NoError(t, err)
	require.Equal(t, "http://u:p@proxy.example.com", string(plain))
}

// A database that is away holds up no start; when it is back and says that the key is wrong, the process ends.
func TestWrongKeyIsFoundLater(t *testing.T) {
	url := modelstest.URL(t)
	db := modelstest.Open(t, url)
	other, err := models.NewVault(bytes.Repeat([]byte("z"), 32))
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `ALTER TABLE encryption_keys RENAME TO away`)
	require.NoError(t, err)
	at := loopback(embeddedtest.Port(t))
	ended := make(chan error, 1)
	go func() {
		ended <- run(t.Context(), []string{"api"}, []string{"KURIR_HOME=" + t.TempDir(), "LOG_FILE_PATH=", "DATABASE_URL=" + url, "REDIS_URL=redis://127.0.0.1:1", "SHUTDOWN_DELAY=0s", "PORT=" + portOf(at)}, io.Discard, io.Discard)
	}()
	require.Eventually(t, func() bool {
		resp, err := http.Get(at + "/health/live")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == 200
	}, 20*time.Second, 10*time.Millisecond)
	_, err = db.Pool.Exec(t.Context(), `INSERT INTO away (id, sealed) VALUES ($1, $2)`, other.KeyIDs()[0], other.Seal("name of the encryption key", []byte(other.KeyIDs()[0])))
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `ALTER TABLE away RENAME TO encryption_keys`)
	require.NoError(t, err)
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "ENCRYPTION_KEY cannot decrypt")
	case <-time.After(30 * time.Second):
		t.Fatal("it runs on")
	}
}
