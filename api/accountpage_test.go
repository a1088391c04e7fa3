package api_test

import (
	"html"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/worker/simulator/simnet"
)

var codeField = regexp.MustCompile(`name="token" value="([^"]*)"`)

// accountPage opens a page of accounts, or sends its form, and demands what holds for all of them.
func (w *world) accountPage(method, path string, form url.Values, status int, state string) *answer {
	w.Helper()
	with, body := headers(nil), any(nil)
	if form != nil {
		with, body = headers{"Content-Type", "application/x-www-form-urlencoded"}, form.Encode()
	}
	a := w.do(method, path, with, body)
	require.Equal(w, status, a.status, a.text)
	require.Equal(w, state, pageState.FindStringSubmatch(a.text)[1])
	for header, value := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "same-origin", "X-Robots-Tag": "noindex, nofollow",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Content-Type": "text/html; charset=utf-8"} {
		require.Equal(w, value, a.header.Get(header), header)
	}
	policy := a.header.Get("Content-Security-Policy")
	for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		require.Contains(w, policy, rule)
	}
	require.NotContains(w, policy, "unsafe")
	require.Empty(w, regexp.MustCompile(`<script>|<style|style=|\son\w+=`).FindAllString(a.text, -1), "nothing that the policy forbids")
	return a
}

func TestAccountPages(t *testing.T) {
	t.Parallel()
	w := start(t)
	u := w.register("u")
	reset, verify := u.mailed(models.TokenReset, u.email), u.mailed(models.TokenVerify, u.email)
	for _, path := range []string{models.ResetPage, models.VerifyPage} {
		// Whoever looks into the mail, by whatever method, uses nothing up.
		page := w.accountPage("GET", path, nil, 200, "asks")
		require.Equal(t, 3, w.assets(path, strings.ReplaceAll(page.text, `href="data:,"`, ""), nil))
		require.Empty(t, codeField.FindStringSubmatch(w.accountPage("GET", path+"?token=kum_x", nil, 200, "asks").text)[1], "an address says nothing")
		w.do("HEAD", path, nil, nil)
		require.Equal(t, "id", w.do("GET", path, headers{"Accept-Language", "id-ID,id;q=0.9"}, nil).header.Get("Content-Language"))
		for _, form := range []url.Values{{}, {"token": {"x"}}, {"token": {"kum_<b>"}, "password": {chosen}}, {"token": {strings.Repeat("x", 10_000)}}} {
			w.accountPage("POST", path, form, 410, "invalid")
		}
	}
	require.EqualValues(t, 2, w.count("account_tokens"))

	// A password that will not do is asked for again, with the code kept.
	again := w.accountPage("POST", models.ResetPage, url.Values{"token": {reset}, "password": {"iloveyou"}}, 200, "asks")
	require.Equal(t, reset, html.UnescapeString(codeField.FindStringSubmatch(again.text)[1]))
	require.Contains(t, again.text, `role="alert"`)
	require.NotContains(t, again.text, "iloveyou")
	w.accountPage("POST", models.VerifyPage, url.Values{"token": {reset}}, 410, "invalid")
	w.accountPage("POST", models.VerifyPage, url.Values{"token": {verify}}, 200, "done")
	w.accountPage("POST", models.VerifyPage, url.Values{"token": {verify}}, 410, "invalid")
	w.accountPage("POST", models.ResetPage, url.Values{"token": {reset}, "password": {chosen}}, 200, "done")
	w.accountPage("POST", models.ResetPage, url.Values{"token": {reset}, "password": {chosen}}, 410, "invalid")
	w.logsIn(u.email, chosen).ok(200)
	log := w.log.String()
	for _, secret := range []string{reset, verify, chosen, "kum_", u.email} {
		require.NotContains(t, log, secret)
	}
	for range 130 {
		w.do("GET", models.ResetPage, nil, nil)
	}
	w.accountPage("GET", models.ResetPage, nil, 429, "busy")
}

// post waits for a mail with the given subject, and returns its text.
func (w *world) post(to, subject string) (text string) {
	w.Helper()
	w.eventually("a mail: "+subject, func() bool {
		files, err := filepath.Glob(filepath.Join(w.box, "*.eml"))
		require.NoError(w, err)
		for _, file := range files {
			raw, err := os.ReadFile(file)
			require.NoError(w, err)
			m, err := netmail.ReadMessage(strings.NewReader(string(raw)))
			if err != nil || !strings.Contains(m.Header.Get("Subject"), subject) || m.Header.Get("To") != "<"+to+">" {
				continue // or it is being written
			}
			_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
			require.NoError(w, err)
			part, err := multipart.NewReader(m.Body, params["boundary"]).NextPart()
			if err != nil {
				continue
			}
			body, err := io.ReadAll(part)
			if err != nil {
				continue
			}
			text = string(body)
			_ = os.Remove(file)
			return true
		}
		return false
	})
	return text
}

// linkIn finds the page and the code in a mail.
func (w *world) linkIn(text, page string) (token string) {
	w.Helper()
	found := regexp.MustCompile(regexp.QuoteMeta(w.url+page) + `#(kum_[A-Za-z0-9_-]{43})`).FindStringSubmatch(text)
	require.NotNil(w, found, text)
	return found[1]
}

// The life of an account, with its mails, on a whole installation.
func TestLifeOfAnAccount(t *testing.T) {
	t.Parallel()
	w := start(t, withRedis(embeddedtest.Redis(t)), verifying)
	w.box = t.TempDir()
	w.runner()
	w.clockwork()
	network := w.phones(simnet.Config{})
	u := w.register("u")
	token := w.linkIn(w.post(u.email, "confirm your mail"), models.VerifyPage)
	w.accountPage("POST", models.VerifyPage, url.Values{"token": {token}}, 200, "done")
	w.logsIn(u.email, password).ok(200)

	w.do("POST", "/api/v1/auth/password/forgot", nil, map[string]any{"email": u.email}).ok(200)
	w.do("POST", "/api/v1/auth/password/forgot", nil, map[string]any{"email": "nobody@example.com"}).ok(200)
	token = w.linkIn(w.post(u.email, "choose a new password"), models.ResetPage)
	w.accountPage("POST", models.ResetPage, url.Values{"token": {token}, "password": {chosen}}, 200, "done")
	w.post(u.email, "your password was changed")
	u.token = str(w.logsIn(u.email, chosen).ok(200), "token")

	u.do("PATCH", "/api/v1/users/me", u.auth(), map[string]any{"email": "new@example.com", "currentPassword": chosen}).ok(200)
	w.do("POST", "/api/v1/auth/verify", nil, map[string]any{"token": w.linkIn(w.post("new@example.com", "confirm your mail"), models.VerifyPage)}).ok(200)
	w.post(u.email, "another mail address")

	key := u.session("shop")
	uid := w.uidOf("shop")
	u.becomes("connected", "")
	u.do("POST", "/api/v1/sessions/shop/send", bearer(key), text("6281234567890", "hello")).ok(202)
	u.closes(chosen).ok(202)
	w.eventually("the end of everything", func() bool { return w.count("users WHERE id = $1", u.id) == 0 })
	for _, table := range []string{"sessions", "messages", "events", "api_keys", "lanes", "jobs WHERE user_id IS NOT NULL"} {
		require.Zero(t, w.count(table), table)
	}
	require.NotZero(t, w.count("system_logs WHERE user_id = $1", u.id))
	report, err := client.Get(network + "/report")
	require.NoError(t, err)
	require.Equal(t, false, read(t, report).body["perSession"].(map[string]any)[uid].(map[string]any)["linked"], "the phone has forgotten it")
	require.Zero(t, w.count("jobs j WHERE j::text LIKE '%example.com%'"))
	files, err := os.ReadDir(w.box)
	require.NoError(t, err)
	require.Empty(t, files, "and nobody was told anything else")
}
