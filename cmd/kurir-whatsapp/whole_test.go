//go:build whatsapp

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/worker/whatsapp/wafake"
)

// A person links a phone to Kurir, writes over it, and is answered: all of it is the real thing, but for WhatsApp.
func TestAPhoneOnKurir(t *testing.T) {
	kurir := buildKurir(t)
	network := wafake.Start(t)
	api := embeddedtest.Port(t)
	home := embeddedtest.NewHome(t)
	environ := []string{"KURIR_HOME=" + home, fmt.Sprint("PORT=", api), "BCRYPT_ROUNDS=4", "PATH=" + os.Getenv("PATH"), "HOME=" + home}
	var said bytes.Buffer
	p := &program{environ: environ, stdout: &said, stderr: io.Discard, transport: wafake.Transport(network.Addr())}
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
	_, err := network.Scan("6281234567890", qr)
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
