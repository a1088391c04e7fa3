// Package mail is what Kurir tells people by mail: a few letters as templates, and the way out by SMTP. It knows no rows and
// decides nothing: jobs say who is told what, and try again.
package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// Config says how mail leaves. Without Host none does: it is put into Folder, and without that it is only noted in the log.
type Config struct {
	Host       string
	Port       int // 465: TLS from the beginning; else STARTTLS, which credentials demand and others take if it is offered
	User, Pass string
	From       string // an address, with a name or without
	Folder     string

	trusted *x509.CertPool // in tests, instead of the system's
}

const (
	timeout     = 20 * time.Second
	tlsPort     = 465
	defaultFrom = "Kurir <kurir@localhost>"
)

// Mailer sends letters.
type Mailer struct {
	cfg    Config
	client *gomail.Client // nil: there is no SMTP
	log    *slog.Logger
}

// New checks the settings. It does not connect.
func New(cfg Config, log *slog.Logger) (*Mailer, error) {
	m := &Mailer{cfg: cfg, log: log}
	if m.cfg.From == "" {
		m.cfg.From = defaultFrom
		if cfg.Host != "" {
			return nil, errors.New("SMTP_FROM is not set")
		}
	}
	if err := gomail.NewMsg().From(m.cfg.From); err != nil {
		return nil, fmt.Errorf("SMTP_FROM: %q is no mail address", m.cfg.From)
	}
	if cfg.Host == "" {
		return m, nil
	}
	options := []gomail.Option{gomail.WithTimeout(timeout), gomail.WithTLSPolicy(gomail.TLSOpportunistic)}
	if cfg.User != "" {
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory), gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover),
			gomail.WithUsername(cfg.User), gomail.WithPassword(cfg.Pass))
	}
	if cfg.Port == tlsPort {
		options = append(options, gomail.WithSSL())
	}
	if cfg.trusted != nil {
		options = append(options, gomail.WithTLSConfig(&tls.Config{RootCAs: cfg.trusted, ServerName: cfg.Host, MinVersion: tls.VersionTLS12}))
	}
	var err error
	if m.client, err = gomail.NewClient(cfg.Host, append(options, gomail.WithPort(cfg.Port))...); err != nil {
		return nil, fmt.Errorf("SMTP_HOST and SMTP_PORT: %w", err)
	}
	return m, nil
}

// Letter is what is written, once as text and once as HTML.
type Letter struct{ Subject, Text, HTML string }

// Send sends a letter. id names it: a letter that is sent again after a doubt has the same Message-ID. It says whether the
// letter left; where there is no SMTP it did not, and that is no error.
func (m *Mailer) Send(ctx context.Context, id, to string, l Letter) (sent bool, err error) {
	msg, err := m.compose(id, to, l)
	if err != nil {
		return false, err
	}
	if m.client == nil {
		return false, m.keep(id, l.Subject, msg)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := m.client.DialAndSendWithContext(ctx, msg); err != nil {
		return false, fmt.Errorf("send mail: %w", err)
	}
	return true, nil
}

// ErrAddress is the failure of a letter that has no valid recipient.
var ErrAddress = errors.New("no valid mail address")

// Refused reports whether the letter was refused for good, so that sending it again is in vain. Codes below 550 are about us, such as a
// password that is missing or wrong: an operator mends that, and the letter waits.
func Refused(err error) bool {
	var failure *gomail.SendError
	return errors.Is(err, ErrAddress) || errors.As(err, &failure) && !failure.IsTemp() && failure.ErrorCode() >= 550
}

func (m *Mailer) compose(id, to string, l Letter) (*gomail.Msg, error) {
	msg := gomail.NewMsg()
	if err := msg.From(m.cfg.From); err != nil {
		return nil, fmt.Errorf("sender of mail: %w", err)
	}
	if err := msg.To(to); err != nil {
		return nil, fmt.Errorf("recipient of mail: %w: %w", ErrAddress, err)
	}
	msg.Subject(l.Subject)
	msg.SetMessageIDWithValue(id + "@kurir")
	msg.SetDate()
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // no vacation notice answers it
	msg.SetBodyString(gomail.TypeTextPlain, l.Text)
	msg.AddAlternativeString(gomail.TypeTextHTML, l.HTML)
	return msg, nil
}

// keep puts a letter where a developer finds it.
func (m *Mailer) keep(id, subject string, msg *gomail.Msg) error {
	if m.cfg.Folder == "" {
		m.log.Warn("mail not sent: SMTP_HOST is not set", "subject", subject)
		return nil
	}
	if err := os.MkdirAll(m.cfg.Folder, 0o700); err != nil {
		return fmt.Errorf("folder for mail: %w", err)
	}
	file := filepath.Join(m.cfg.Folder, filepath.Base(id)+".eml")
	draft := file + ".part" // who looks for mail finds it whole
	err := msg.WriteToFile(draft)
	if err == nil {
		err = os.Rename(draft, file)
	}
	if err != nil {
		_ = os.Remove(draft) // of what was written in part
		return fmt.Errorf("keep mail: %w", err)
	}
	m.log.Info("mail kept, since SMTP_HOST is not set", "subject", subject, "file", file)
	return nil
}
