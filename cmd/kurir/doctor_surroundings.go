package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"kurir/mail"
)

const (
	littleSpace = 2 << 30
	noSpace     = 200 << 20
)

func (d *doctor) media() {
	const check = "media"
	folder := strings.TrimPrefix(d.cfg.MediaURL, "file://")
	if strings.Contains(folder, "://") {
		d.say(check, fine, "", "MEDIA_URL is a bucket, which is not looked into")
		return
	}
	there := folder
	for { // the first start makes it
		if _, err := os.Stat(there); !errors.Is(err, fs.ErrNotExist) || there == filepath.Dir(there) {
			break
		}
		there = filepath.Dir(there)
	}
	if err := tryFile(there); err != nil {
		d.say(check, failing, "Give the user that Kurir runs as the right to write to MEDIA_URL.", "nothing can be written to %s: %v", there, err)
		return
	}
	var s syscall.Statfs_t
	if err := syscall.Statfs(there, &s); err != nil {
		d.say(check, warning, "", "free space of %s cannot be read: %v", there, err)
		return
	}
	free := s.Bavail * uint64(max(s.Bsize, 0))
	status, advice := fine, ""
	if free < littleSpace {
		status, advice = warning, "Make room, or set RETENTION_MESSAGES_DAYS."
	}
	if free < noSpace {
		status = failing
	}
	d.say(check, status, advice, "%.1f GB are free at %s", float64(free)/(1<<30), there)
}

func tryFile(folder string) error {
	f, err := os.CreateTemp(folder, ".kurir-doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func (d *doctor) mail(ctx context.Context) {
	const check = "mail"
	if d.cfg.SMTPHost == "" {
		status := warning
		if d.cfg.Env == development {
			status = fine
		}
		d.say(check, status, "Set SMTP_HOST and the like, for people to be told of what concerns them.", "there is no mail server: no mail leaves")
		return
	}
	mailer, err := mail.New(d.cfg.mail(), slog.New(slog.DiscardHandler))
	if err == nil {
		err = within(ctx, mailer.Check)
	}
	if err != nil {
		d.say(check, failing, "See that SMTP_HOST, SMTP_PORT, SMTP_USER and SMTP_PASS are right; a password needs STARTTLS, or port 465.", "%s:%d: %v", d.cfg.SMTPHost, d.cfg.SMTPPort, err)
		return
	}
	d.say(check, fine, "", "%s:%d takes mail", d.cfg.SMTPHost, d.cfg.SMTPPort)
}

func (d *doctor) publicURL(ctx context.Context) {
	const check = "public URL"
	if d.cfg.PublicURL == "" {
		found := "PUBLIC_URL is not set: links in mails and of sessions lead to this machine"
		if d.cfg.Env == production {
			found = "PUBLIC_URL is not set: mails have codes in place of links, and session links begin with the address at which they were asked for"
		}
		d.say(check, warning, "Set PUBLIC_URL to how clients reach the API.", "%s", found)
		return
	}
	if d.cfg.Env == production && !strings.HasPrefix(d.cfg.PublicURL, "https://") {
		d.say(check, warning, "Put a proxy with TLS before the API.", "PUBLIC_URL is not https: keys and messages can be read on their way")
	}
	err := within(ctx, func(ctx context.Context) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(d.cfg.PublicURL, "/")+"/health/live", nil)
		if err != nil {
			return err
		}
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		res, err := client.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s", res.Status)
		}
		return nil
	})
	if err != nil {
		d.say(check, failing, "See that the API runs, and that name, proxy and certificate lead to it; from this machine it may take another way.", "%v", err)
		return
	}
	d.say(check, fine, "", "%s answers", d.cfg.PublicURL)
}
