package mail

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var quiet = slog.New(slog.DiscardHandler)

// postbox is a small SMTP server. answer, if set, decides about a command by its verb; "" lets it through.
type postbox struct {
	port    int
	letters chan string
}

func newPostbox(t *testing.T, answer func(verb string) string) *postbox {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &postbox{port: l.Addr().(*net.TCPAddr).Port, letters: make(chan string, 10)}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c, answer)
		}
	}()
	return p
}

func (p *postbox) serve(c net.Conn, answer func(string) string) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	lines := bufio.NewReader(c)
	say := func(text string) { _, _ = io.WriteString(c, text+"\r\n") }
	say("220 postbox")
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		verb := strings.ToUpper(strings.TrimSpace(strings.SplitN(line, " ", 2)[0]))
		verb, _, _ = strings.Cut(verb, ":")
		if refusal := answer(verb); refusal != "" {
			say(refusal)
			continue
		}
		switch verb {
		case "DATA":
			say("354 go on")
			var letter strings.Builder
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				letter.WriteString(line)
			}
			p.letters <- letter.String()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func welcoming(string) string { return "" }

func mailer(t *testing.T, cfg Config) *Mailer {
	m, err := New(cfg, quiet)
	require.NoError(t, err)
	return m
}

func TestSendBySMTP(t *testing.T) {
	box := newPostbox(t, welcoming)
	m := mailer(t, Config{Host: "127.0.0.1", Port: box.port, From: "Kurir <kurir@example.com>"})
	since := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	l, err := WebhookDisabled{Session: "shop", Host: "hooks.example.com", Reason: "failing", Since: &since}.Letter()
	require.NoError(t, err)
	for range 2 { // again after a doubt
		sent, err := m.Send(t.Context(), "0199c0de", "sari@example.com", l)
		require.NoError(t, err)
		require.True(t, sent)
		got, err := netmail.ReadMessage(strings.NewReader(<-box.letters))
		require.NoError(t, err)
		for header, want := range map[string]string{"From": `"Kurir" <kurir@example.com>`, "To": "<sari@example.com>", "Subject": "Kurir: the webhook of shop is switched off",
			"Message-Id": "<0199c0de@kurir>", "Auto-Submitted": "auto-generated"} {
			require.Equal(t, want, got.Header.Get(header), header)
		}
		require.Contains(t, got.Header.Get("Content-Type"), "multipart/alternative")
		body, err := io.ReadAll(got.Body)
		require.NoError(t, err)
		for _, part := range []string{"text/plain", "text/html", "Every delivery has failed since 2 January 2026, 03:04 UTC."} {
			require.Contains(t, string(body), part)
		}
	}
}

func TestRefusals(t *testing.T) {
	l := Letter{Subject: "s", Text: "t", HTML: "<p>t</p>"}
	for _, tt := range []struct {
		verb, answer string
		refused      bool
	}{
		{"RCPT", "550 nobody here", true}, {"RCPT", "451 not now", false}, {"MAIL", "421 busy", false}, {"DATA", "554 no", true},
	} {
		box := newPostbox(t, func(verb string) string {
			if verb == tt.verb {
				return tt.answer
			}
			return ""
		})
		_, err := mailer(t, Config{Host: "127.0.0.1", Port: box.port, From: "k@example.com"}).Send(t.Context(), "1", "x@example.com", l)
		require.Error(t, err, tt)
		require.Equal(t, tt.refused, Refused(err), "%v: %v", tt, err)
	}
	box := newPostbox(t, welcoming)
	m := mailer(t, Config{Host: "127.0.0.1", Port: box.port, From: "k@example.com"})
	for _, to := range []string{"", "nobody", "a@b\r\nBcc: c@d", "a@b, c@d"} {
		_, err := m.Send(t.Context(), "1", to, l)
		require.ErrorIs(t, err, ErrAddress, "%q", to)
		require.True(t, Refused(err))
	}
	require.Empty(t, box.letters)
	require.False(t, Refused(nil))
	require.False(t, Refused(errors.New("x")))

	// No server at all, and one that offers no TLS to somebody with a password.
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = mailer(t, Config{Host: "127.0.0.1", Port: closed.Addr().(*net.TCPAddr).Port, From: "k@example.com"}).Send(t.Context(), "1", "x@example.com", l)
	require.Error(t, err)
	require.False(t, Refused(err))
	_, err = mailer(t, Config{Host: "127.0.0.1", Port: box.port, From: "k@example.com", User: "u", Pass: "hush"}).Send(t.Context(), "1", "x@example.com", l)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hush")
	require.Empty(t, box.letters)
}

func TestWithoutSMTPMailIsKept(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "mail")
	m := mailer(t, Config{Folder: folder})
	l, err := WebhookDisabled{Host: "hooks.example.com", Reason: "gone"}.Letter()
	require.NoError(t, err)
	sent, err := m.Send(t.Context(), "../../0199c0de", "sari@example.com", l)
	require.NoError(t, err)
	require.False(t, sent)
	raw, err := os.ReadFile(filepath.Join(folder, "0199c0de.eml"))
	require.NoError(t, err)
	require.Contains(t, string(raw), "Subject: Kurir: your account's webhook is switched off")

	sent, err = mailer(t, Config{}).Send(t.Context(), "1", "sari@example.com", l) // production: noted in the log alone
	require.NoError(t, err)
	require.False(t, sent)
}

func TestSettingsAreChecked(t *testing.T) {
	for _, cfg := range []Config{{Host: "mail.example.com", Port: 587}, {Host: "mail.example.com", Port: 70000, From: "k@example.com"}, {From: "no address"}, {From: "k@example.com\r\nX: y"}} {
		_, err := New(cfg, quiet)
		require.Error(t, err, fmt.Sprint(cfg))
	}
	mailer(t, Config{Host: "mail.example.com", Port: 465, From: "k@example.com", User: "u", Pass: "p"})
}

// A session's name and a host are not ours: in HTML they are text.
func TestLettersEscape(t *testing.T) {
	l, err := WebhookDisabled{Session: "<b>", Host: "x<script>", Reason: "gone"}.Letter()
	require.NoError(t, err)
	require.NotContains(t, l.HTML, "<script>")
	require.NotContains(t, l.HTML, "<b>")
	require.Contains(t, l.Text, "x<script>")
	require.NotContains(t, l.Subject, "\n")
}
