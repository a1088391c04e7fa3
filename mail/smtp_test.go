package mail

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/stretchr/testify/require"
)

// office is a mail server that takes letters from one user.
type office struct {
	user, pass string

	mu      sync.Mutex
	letters []string
	secure  []bool // whether each came over TLS
	logins  []string
}

func (o *office) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &visit{office: o, conn: c}, nil
}

// visit is one connection to it.
type visit struct {
	office *office
	conn   *smtp.Conn
	known  bool
}

func (v *visit) AuthMechanisms() []string { return []string{sasl.Plain} }

func (v *visit) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		v.office.mu.Lock()
		defer v.office.mu.Unlock()
		v.office.logins = append(v.office.logins, user)
		if user != v.office.user || pass != v.office.pass {
			return smtp.ErrAuthFailed
		}
		v.known = true
		return nil
	}), nil
}

func (v *visit) Mail(string, *smtp.MailOptions) error {
	if v.office.user != "" && !v.known {
		return smtp.ErrAuthRequired
	}
	return nil
}

func (v *visit) Rcpt(string, *smtp.RcptOptions) error { return nil }

func (v *visit) Data(r io.Reader) error {
	letter, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, secure := v.conn.TLSConnectionState()
	v.office.mu.Lock()
	defer v.office.mu.Unlock()
	v.office.letters, v.office.secure = append(v.office.letters, string(letter)), append(v.office.secure, secure)
	return nil
}

func (v *visit) Reset()        {}
func (v *visit) Logout() error { return nil }

// newOffice serves on a free port of loopback, with STARTTLS if it has a certificate.
func newOffice(t *testing.T, o *office, certificate *tls.Certificate) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port = l.Addr().(*net.TCPAddr).Port
	s := smtp.NewServer(o)
	s.Domain, s.ReadTimeout, s.WriteTimeout = "office", 20*time.Second, 20*time.Second
	if certificate != nil {
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12}
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; err != nil && !errors.Is(err, smtp.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("mail server: %v", err)
		}
	})
	return port
}

// Credentials go over TLS to a server that can prove who it is, and nowhere else.
func TestSMTPWithTLSAndPassword(t *testing.T) {
	web := httptest.NewTLSServer(nil) // whose certificate is for 127.0.0.1
	web.Close()
	certificate, trusted := &web.TLS.Certificates[0], x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	l := Letter{Subject: "s", Text: "t", HTML: "<p>t</p>"}
	for _, tt := range []struct {
		what        string
		user, pass  string // ours
		certificate *tls.Certificate
		trusted     *x509.CertPool
		ok          bool
	}{
		{what: "STARTTLS and password", user: "kurir", pass: "hush", certificate: certificate, trusted: trusted, ok: true},
		{what: "wrong password", user: "kurir", pass: "wrong", certificate: certificate, trusted: trusted},
		{what: "no password", certificate: certificate, trusted: trusted},
		{what: "a certificate of nobody's", user: "kurir", pass: "hush", certificate: certificate, trusted: x509.NewCertPool()},
		{what: "no TLS", user: "kurir", pass: "hush", trusted: trusted},
	} {
		o := &office{user: "kurir", pass: "hush"}
		port := newOffice(t, o, tt.certificate)
		m := mailer(t, Config{Host: "127.0.0.1", Port: port, From: "k@example.com", User: tt.user, Pass: tt.pass, trusted: tt.trusted})
		sent, err := m.Send(t.Context(), "1", "x@example.com", l)
		require.Equal(t, tt.ok, sent, "%s: %v", tt.what, err)
		require.Equal(t, tt.ok, err == nil, "%s: %v", tt.what, err)
		o.mu.Lock()
		require.Equal(t, map[bool][]bool{true: {true}}[tt.ok], o.secure, tt.what)
		if tt.certificate == nil || tt.what == "a certificate of nobody's" {
			require.Empty(t, o.logins, "%s: the password must not have been sent", tt.what)
		}
		o.mu.Unlock()
		if err != nil {
			require.NotContains(t, err.Error(), "hush")
			require.False(t, Refused(err), "%s is for the operator to mend, and the letter waits: %v", tt.what, err)
		}
	}
}

// Without credentials STARTTLS is taken where it is offered, and done without where it is not.
func TestSMTPTakesTLSWhereItIs(t *testing.T) {
	web := httptest.NewTLSServer(nil)
	web.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(web.Certificate())
	for _, certificate := range []*tls.Certificate{nil, &web.TLS.Certificates[0]} {
		o := &office{}
		port := newOffice(t, o, certificate)
		sent, err := mailer(t, Config{Host: "127.0.0.1", Port: port, From: "k@example.com", trusted: trusted}).Send(t.Context(), "1", "x@example.com", Letter{Subject: "s", Text: "t", HTML: "<p>t</p>"})
		require.NoError(t, err)
		require.True(t, sent)
		require.Equal(t, []bool{certificate != nil}, o.secure)
	}
}

func TestEveryLetterIsWhole(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	subjects := map[string]bool{}
	for _, says := range []interface{ Letter() (Letter, error) }{
		Reset{Page: "https://k.example.com/account/reset", Token: "kum_x"}, Verify{Page: "https://k.example.com/account/verify", Token: "kum_x"}, PasswordChanged{At: at}, EmailChanged{At: at},
		SessionLoggedOut{Session: "<b>", At: at}, KeyExpiring{Name: "<b>", Prefix: "kur_abc", Session: "<b>", At: at}, LimitReached{Tier: "BASIC", Limit: "sessions"}, WebhookDisabled{Session: "<b>", Host: "x<b>", Reason: "gone"},
	} {
		l, err := says.Letter()
		require.NoError(t, err)
		require.False(t, subjects[l.Subject], l.Subject)
		subjects[l.Subject] = true
		require.NotContains(t, l.Subject, "kum_")
		require.NotContains(t, l.HTML, "<b>", "names are not ours: in HTML they are text")
		for _, part := range []string{l.Text, l.HTML} {
			require.NotContains(t, part, "<no value>")
			require.NotContains(t, part, "{{")
			require.NotContains(t, part, "src=", "nothing is loaded from anywhere")
		}
	}
	l, err := Reset{Page: "https://k.example.com/account/reset", Token: "kum_x"}.Letter()
	require.NoError(t, err)
	require.Contains(t, l.HTML, `href="https://k.example.com/account/reset#kum_x"`, "the token goes to no server")
}
