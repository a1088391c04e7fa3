package mail

import (
	"bytes"
	"embed"
	"fmt"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"
	"time"
)

// A letter is two files in templates/: name.txt, whose first line is the subject, and name.html, which stands inside of layout.html.
//
//go:embed templates
var templates embed.FS

// Reset leads to a new password.
type Reset struct {
	Page  string // "" if nobody knows how we are reached
	Token string
}

// Letter writes it.
func (r Reset) Letter() (Letter, error) { return letter("reset", withLink(r)) }

// Verify has somebody prove that an address is his.
type Verify Reset

// Letter writes it.
func (v Verify) Letter() (Letter, error) { return letter("verify", withLink(v)) }

// withLink puts the token behind the #: so it is sent to no server, and stands in no log and no Referer.
type withLink struct{ Page, Token string }

// Link is the page with the token, "" if there is none.
func (w withLink) Link() string {
	if w.Page == "" {
		return ""
	}
	return w.Page + "#" + w.Token
}

// PasswordChanged tells a user that his password was changed.
type PasswordChanged struct {
	ByReset bool // by a mailed link
	Ended   bool // API keys with it: nobody had proved the address before
	At      time.Time
}

// Letter writes it.
func (p PasswordChanged) Letter() (Letter, error) {
	return letter("password_changed", map[string]any{"ByReset": p.ByReset, "Ended": p.Ended, "Date": date(p.At)})
}

// EmailChanged tells whoever has the former address.
type EmailChanged struct{ At time.Time }

// Letter writes it.
func (e EmailChanged) Letter() (Letter, error) {
	return letter("email_changed", map[string]any{"Date": date(e.At)})
}

// SessionLoggedOut tells an owner that a phone has unlinked his session.
type SessionLoggedOut struct {
	Session string
	At      time.Time
}

// Letter writes it.
func (s SessionLoggedOut) Letter() (Letter, error) {
	return letter("session_logged_out", map[string]any{"Session": s.Session, "Date": date(s.At)})
}

// KeyExpiring tells an owner that an API key ends.
type KeyExpiring struct {
	Name, Prefix string
	Session      string // "" for an account's key
	At           time.Time
}

// Letter writes it.
func (k KeyExpiring) Letter() (Letter, error) {
	return letter("key_expiring", map[string]any{"Name": k.Name, "Prefix": k.Prefix, "Session": k.Session, "Date": date(k.At)})
}

// LimitReached tells a user that his tier, or what an administrator has set for him, allows no more.
type LimitReached struct {
	Tier  string
	Limit string // messages (per hour) or sessions
	Own   bool   // an administrator has set it
}

// Letter writes it.
func (l LimitReached) Letter() (Letter, error) { return letter("limit_reached", l) }

// WebhookDisabled tells an owner that his webhook was switched off.
type WebhookDisabled struct {
	Session string     // "" for the account's webhook
	Host    string     // where it led; the rest of a URL may be a secret
	Reason  string     // gone or failing
	Since   *time.Time // of the failures
}

// Letter writes it.
func (w WebhookDisabled) Letter() (Letter, error) {
	data := struct {
		WebhookDisabled
		Date string
		Path string
	}{WebhookDisabled: w, Path: "/api/v1/webhook"}
	if w.Since != nil {
		data.Date = date(*w.Since)
	}
	if w.Session != "" {
		data.Path = "/api/v1/sessions/" + w.Session + "/webhook"
	}
	return letter("webhook_disabled", data)
}

func date(at time.Time) string { return at.UTC().Format("2 January 2006, 15:04 UTC") }

func letter(name string, data any) (l Letter, err error) {
	text, err := texttemplate.ParseFS(templates, "templates/"+name+".txt")
	if err != nil {
		return l, fmt.Errorf("letter %s: %w", name, err)
	}
	html, err := htmltemplate.ParseFS(templates, "templates/layout.html", "templates/"+name+".html")
	if err != nil {
		return l, fmt.Errorf("letter %s: %w", name, err)
	}
	var b bytes.Buffer
	if err := text.Execute(&b, data); err != nil {
		return l, fmt.Errorf("letter %s: %w", name, err)
	}
	l.Subject, l.Text, _ = strings.Cut(b.String(), "\n")
	l.Text = strings.TrimSpace(l.Text) + "\n"
	b.Reset()
	if err := html.Execute(&b, data); err != nil {
		return l, fmt.Errorf("letter %s: %w", name, err)
	}
	l.HTML = b.String()
	return l, nil
}
