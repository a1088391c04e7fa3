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

// A letter is two files in templates/: name.txt, whose first line is the subject, and name.html.
//
//go:embed templates
var templates embed.FS

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
		data.Date = w.Since.UTC().Format("2 January 2006, 15:04 UTC")
	}
	if w.Session != "" {
		data.Path = "/api/v1/sessions/" + w.Session + "/webhook"
	}
	return letter("webhook_disabled", data)
}

func letter(name string, data any) (l Letter, err error) {
	text, err := texttemplate.ParseFS(templates, "templates/"+name+".txt")
	if err != nil {
		return l, fmt.Errorf("letter %s: %w", name, err)
	}
	html, err := htmltemplate.ParseFS(templates, "templates/"+name+".html")
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
