package api

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/limiter"
	"golang.org/x/text/language"

	"kurir/fault"
	"kurir/models"
)

// The pages that mails lead to. To read one does nothing, since programs that look for harm in mails do so too: the form does. The code
// from the mail stands behind the link's #, which browsers keep to themselves: a script puts it into the form, or people do.

//go:embed account
var accountFiles embed.FS

var accountTemplate = template.Must(template.ParseFS(accountFiles, "account/page.html"))

// accountPolicy lets the page load its files and send its form here, and be framed by nobody.
const accountPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// States of the pages.
const (
	accountAsks    = "asks"
	accountDone    = "done"
	accountInvalid = "invalid"
	accountBusy    = "busy"
)

var accountStatus = map[string]int{accountAsks: http.StatusOK, accountDone: http.StatusOK, accountInvalid: http.StatusGone, accountBusy: http.StatusTooManyRequests}

// accountPage is one of the two pages.
type accountPage struct {
	path    string
	chooses bool // a password
	submit  func(ctx context.Context, token, chosen string) error
	words   func(*accountWords) pageWords
}

func (a *API) accountPages() {
	script := newAsset(accountFiles, "account", "account.js", "text/javascript; charset=utf-8")
	own, shared := newAsset(accountFiles, "account", "account.css", "text/css; charset=utf-8"), newLinkAsset("link.css", "text/css; charset=utf-8")
	a.serveAssets(script, own)
	show := func(c *fiber.Ctx, p accountPage, state, token, message string) error {
		_, i := language.MatchStrings(linkMatcher, short(c.Get("Accept-Language")))
		words := accountLanguages[i]
		for name, value := range map[string]string{
			"Content-Security-Policy": accountPolicy, "Cache-Control": "no-store", "Referrer-Policy": formReferrer, "X-Robots-Tag": "noindex, nofollow",
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Vary": "Accept-Language", "Content-Language": words.Lang,
		} {
			c.Set(name, value)
		}
		says := p.words(words)
		c.Type("html", "utf-8").Status(accountStatus[state])
		return accountTemplate.Execute(c.Response().BodyWriter(), map[string]any{"Words": words, "State": state, "Title": says.States[state][0], "Text": says.States[state][1],
			"Button": says.Button, "Form": state == accountAsks, "Action": p.path, "Chooses": p.chooses, "Token": token, "Message": message,
			"Script": script.path, "Styles": []string{shared.path, own.path}})
	}
	for _, p := range []accountPage{
		{path: models.ResetPage, chooses: true, words: func(w *accountWords) pageWords { return w.Reset },
			submit: func(ctx context.Context, token, chosen string) error { return a.reset(ctx, token, "password", chosen) }},
		{path: models.VerifyPage, words: func(w *accountWords) pageWords { return w.Verify },
			submit: func(ctx context.Context, token, _ string) error { return a.verify(ctx, token) }},
	} {
		visits := limiter.New(limiter.Config{KeyGenerator: visitor, Max: linkVisits, Expiration: time.Minute, LimitReached: func(c *fiber.Ctx) error {
			return show(c, p, accountBusy, "", "")
		}})
		a.app.Get(p.path, visits, func(c *fiber.Ctx) error { return show(c, p, accountAsks, "", "") })
		a.app.Post(p.path, visits, a.ownPagesOnly, func(c *fiber.Ctx) error {
			token := c.FormValue("token")
			err := p.submit(c.UserContext(), token, c.FormValue("password"))
			var f *fault.Error
			switch {
			case err == nil:
				return show(c, p, accountDone, "", "")
			case errors.Is(err, models.ErrMailedToken):
				return show(c, p, accountInvalid, "", "")
			case errors.As(err, &f) && (f.Kind == fault.Invalid || f.Kind == fault.Conflict):
				message := f.Sentence
				if len(f.Details) > 0 {
					message = f.Details[0].Message
				}
				return show(c, p, accountAsks, token, message)
			}
			return err
		})
	}
}

// pageWords are the words of one page in one language.
type pageWords struct {
	Button string
	States map[string][2]string // title and text
}

// accountWords are those of both.
type accountWords struct {
	Lang                  string
	Code, Password, Rules string
	Reset, Verify         pageWords
}

// accountLanguages are in the order of linkMatcher.
var accountLanguages = []*accountWords{{
	Lang: "en", Code: "Code from the mail", Password: "New password", Rules: "8 to 72 characters, none of those that many people use.",
	Reset: pageWords{Button: "Change the password", States: map[string][2]string{
		accountAsks:    {"Choose a new password", "It is for your Kurir account. Everybody who is logged in will have to log in again."},
		accountDone:    {"The password is changed", "Log in with the new one. If nobody had proved this address before, the account's API keys have ended and its webhooks are switched off. You can close this page."},
		accountInvalid: {"This link does not work any more", "It was used, is older than an hour, or the account has changed since. Ask for a new one."},
		accountBusy:    {"Too many visits", "Please wait a minute, then load this page again."},
	}},
	Verify: pageWords{Button: "Confirm", States: map[string][2]string{
		accountAsks:    {"Confirm your mail address", "With this you say that the mail came to you, and that its address is to be that of your Kurir account."},
		accountDone:    {"Thank you", "The mail address is confirmed. You can close this page."},
		accountInvalid: {"This link does not work any more", "It was used, is older than a day, or the account has changed since. Ask for a new one."},
		accountBusy:    {"Too many visits", "Please wait a minute, then load this page again."},
	}},
}, {
	Lang: "id", Code: "Kode dari surel", Password: "Kata sandi baru", Rules: "8 sampai 72 karakter, bukan kata sandi yang dipakai banyak orang.",
	Reset: pageWords{Button: "Ganti kata sandi", States: map[string][2]string{
		accountAsks:    {"Pilih kata sandi baru", "Kata sandi ini untuk akun Kurir Anda. Semua yang sedang masuk harus masuk lagi."},
		accountDone:    {"Kata sandi sudah diganti", "Masuklah dengan kata sandi yang baru. Jika alamat ini belum pernah dibuktikan, kunci API akun sudah berakhir dan webhook-nya dimatikan. Anda boleh menutup halaman ini."},
		accountInvalid: {"Tautan ini tidak berlaku lagi", "Tautan sudah dipakai, lebih dari satu jam, atau akun sudah berubah. Mintalah tautan baru."},
		accountBusy:    {"Terlalu banyak kunjungan", "Tunggu satu menit, lalu muat ulang halaman ini."},
	}},
	Verify: pageWords{Button: "Konfirmasi", States: map[string][2]string{
		accountAsks:    {"Konfirmasi alamat surel Anda", "Dengan ini Anda menyatakan bahwa surel itu sampai kepada Anda, dan alamatnya menjadi alamat akun Kurir Anda."},
		accountDone:    {"Terima kasih", "Alamat surel sudah dikonfirmasi. Anda boleh menutup halaman ini."},
		accountInvalid: {"Tautan ini tidak berlaku lagi", "Tautan sudah dipakai, lebih dari satu hari, atau akun sudah berubah. Mintalah tautan baru."},
		accountBusy:    {"Terlalu banyak kunjungan", "Tunggu satu menit, lalu muat ulang halaman ini."},
	}},
}}
