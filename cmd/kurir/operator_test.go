package main

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"kurir/models"
	"kurir/models/modelstest"
)

// operator is somebody at the command line.
type operator struct {
	*testing.T
	db  *models.DB
	url string
}

// says runs a command and returns what it printed.
func (o *operator) says(input string, args ...string) (string, error) {
	o.Helper()
	var out, errs bytes.Buffer
	p := &program{environ: []string{"DATABASE_URL=" + o.url, "BCRYPT_ROUNDS=4"}, stdout: &out, stderr: &errs}
	c := &cobra.Command{Use: "kurir", SilenceUsage: true, SilenceErrors: true}
	c.AddCommand(p.admin())
	c.SetArgs(append([]string{"admin"}, args...))
	c.SetIn(strings.NewReader(input))
	c.SetOut(&out)
	c.SetErr(&errs)
	err := c.ExecuteContext(o.Context())
	return out.String(), err
}

func (o *operator) done(args ...string) string {
	o.Helper()
	out, err := o.says("", args...)
	require.NoError(o, err, args)
	return out
}

func (o *operator) fails(code int, sentence string, args ...string) {
	o.Helper()
	_, err := o.says("", args...)
	require.ErrorContains(o, err, sentence, args)
	require.Equal(o, code, exitCode(err), args)
}

func (o *operator) knows(email, password string) bool {
	o.Helper()
	u, err := models.UserByEmail(context.Background(), o.db, email)
	require.NoError(o, err)
	return bcrypt.CompareHashAndPassword([]byte(u.PasswordHash), []byte(password)) == nil
}

func (o *operator) audited(action string) int64 {
	o.Helper()
	return modelstest.Scalar[int64](o.T, o.db, `SELECT count(*) FROM system_logs WHERE message = $1 AND actor = 'operator' AND service = 'cli'`, action)
}

func TestOperator(t *testing.T) {
	url := modelstest.URL(t)
	o := &operator{T: t, url: url, db: modelstest.Open(t, url)}

	require.Contains(t, o.done(), "create-user")
	words := strings.Fields(o.done("create-user", "Ops@Example.com", "--role", "administrator", "--tier", "max"))
	require.Equal(t, []string{"ops@example.com", "max", "administrator", "password"}, words[2:6])
	require.True(t, o.knows("ops@example.com", words[6]))
	out, err := o.says("a secret from a file\r\nignored", "create-user", "sari@example.com", "--password-stdin", "--name", "Sari")
	require.NoError(t, err)
	require.NotContains(t, out, "secret")
	require.True(t, o.knows("sari@example.com", "a secret from a file"))
	o.fails(1, "already", "create-user", "sari@example.com")
	o.fails(1, "8 to 72 bytes", "create-user", "x@example.com", "--password-stdin")
	o.fails(2, "exclude", "create-user", "x@example.com", "--password-stdin", "--prompt")
	o.fails(2, "EMAIL", "create-user", "nobody")
	o.fails(2, "--tier", "create-user", "x@example.com", "--tier", "gold")
	o.fails(2, "--role", "create-user", "x@example.com", "--role", "king")
	o.fails(2, "expected 1 arguments", "create-user", "x@example.com", "a password")
	o.fails(2, "unknown flag", "create-user", "x@example.com", "--password", "x")
	o.fails(2, "no command", "make-coffee")
	require.EqualValues(t, 2, o.audited("user.created"))

	require.Contains(t, o.done("set-tier", "sari@example.com", "pro"), "had the tier basic and has pro")
	o.fails(1, "no user", "set-tier", "nobody@example.com", "pro")
	o.fails(2, "TIER", "set-tier", "sari@example.com", "gold")
	require.EqualValues(t, 1, o.audited("user.changed"))
	u, err := models.UserByEmail(t.Context(), o.db, "sari@example.com")
	require.NoError(t, err)
	require.Equal(t, "PRO", u.Tier)
	words = strings.Fields(o.done("reset-password", u.ID.String()))
	require.True(t, o.knows("sari@example.com", words[len(words)-1]))
	require.EqualValues(t, 1, o.audited("user.password_reset"))

	modelstest.Worker(t, o.db, "w1", 10)
	require.Contains(t, o.done("list-workers"), "w1")
	var workers []listedWorker
	require.NoError(t, json.Unmarshal([]byte(o.done("list-workers", "--json")), &workers))
	require.Equal(t, []any{"w1", "online", 10}, []any{workers[0].ID, workers[0].Status, workers[0].MaxSessions})
	first := o.done("drain", "w1")
	require.Equal(t, first, o.done("drain", "w1"), "the job that is under way")
	job, err := models.JobOfKind(t.Context(), o.db, uuid.MustParse(strings.Fields(first)[1]), models.KindDrainWorker)
	require.NoError(t, err)
	require.Equal(t, models.JobQueued, job.Status, "for a runner to find")
	o.fails(1, "no worker", "drain", "w2")
	require.EqualValues(t, 2, o.audited("worker.drain_requested"))

	_, err = o.db.Pool.Exec(t.Context(), `INSERT INTO webhooks (id, user_id, url, events, secret) VALUES (gen_random_uuid(), $1, 'http://x', '{*}', 'x')`, u.ID)
	require.NoError(t, err)
	require.Contains(t, o.done("replay-webhooks", "--user", "sari@example.com", "--since", "2d", "--status", "failed"), "job ")
	o.fails(1, "replay_in_progress", "replay-webhooks", "--user", "sari@example.com", "--since", "2026-01-02T00:00:00Z")
	o.fails(1, "no session", "replay-webhooks", "--session", "shop", "--since", "1h")
	o.fails(1, "no webhook", "replay-webhooks", "--user", "ops@example.com", "--since", "1h")
	o.fails(2, "either", "replay-webhooks", "--since", "1h")
	o.fails(2, "--since", "replay-webhooks", "--user", "x", "--since", "soon")
	o.fails(2, "not before", "replay-webhooks", "--user", "x", "--since", "1h", "--until", "2h")
	o.fails(2, "--status", "replay-webhooks", "--user", "x", "--since", "1h", "--status", "lost")
	require.EqualValues(t, 1, o.audited("webhook.replay_requested"))
	require.Zero(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM system_logs l WHERE l::text LIKE '%@%' OR l::text LIKE '%secret%'`))
}

// What administrators read of the configuration holds no secret, and every variable.
func TestSettingsHoldNoSecrets(t *testing.T) {
	environ := []string{"DATABASE_URL=postgres://me:hidden@host/db", "REDIS_URL=redis://:hidden@host", "JWT_SECRET=hidden", "WEBHOOK_SECRET=hidden-hidden-hidden-hidden-hidden", "SMTP_PASS=hidden",
		"ADMIN_PASSWORD=hidden", "ENCRYPTION_KEY=hidden", "WORKER_AUTH_TOKEN=hidden", "SCALING_WEBHOOK_URL=https://me:hidden@hooks.example.com/hidden?token=hidden",
		"MEDIA_URL=s3://bucket?secret=hidden", "LEASE_TTL=20", "LOG_FILE_PATH="}
	c, err := readConfig(environ)
	require.NoError(t, err)
	byName := map[string]string{}
	for _, s := range c.settings() {
		byName[s.Name] = s.Value
		require.NotContains(t, s.Value, "hidden", s.Name)
		for _, word := range []string{"SECRET", "PASS", "TOKEN", "_KEY", "DATABASE_URL", "REDIS_URL"} {
			if strings.Contains(s.Name, word) && s.Name != "ALLOW_QUERY_API_KEY" {
				require.True(t, s.Secret, s.Name)
			}
		}
	}
	variables := 0
	for i := range reflect.TypeFor[config]().NumField() {
		if reflect.TypeFor[config]().Field(i).Tag.Get("env") != "" {
			variables++
		}
	}
	require.Len(t, byName, variables)
	require.Equal(t, []string{"set", "set", "s3://bucket", "20s", "8000", "not set"},
		[]string{byName["JWT_SECRET"], byName["SCALING_WEBHOOK_URL"], byName["MEDIA_URL"], byName["LEASE_TTL"], byName["PORT"], func() string {
			c, err := readConfig(nil)
			require.NoError(t, err)
			for _, s := range c.settings() {
				if s.Name == "JWT_SECRET" {
					return s.Value
				}
			}
			return ""
		}()})
}
