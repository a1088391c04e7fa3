package api_test

import (
	"context"
	"encoding/base64"
	"html"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/worker/simulator/simnet"
)

const shopLink = "/api/v1/sessions/shop/link"

// link makes a link and returns the path of its page.
func (t *tenant) link(body any) string {
	t.Helper()
	a := t.do("POST", shopLink, t.auth(), body)
	address := str(a.ok(201), "url")
	require.Equal(t, "no-store", a.header.Get("Cache-Control"))
	require.Regexp(t, `^`+regexp.QuoteMeta(t.url)+`/link/kul_[A-Za-z0-9_-]{43}$`, address)
	return strings.TrimPrefix(address, t.url)
}

// showQR has a session show a code, as its worker would.
func (w *world) showQR(code string, until time.Time) {
	w.Helper()
	uid := w.uid("shop")
	require.NoError(w, w.db.InPgxTx(context.Background(), func(tx pgx.Tx) error {
		_, err := tx.Exec(context.Background(), `UPDATE sessions SET status = 'QR_REQUIRED', qr_code = $2, qr_expires_at = $3 WHERE uid = $1`, uid, code, until)
		emitIn(w, tx, uid, "session.qr", map[string]any{"qr": code, "expiresAt": until})
		return err
	}))
}

var (
	pageState = regexp.MustCompile(`data-state="(\w+)"`)
	pageTitle = regexp.MustCompile(`<h1 id="title">(.*?)</h1>`)
	pageQR    = regexp.MustCompile(`src="(data:image/svg[^"]+)"`)
	chance    = regexp.MustCompile(`kul_[\w-]+|/files/[\w-]+/|base64,[^"]+`) // holds any letters there are
)

// page opens a link and demands what holds for every page.
func (w *world) page(path string, with headers, status int, state string) *answer {
	w.Helper()
	a := w.do("GET", path, with, nil)
	require.Equal(w, status, a.status, a.text)
	require.Equal(w, state, pageState.FindStringSubmatch(a.text)[1])
	for header, value := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Content-Type": "text/html; charset=utf-8"} {
		require.Equal(w, value, a.header.Get(header), header)
	}
	policy := a.header.Get("Content-Security-Policy")
	for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} {
		require.Contains(w, policy, rule)
	}
	require.NotContains(w, policy, "unsafe")
	require.Empty(w, regexp.MustCompile(`<script>|<style|style=|\son\w+=`).FindAllString(a.text, -1), "nothing that the policy forbids")
	for _, secret := range []string{"shop", "Shop", "u@example.com", "w1", "6281111111111"} {
		require.NotContains(w, chance.ReplaceAllString(a.text, ""), secret)
	}
	return a
}

// states follows a page's stream.
func (f *follower) states() (list []string) {
	for _, e := range f.events() {
		list = append(list, e.data["state"].(string))
	}
	return list
}

func (f *follower) reaches(state string) map[string]any {
	f.Helper()
	f.eventually("the state "+state, func() bool {
		s := f.states()
		return len(s) > 0 && s[len(s)-1] == state
	})
	events := f.events()
	return events[len(events)-1].data
}

func TestLinkPage(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	key := u.session("shop")
	path := u.link(nil)
	first := w.page(path, nil, 200, "waiting")
	for _, spelled := range []string{path, path + "/", path + "?utm_source=mail"} {
		require.Contains(t, w.page(spelled, nil, 200, "waiting").text, `data-events="`+path+`/events"`)
	}
	require.Equal(t, 2, w.assets(path, strings.ReplaceAll(first.text, `href="data:,"`, ""), nil))
	live := w.follow(path+"/events", nil)
	live.reaches("waiting")

	w.showQR("2@first", time.Now().Add(time.Minute))
	view := live.reaches("scan")
	shown := w.page(path, nil, 200, "scan")
	require.Equal(t, view["qr"], html.UnescapeString(pageQR.FindStringSubmatch(shown.text)[1]), "the page shows what its stream says")
	picture, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(view["qr"].(string), "data:image/svg+xml;base64,"))
	require.NoError(t, err)
	require.Contains(t, string(picture), `<svg xmlns="http://www.w3.org/2000/svg"`)
	w.showQR("2@second", time.Now().Add(2*time.Second))
	w.eventually("another code", func() bool { return len(live.states()) == 3 })
	require.NotEqual(t, view["qr"], live.reaches("scan")["qr"])
	live.reaches("waiting") // the code has run out, and there is none yet
	w.exec(`UPDATE sessions SET status = 'DISCONNECTED', reason = 'qr_timeout'`)
	w.emit("shop", "session.status")
	live.reaches("trouble")
	w.page(path, nil, 200, "trouble")
	w.showQR("2@third", time.Now().Add(time.Minute))
	live.reaches("scan")

	// Another link ends the former, open pages too.
	second := u.link(map[string]any{"expiresIn": 3600, "language": "id"})
	live.reaches("gone")
	live.ends("the last state")
	w.page(path, nil, 404, "gone")
	w.page(second, headers{"Accept-Language", "en"}, 200, "scan")
	u.do("DELETE", shopLink, u.auth(), nil).ok(200)
	w.page(second, nil, 404, "gone")
	u.do("DELETE", shopLink, u.auth(), nil).refused(404, "link_not_found")

	// Time ends one.
	third := u.link(map[string]any{"expiresIn": 60})
	live = w.follow(third+"/events", nil)
	live.reaches("scan")
	w.exec(`UPDATE session_links SET expires_at = now() + interval '100 milliseconds'`)
	w.emit("shop", "session.status") // has the page look
	live.reaches("expired")
	live.ends("the last state")
	w.page(third, nil, 410, "expired")

	// And so does the end of the session.
	fourth := u.link(nil)
	live = w.follow(fourth+"/events", nil)
	live.reaches("scan")
	u.do("DELETE", "/api/v1/sessions/shop", u.auth(), nil).ok(202)
	live.reaches("gone")
	w.page(fourth, nil, 404, "gone")
	u.do("POST", shopLink, u.auth(), nil).refused(404, "session_not_found")
	for _, text := range []string{w.log.String(), first.text} {
		require.NotContains(t, strings.ReplaceAll(text, path, ""), "kul_")
		require.NotContains(t, text, key)
	}
	require.NotContains(t, w.log.String(), "kul_")
	require.Contains(t, w.log.String(), `"route":"/link/:token"`)
}

// A scan ends the link for good, whatever becomes of the session.
func TestLinkIsUsedOnce(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)))
	network := w.phones(simnet.Config{ScanDelay: -1, QRInterval: 300 * time.Millisecond})
	w.runner()
	u := w.register("u")
	u.session("shop")
	path := u.link(nil)
	live := w.follow(path+"/events", nil)
	codes := func() map[any]bool {
		list := map[any]bool{}
		for _, e := range live.events() {
			if e.data["qr"] != nil {
				list[e.data["qr"]] = true
			}
		}
		return list
	}
	w.eventually("codes that change", func() bool { return len(codes()) > 2 })
	w.eventually("a code on the page", func() bool { // between two of them it waits
		text := w.do("GET", path, nil, nil).text
		return strings.Contains(text, `data-state="scan"`) && strings.Contains(text, "Simulation")
	})
	resp, err := http.Post(network+"/sessions/"+w.uid("shop").String()+"/scan", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	linked := live.reaches("linked")
	number := modelsNumber(w)
	require.Contains(t, linked["text"], "ending in "+number[len(number)-3:]+" ")
	require.NotContains(t, linked["text"], number[len(number)-4:], "no more of it")
	live.ends("the last state")
	page := w.page(path, nil, 200, "linked")
	require.NotContains(t, page.text, "data-events")
	require.NotContains(t, page.text, "data:image/svg")
	u.do("POST", shopLink, u.auth(), nil).refused(409, "already_linked")

	resp, err = http.Post(network+"/sessions/"+w.uid("shop").String()+"/unlink", "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	w.eventually("the end of the link", func() bool { return w.count("sessions WHERE linked_at IS NULL") == 1 })
	w.showQR("2@anew", time.Now().Add(time.Minute))
	require.NotContains(t, w.page(path, nil, 200, "linked").text, "data:image/svg")
	w.page(u.link(nil), nil, 200, "scan")
}

func modelsNumber(w *world) string {
	w.Helper()
	s, err := models.SessionByName(context.Background(), w.db, "shop")
	require.NoError(w, err)
	require.NotNil(w, s.PhoneNumber)
	return *s.PhoneNumber
}

func TestLinksThatAreNone(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	key := u.session("shop")
	good := u.link(nil)
	for _, token := range []string{"x", "kul_", strings.Repeat("x", 4000), strings.TrimPrefix(good, "/link/") + "x", good[len("/link/") : len(good)-1], u.key, key, "%00", "%ff", "<script>", uuid.NewString()} {
		page := w.do("GET", "/link/"+token, nil, nil)
		require.Equal(t, 404, page.status, token)
		require.Contains(t, page.text, `data-state="gone"`)
		require.NotContains(t, page.text, "<script>")
		f := w.follow("/link/"+token+"/events", nil)
		f.reaches("gone")
		f.ends("a page of nothing")
	}
	w.do("GET", "/link", nil, nil).refused(404, "route_not_found")
	w.do("GET", "/link/files/x/link.js", nil, nil).refused(404, "route_not_found")
	w.do("POST", good, nil, nil).refused(405, "method_not_allowed")
	for _, body := range []map[string]any{{"expiresIn": 59}, {"expiresIn": 86401}, {"language": "fr"}, {"expiresIn": "1h"}} {
		u.do("POST", shopLink, u.auth(), body).refused(422, "invalid_request")
	}
	require.Equal(t, map[int]int{201: 8}, parallel(8, func(int) int { return u.do("POST", shopLink, u.auth(), nil).status }))
	require.EqualValues(t, 1, w.count("session_links"), "a session has one")
	w.page(good, nil, 404, "gone")
	w.exec(`UPDATE users SET is_active = false`)
}

func TestLanguagesOfALink(t *testing.T) {
	t.Parallel()
	w := start(t, func(_ *world, c *api.Config) { c.PublicURL = "https://kurir.example.com/" })
	w.worker()
	u := w.register("u")
	u.session("shop")
	link := func(body any) string {
		address := str(u.do("POST", shopLink, u.auth(), body).ok(201), "url")
		path, ok := strings.CutPrefix(address, "https://kurir.example.com/link/")
		require.True(t, ok, address)
		return "/link/" + path
	}
	path := link(nil)
	for accept, want := range map[string]string{"": "en", "id": "id", "id-ID,id;q=0.9,en;q=0.8": "id", "in": "id", "en-US": "en", "fr": "en", "fr,id;q=0.5": "id", "de, en;q=0.7": "en", "\xff;;;q=": "en", strings.Repeat("x-", 2000): "en"} {
		a := w.page(path, headers{"Accept-Language", accept}, 200, "waiting")
		require.Contains(t, a.text, `<html lang="`+want+`">`, accept)
		title := html.UnescapeString(pageTitle.FindStringSubmatch(a.text)[1])
		require.Equal(t, map[string]string{"en": "One moment…", "id": "Sebentar…"}[want], title)
		require.Equal(t, title, w.follow(path+"/events", headers{"Accept-Language", accept}).reaches("waiting")["title"])
	}
	path = link(map[string]any{"language": "id"})
	require.Contains(t, w.page(path, headers{"Accept-Language", "en"}, 200, "waiting").text, `<html lang="id">`)
}

func TestTooManyVisits(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.session("shop")
	path := u.link(nil)
	status := map[int]int{}
	for range 130 {
		status[w.do("GET", path, nil, nil).status]++
	}
	require.Equal(t, map[int]int{200: 120, 429: 10}, status)
	require.NotEmpty(t, w.page(path, nil, 429, "busy").header.Get("Retry-After"))
	w.do("GET", path+"/events", nil, nil).refused(429, "too_many_streams")
	u.do("GET", "/api/v1/auth/me", u.auth(), nil).ok(200)
}
