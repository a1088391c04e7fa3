//go:build whatsapp

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/worker/whatsapp/wafake"
)

const patience = time.Minute

// caller speaks to Kurir's API as a tenant does.
type caller struct {
	t    *testing.T
	base string
	key  string
}

func (c *caller) do(method, path string, body any) map[string]any {
	c.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(c.t, err)
	req, err := http.NewRequest(method, c.base+path, bytes.NewReader(text))
	require.NoError(c.t, err)
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("X-Api-Key", c.key)
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(c.t, err)
	answer, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	require.NoError(c.t, res.Body.Close())
	var out struct {
		Data any `json:"data"`
	}
	require.NoError(c.t, json.Unmarshal(answer, &out), "%s", answer)
	data, _ := out.Data.(map[string]any)
	if data == nil {
		data = map[string]any{"list": out.Data}
	}
	data["status code"] = res.StatusCode
	return data
}

// until asks until the answer is as it should be.
func (c *caller) until(path string, enough func(map[string]any) bool) map[string]any {
	c.t.Helper()
	var data map[string]any
	require.Eventually(c.t, func() bool {
		data = c.do(http.MethodGet, path, nil)
		return enough(data)
	}, patience, 50*time.Millisecond, "%s: %v", path, &data)
	return data
}

// A person links a phone to Kurir, writes over it, and is answered: all of it is the real thing, but for WhatsApp.
func TestAPhoneOnKurir(t *testing.T) {
	kurir := filepath.Join(t.TempDir(), "kurir")
	out, err := exec.Command("go", "build", "-o", kurir, "kurir/cmd/kurir").CombinedOutput()
	require.NoError(t, err, string(out))
	network := wafake.Start(t)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", network.Addr())
	}
	api := embeddedtest.Port(t)
	home := embeddedtest.NewHome(t)
	environ := []string{"KURIR_HOME=" + home, fmt.Sprint("PORT=", api), "BCRYPT_ROUNDS=4", "PATH=" + pathOf(t), "HOME=" + home}
	var said bytes.Buffer
	p := &program{environ: environ, stdout: &said, stderr: io.Discard, transport: &http.Transport{DialContext: dial, DialTLSContext: dial}}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.runUp(ctx, kurir) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		require.Contains(t, said.String(), "▄", "the QR code was drawn")
	})
	c := &caller{t: t, base: fmt.Sprintf("http://127.0.0.1:%d/api/v1", api)}
	require.Eventually(t, func() bool {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/health", api))
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil && res.StatusCode == http.StatusOK
	}, 2*patience, 100*time.Millisecond)

	c.key = c.do(http.MethodPost, "/auth/register", map[string]any{"email": "me@example.com", "password": "correct horse battery"})["apiKey"].(string)
	require.Eventually(t, func() bool {
		made := c.do(http.MethodPost, "/sessions", map[string]any{"name": "My phone", "sessionId": "phone"})
		return made["status code"] == http.StatusAccepted
	}, patience, 200*time.Millisecond, "there is a worker")
	code := c.until("/sessions/phone/qr", func(d map[string]any) bool { return d["qr"] != nil || d["qrCode"] != nil })
	qr, _ := code["qr"].(string)
	_, err = network.Scan("6281234567890", qr)
	require.NoError(t, err, "%v", code)
	state := c.until("/sessions/phone/status", func(d map[string]any) bool { return d["status"] == "connected" })
	require.Equal(t, "+6281234567890", state["phoneNumber"])

	sent := c.do(http.MethodPost, "/sessions/phone/send", map[string]any{"to": "491701234", "message": "Hello from Kurir!"})
	require.Equal(t, http.StatusAccepted, sent["status code"], sent)
	ann, err := network.Person("491701234")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(ann.Shown()) == 1 }, patience, 20*time.Millisecond)
	shown := ann.Shown()[0]
	require.Equal(t, "Hello from Kurir!", shown.Text())
	require.NoError(t, ann.Read(shown.ID))
	says := func(all ...string) func(map[string]any) bool {
		return func(d map[string]any) bool {
			text, err := json.Marshal(d)
			for _, one := range all {
				if err != nil || !strings.Contains(string(text), one) {
					return false
				}
			}
			return true
		}
	}
	c.until("/sessions/phone/messages", says("Hello from Kurir!", `"status":"read"`))

	_, err = ann.Write(shown.Sender.ToNonAD(), "Hello yourself!")
	require.NoError(t, err)
	c.until("/sessions/phone/messages", says("Hello yourself!", `"491701234@s.whatsapp.net"`))
	require.Empty(t, network.Fights("6281234567890"))
}

func pathOf(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", "printf %s \"$PATH\"").Output()
	require.NoError(t, err)
	return string(out)
}
