package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	kurir "kurir/clients/go"
	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

// TestClients has the clients of clients/ do what their users do first, with a Kurir that runs whole and its simulated phones.
func TestClients(t *testing.T) {
	t.Parallel()
	url := everything(t)
	t.Run("Go", func(t *testing.T) { goClient(t, url) })
	t.Run("TypeScript", func(t *testing.T) { typescriptClient(t, url) })
}

// everything runs `kurir up` until the end of the test, and returns its address.
func everything(t *testing.T, more ...string) string {
	t.Helper()
	at := loopback(embeddedtest.Port(t))
	environ := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "KURIR_HOME=" + t.TempDir(), "LOG_FILE_PATH=", "DATABASE_URL=" + modelstest.URL(t), "REDIS_URL=" + embeddedtest.Redis(t),
		"PORT=" + portOf(at), "INTERNAL_PORT=" + portOf(loopback(embeddedtest.Port(t))), "SIMNET_PORT=" + portOf(loopback(embeddedtest.Port(t))), "DATABASE_MAX_CONNS=10", "BCRYPT_ROUNDS=4", "SIM_WORKERS=1", "SIM_SCAN_DELAY=10ms", "SIM_REPLY=none",
		"LIMIT_MESSAGES_PER_HOUR_BASIC=6"}, more...)
	ctx, stop := context.WithCancel(context.Background())
	var complaints bytes.Buffer
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, []string{"up"}, environ, io.Discard, &complaints) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	require.Eventually(t, func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("ended at once: %v\n%s", err, complaints.String())
		default:
		}
		answer, err := http.Get(at + "/health/ready")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
	return at
}

// forgetful loses the answer of every first try of a send, after Kurir has given it.
type forgetful struct{ lost map[string]bool }

func (f forgetful) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := http.DefaultTransport.RoundTrip(r)
	if key := r.Header.Get("Idempotency-Key"); err == nil && key != "" && !f.lost[key] {
		f.lost[key] = true
		_ = answer.Body.Close()
		return nil, errors.New("the connection broke")
	}
	return answer, err
}

func goClient(t *testing.T, url string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const secret = hookSecret
	events := make(chan *kurir.Event, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if _, err := kurir.ParseWebhook("whsec_"+secret[10:], r.Header, body); err == nil {
			t.Error("another secret verifies too")
		}
		event, err := kurir.ParseWebhook(secret, r.Header, body)
		if err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		events <- event
	}))
	defer receiver.Close()

	nobody, err := kurir.New(url, "", kurir.Options{})
	require.NoError(t, err)
	account, err := nobody.RegisterWithResponse(ctx, kurir.RegisterInputBody{Email: "go@example.com", Password: "correct horse battery", Tier: new("basic")})
	require.NoError(t, err)
	login, err := nobody.LoginWithResponse(ctx, kurir.LoginInputBody{Email: "go@example.com", Password: "correct horse battery"})
	require.NoError(t, err)
	require.NotEmpty(t, login.JSON200.Data.Token)

	c, err := kurir.New(url, account.JSON201.Data.APIKey, kurir.Options{HTTP: &http.Client{Transport: forgetful{map[string]bool{}}}})
	require.NoError(t, err)
	session, err := c.CreateSessionWithResponse(ctx, nil, kurir.CreateSessionInputBody{Name: "Shop", SessionID: new("go-shop"), Webhook: &kurir.WebhookFields{URL: receiver.URL, Secret: new(secret)}})
	require.NoError(t, err)
	require.Equal(t, "go-shop", kurir.First(session.JSON202, session.JSON200).Data.SessionID)
	require.Eventually(t, func() bool {
		status, err := c.GetSessionStatusWithResponse(ctx, "go-shop")
		return err == nil && status.JSON200.Data.Status == kurir.SessionStatusStatusConnected
	}, 30*time.Second, 50*time.Millisecond)

	// The answer of each first try is lost; no message goes out twice all the same.
	var sent []string
	for i := range 5 {
		m, err := kurir.Post(ctx, c, "go-shop", kurir.SendText{To: "6281234567890", Message: fmt.Sprintf("Number %d", i)}, &kurir.SendParams{Prefer: new("wait=20")})
		require.NoError(t, err)
		require.Equal(t, kurir.SentDataStatusSent, m.Status)
		sent = append([]string{m.MessageID.String()}, sent...)
	}
	var listed []string
	for m, err := range c.Messages(ctx, "go-shop", &kurir.ListMessagesParams{Limit: new(int64(2))}) {
		require.NoError(t, err)
		listed = append(listed, m.ID.String())
	}
	require.Equal(t, sent, listed)
	again := &kurir.SendParams{IdempotencyKey: new("order-7")}
	first, err := kurir.Post(ctx, c, "go-shop", kurir.SendText{To: "6281234567890", Message: "Once"}, again)
	require.NoError(t, err)
	second, err := kurir.Post(ctx, c, "go-shop", kurir.SendText{To: "6281234567890", Message: "Once"}, again)
	require.NoError(t, err)
	require.Equal(t, first.MessageID, second.MessageID)

	for delivered := 0; delivered < 6; {
		select {
		case e := <-events:
			if e.Type == "message.delivered" {
				delivered++
			}
		case <-ctx.Done():
			t.Fatal("not all messages were delivered, or the webhook heard of it too late")
		}
	}

	_, err = kurir.Post(ctx, c, "go-shop", kurir.SendText{To: "6281234567890", Message: "One too many"}, nil)
	var refused *kurir.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []any{429, kurir.CodeMessageLimit}, []any{refused.Status, refused.Code})
	require.Greater(t, refused.RetryAfter, time.Minute)
	_, err = kurir.Post(ctx, c, "go-shop", kurir.SendText{Message: "To whom?"}, nil)
	require.ErrorIs(t, err, &kurir.Error{Code: kurir.CodeInvalidRequest})
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 422, refused.Status)
	require.Equal(t, "to", refused.Details[0].Field)
	_, err = c.GetSessionWithResponse(ctx, "nothing")
	require.ErrorIs(t, err, &kurir.Error{Code: kurir.CodeSessionNotFound})
	stranger, err := kurir.New(url, account.JSON201.Data.APIKey[:20], kurir.Options{})
	require.NoError(t, err)
	_, err = stranger.ListSessionsWithResponse(ctx, nil)
	require.ErrorIs(t, err, &kurir.Error{Code: kurir.CodeInvalidAPIKey})
	_, err = nobody.ListSessionsWithResponse(ctx, nil)
	require.ErrorIs(t, err, &kurir.Error{Code: kurir.CodeUnauthenticated})
}

// typescriptClient runs the tests of clients/typescript, which `make clients-check` has built. Without Node.js that has said so.
func typescriptClient(t *testing.T, url string) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Log("NOT RUN: there is no Node.js on this machine, so the TypeScript client is not tested.")
		return
	}
	built, err := filepath.Glob("../../clients/typescript/dist/test/*.test.js")
	require.NoError(t, err)
	if len(built) == 0 {
		require.Empty(t, os.Getenv("CI"), "the TypeScript client is not built: make clients-check")
		t.Log("NOT RUN: the TypeScript client is not built: make clients-check")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{"--test"}, built...)...)
	cmd.Env = append(os.Environ(), "KURIR_URL="+url)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "# fail 0")
}
