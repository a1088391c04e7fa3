//go:build whatsapp

package whatsapp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/wire"
	"kurir/worker"
	"kurir/worker/whatsapp/wafake"
)

// serveVariable makes the test's program the fake WhatsApp, so that its memory is not counted with the worker's.
const serveVariable = "KURIR_WAFAKE"

func init() { serve = serveFake }

func serveFake() bool {
	if os.Getenv(serveVariable) == "" {
		return false
	}
	s, err := wafake.New()
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(s.Addr(), l.Addr())
	_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.Scan(r.FormValue("number"), r.FormValue("qr")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	return true
}

// What one more session costs that is connected and has nothing to do, and how many goroutines it has.
func TestMemoryOfAnIdleSession(t *testing.T) {
	const sessions = 200
	wafake.Trust()
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), serveVariable+"=1")
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	in, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _, _ = in.Close(), child.Process.Kill(); _ = child.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	at := strings.Fields(line)

	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", at[0])
	}
	e, err := New(context.Background(), Config{DatabaseURL: embeddedtest.DB(t), Transport: &http.Transport{DialContext: dial, DialTLSContext: dial}})
	require.NoError(t, err)
	ended(t, e)
	link := func(i int) {
		c, err := e.Open(context.Background(), worker.Session{ID: uuid.NewString(), Epoch: 1, Lease: func() bool { return true }}, func(worker.Event) {})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return c.State().QR != "" }, patience, time.Millisecond)
		res, err := http.PostForm("http://"+at[1]+"/scan", url.Values{"number": {fmt.Sprintf("62810000%05d", i)}, "qr": {c.State().QR}})
		require.NoError(t, err)
		body, _ := io.ReadAll(res.Body)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusOK, res.StatusCode, string(body))
		require.Eventually(t, func() bool { return c.State().Status == wire.StatusConnected }, patience, time.Millisecond)
	}
	used := func() (bytes uint64, goroutines int) {
		http.DefaultClient.CloseIdleConnections()
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse, runtime.NumGoroutine()
	}
	for i := range 20 { // what all share is there by then
		link(i)
	}
	before, fewer := used()
	for i := range sessions {
		link(100 + i)
	}
	after, more := used()
	t.Logf("%d KB of heap and stacks, and %.1f goroutines per idle session", (after-before)/sessions/1024, float64(more-fewer)/sessions)
	require.Less(t, (after-before)/sessions, uint64(1<<20), "over 1 MB per idle session")
}
