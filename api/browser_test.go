package api_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/worker/simulator/simnet"
)

// browser is a tab of a headless Chromium.
type browser struct {
	testing.TB
	ctx context.Context

	mu         sync.Mutex
	complaints []string // of the console: what was blocked, what failed
}

// newBrowser starts a Chromium. Where there is none, the test says so and does nothing: what the page's server does is tested
// over HTTP anyway.
func newBrowser(t *testing.T) (b *browser, ok bool) {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Log("NOT RUN: there is no Chromium on this machine. The page of a link is tested over HTTP only.")
		return nil, false
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.DisableGPU, chromedp.Flag("host-resolver-rules", "MAP *.test 127.0.0.1"), chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, _ = chromedp.NewContext(ctx)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) }) // and waits for its end
	b = &browser{TB: t, ctx: ctx}
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2)))
	go func() {
		for message, err := range chromedp.Console(ctx) {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.complaints = append(b.complaints, message.Text)
			b.mu.Unlock()
		}
	}()
	return b, true
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	require.NoError(b, chromedp.Do(b.ctx, steps...))
}

func (b *browser) text(expression string) string {
	b.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression))
	require.NoError(b, err)
	return text
}

func (b *browser) until(expression string) {
	b.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(patience)))
	require.NoError(b, err, expression)
}

// arrives waits until a form has led to another page; what is asked while it goes there may fail, or find nobody.
func (b *browser) arrives(expression, want string) {
	b.Helper()
	require.Eventually(b, func() bool {
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
		return err == nil && text == want
	}, patience, 50*time.Millisecond, expression)
}

// state waits until the page shows one.
func (b *browser) state(want string) {
	b.Helper()
	b.until(`document.querySelector("main").dataset.state === "` + want + `"`)
}

func (b *browser) colours(scheme string) {
	b.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	require.NoError(b, err)
}

// picture keeps the page in light and dark where SCREENSHOTS names a folder, for people to look at.
func (b *browser) picture(name string) {
	b.Helper()
	folder := os.Getenv("SCREENSHOTS")
	if folder == "" {
		return
	}
	for _, scheme := range []string{"dark", "light"} {
		b.colours(scheme)
		picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		require.NoError(b, err)
		require.NoError(b, os.WriteFile(filepath.Join(folder, name+"-"+scheme+".png"), picture, 0o600))
	}
}

const (
	shownQR = `document.querySelector("#qr").checkVisibility() ? document.querySelector("#qr").src : ""`
	lost    = `document.querySelector("#lost").checkVisibility()`
)

// A customer opens the page on a phone, sees the code, sees it change, scans it, and is told so.
func TestLinkPageInABrowser(t *testing.T) {
	t.Parallel()
	b, ok := newBrowser(t)
	if !ok {
		return
	}
	w := start(t, withRedis(embeddedtest.Redis(t)))
	network := w.phones(simnet.Config{ScanDelay: -1, QRInterval: 2 * time.Second})
	w.runner()
	u := w.register("u")
	u.session("shop")
	b.do(chromedp.Navigate(w.url + u.link(nil)))
	b.state("scan")
	b.until(`document.querySelector("#qr").naturalWidth > 0`)
	first := b.text(shownQR)
	require.True(t, strings.HasPrefix(first, "data:image/svg+xml;base64,"), first)
	require.Equal(t, "Scan this code with WhatsApp", b.text(`document.querySelector("#title").innerText`))
	require.Equal(t, "QR code to scan with WhatsApp", b.text(`document.querySelector("#qr").alt`))
	require.Equal(t, "polite", b.text(`document.querySelector("#title").parentElement.ariaLive`))
	require.Equal(t, "en", b.text(`document.documentElement.lang`))
	for _, width := range []int64{320, 390, 1280} {
		b.do(chromedp.EmulateViewport(width, 844, chromedp.EmulateScale(2)))
		b.until(`document.documentElement.scrollWidth <= window.innerWidth`) // nothing sticks out
		b.picture("scan-" + map[int64]string{320: "narrow", 390: "phone", 1280: "desk"}[width])
	}
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateScale(2)))
	b.until(`document.querySelector("#qr").src !== "` + first + `"`)

	resp, err := http.Post(network+"/sessions/"+w.uid("shop").String()+"/scan", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	b.state("linked")
	b.picture("linked")
	require.Equal(t, "Linked", b.text(`document.querySelector("#title").innerText`))
	number := modelsNumber(w)
	require.Contains(t, b.text(`document.querySelector("#text").innerText`), "ending in "+number[len(number)-3:])
	require.Empty(t, b.text(shownQR), "the code is gone")
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.complaints, "nothing was blocked, and nothing failed")
}

// The other states look like pages too, and a page finds back by itself when the process that served it has gone.
func TestLinkPageInTrouble(t *testing.T) {
	t.Parallel()
	b, ok := newBrowser(t)
	if !ok {
		return
	}
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	w.showQR("2@"+strings.Repeat("abcdef0123,", 20), time.Now().Add(time.Hour))
	path := u.link(map[string]any{"language": "id"})
	address, way := relayed(t, w.url)
	b.do(chromedp.Navigate(address + path))
	b.state("scan")
	b.picture("scan-indonesian")
	w.exec(`UPDATE sessions SET status = 'INIT', qr_code = NULL`)
	w.emit("shop", "session.status")
	b.state("waiting")
	b.picture("waiting")
	w.exec(`UPDATE sessions SET status = 'DISCONNECTED', reason = 'qr_timeout'`)
	w.emit("shop", "session.status")
	b.state("trouble")
	b.picture("trouble")

	require.NoError(t, w.stop(context.Background()))
	b.until(lost)
	b.picture("lost")
	w.showQR("2@again", time.Now().Add(time.Hour))
	again := startOn(t, w.db)
	way.cut()
	way.target = strings.TrimPrefix(again.url, "http://")
	way.mend()
	b.state("scan")
	b.until("!" + lost)
	again.do("DELETE", shopLink, u.auth(), nil).ok(200)
	b.state("gone")
	b.picture("gone")
	expired := str(again.do("POST", shopLink, u.auth(), nil).ok(201), "url")
	again.exec(`UPDATE session_links SET expires_at = now()`)
	b.do(chromedp.Navigate(expired))
	b.state("expired")
	b.picture("expired")
}

// Over HTTP, under a name of its own, a browser says of a form no more than its Origin.
func TestFormsInABrowser(t *testing.T) {
	t.Parallel()
	b, ok := newBrowser(t)
	if !ok {
		return
	}
	w := start(t, withRedis(embeddedtest.Redis(t)))
	admin := w.administrator()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(w.url, "http://"))
	require.NoError(t, err)
	site := "http://kurir.test:" + port
	b.do(chromedp.Navigate(site + models.VerifyPage + "#kum_x"))
	b.text(`document.querySelector("form").requestSubmit(), ""`)
	b.arrives(`document.querySelector("main").dataset.state`, "invalid")
	b.do(chromedp.Navigate(site + "/admin/login"))
	b.text(`document.querySelector("[name=email]").value = "` + admin.email + `", document.querySelector("[name=password]").value = "` + password + `",
		document.querySelector("form").requestSubmit(), ""`)
	b.arrives(`location.origin + location.pathname`, site+"/admin/queues")
}
