package jobs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/mail"
	"kurir/models"
	"kurir/models/modelstest"
)

// postOffice runs the jobs of letters and keeps what they send.
type postOffice struct {
	testing.TB
	r      *Runner
	db     *models.DB
	user   *models.User
	shop   *models.Session
	folder string
}

func newPostOffice(t *testing.T) *postOffice {
	p := &postOffice{TB: t, db: modelstest.DB(t), folder: t.TempDir()}
	p.user, p.shop = modelstest.Ready(t, p.db)
	mailer, err := mail.New(mail.Config{Folder: p.folder}, quiet)
	require.NoError(t, err)
	vault, err := models.NewVault(bytes.Repeat([]byte("k"), 32))
	require.NoError(t, err)
	p.r = &Runner{db: p.db, id: models.NewID(), log: quiet, vault: vault, cfg: Config{Mailer: mailer, PublicURL: "https://kurir.example.com"}}
	return p
}

func (p *postOffice) exec(sql string, args ...any) {
	p.Helper()
	_, err := p.db.Pool.Exec(p.Context(), sql, args...)
	require.NoError(p, err)
}

// opened is a letter as its reader sees it.
type opened struct{ to, subject, text, html string }

// deliver runs the one job that waits, once, and returns what it sent: nothing, or a letter.
func (p *postOffice) deliver() *opened {
	p.Helper()
	id := modelstest.Scalar[uuid.UUID](p, p.db, `SELECT id FROM jobs WHERE kind = 'mail:letter' AND status = 'QUEUED'`)
	attempts := modelstest.Scalar[int](p, p.db, `SELECT attempts FROM jobs WHERE id = $1`, id)
	d := &durables{db: p.db, runner: p.r.id, log: quiet}
	for _, k := range p.r.durables() {
		if k.kind == KindLetter {
			_ = d.attempt(p.Context(), k, durableTask{Kind: KindLetter, JobID: id, Attempt: attempts + 1}) // the row tells
		}
	}
	raw, err := os.ReadFile(filepath.Join(p.folder, id.String()+".eml"))
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(p, err)
	require.NoError(p, os.Remove(filepath.Join(p.folder, id.String()+".eml")))
	require.Equal(p, "SUCCEEDED", modelstest.Scalar[string](p, p.db, `SELECT status FROM jobs WHERE id = $1`, id))
	return open(p, string(raw))
}

func open(t testing.TB, raw string) *opened {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(raw))
	require.NoError(t, err)
	o := &opened{to: strings.Trim(m.Header.Get("To"), "<>")}
	o.subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	require.NoError(t, err)
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	require.NoError(t, err)
	parts := multipart.NewReader(m.Body, params["boundary"])
	for _, into := range []*string{&o.text, &o.html} {
		part, err := parts.NextPart()
		require.NoError(t, err)
		body, err := io.ReadAll(part)
		require.NoError(t, err)
		*into = strings.ReplaceAll(string(body), "\r\n", "\n")
	}
	return o
}

func (p *postOffice) queue(letter string, about any) {
	p.Helper()
	require.NoError(p, models.QueueLetter(p.Context(), p.db.Pool, p.user.ID, letter, about))
}

// Each letter goes out while it says something true, and not when that is over.
func TestLetters(t *testing.T) {
	p := newPostOffice(t)
	key, row := models.NewAPIKey(p.user.ID, nil, "Shop's <b>till</b>", time.Now())
	require.NoError(t, models.InsertAPIKey(t.Context(), p.db, row))
	hook := addHook(t, p.db, p.shop)
	for _, tt := range []struct {
		letter       string
		about        any
		now, over    string // what makes it true, and what ends that
		subject, has string
	}{
		{models.LetterPasswordChanged, models.AboutPassword{ByReset: true}, `SELECT 1`, `UPDATE users SET is_active = false`, "your password was changed", "with a link that we had mailed"},
		{models.LetterPasswordChanged, models.AboutPassword{ByReset: true, KeysEnded: true}, `SELECT 1`, `UPDATE users SET is_active = false`, "your password was changed", "its webhooks are switched off"},
		{models.LetterWebhookDisabled, models.WebhookMail{WebhookID: hook, Reason: models.DisabledFailing},
			`UPDATE webhooks SET is_active = false, url = 'https://hooks.example.com/very?secret=path', failing_since = now()`, `UPDATE webhooks SET is_active = true`, "the webhook of shop is switched off", "hooks.example.com"},
		{models.LetterWebhookDisabled, models.WebhookMail{WebhookID: hook, Reason: models.DisabledGone}, `UPDATE webhooks SET is_active = false`, `DELETE FROM webhooks`, "the webhook of shop", "The secret and the headers stay"},
		{models.LetterSessionLoggedOut, models.AboutSession{Session: p.shop.UID}, `UPDATE sessions SET linked_at = NULL`, `UPDATE sessions SET linked_at = now()`, "shop was unlinked", "/api/v1/sessions/shop/start"},
		{models.LetterKeyExpiring, models.AboutKey{Key: row.ID}, `UPDATE api_keys SET expires_at = now() + interval '6 days'`, `UPDATE api_keys SET expires_at = now() + interval '60 days'`, "API key ends", key[:10]},
		{models.LetterKeyExpiring, models.AboutKey{Key: row.ID}, `UPDATE api_keys SET expires_at = now() + interval '6 days'`, `UPDATE api_keys SET is_active = false`, "API key ends", "Shop's"},
		{models.LetterLimitReached, models.AboutLimit{Limit: models.LimitMessages}, `SELECT 1`, `UPDATE jobs SET created_at = now() - interval '2 hours' WHERE status = 'QUEUED'`, "limit of your tier", "messages per hour"},
		{models.LetterLimitReached, models.AboutLimit{Limit: models.LimitSessions}, `UPDATE users SET max_sessions = 2`, `UPDATE jobs SET created_at = now() - interval '2 hours' WHERE status = 'QUEUED'`, "limit of your account", "administrator has set"},
		{models.LetterReset, nil, `SELECT 1`, `UPDATE jobs SET created_at = now() - interval '2 hours' WHERE status = 'QUEUED'`, "choose a new password", "https://kurir.example.com/account/reset#kum_"},
		{models.LetterReset, nil, `SELECT 1`, `UPDATE users SET password_changed_at = now() + interval '1 minute'`, "choose a new password", "kum_"},
		{models.LetterVerify, nil, `SELECT 1`, `UPDATE users SET email_verified_at = now()`, "confirm your mail address", "https://kurir.example.com/account/verify#kum_"},
	} {
		p.exec(tt.now)
		p.queue(tt.letter, tt.about)
		l := p.deliver()
		require.NotNil(t, l, tt.letter)
		require.Equal(t, p.user.Email, l.to)
		require.Contains(t, l.subject, tt.subject)
		require.Contains(t, l.text, tt.has)
		require.NotContains(t, l.text, "<no value>")
		require.NotContains(t, l.text+l.subject, "very?secret")
		require.NotContains(t, l.html, "<b>")
		require.Contains(t, l.html, "nobody reads answers")

		p.queue(tt.letter, tt.about)
		p.exec(tt.over)
		require.Nil(t, p.deliver(), "%s: %s", tt.letter, tt.over)
		p.exec(`UPDATE users SET is_active = true`)
	}
	p.queue(models.LetterEmailChanged, nil)
	require.Contains(t, p.deliver().text, "another mail address")

	p.r.cfg.PublicURL = "" // then the code alone has to do
	p.exec(`UPDATE users SET password_changed_at = NULL`)
	p.queue(models.LetterReset, nil)
	l := p.deliver()
	require.Contains(t, l.text, "POST /api/v1/auth/password/reset")
	require.NotContains(t, l.html, "<a ")
}

// No token stands anywhere but in the mail, and no address of a stranger stays.
func TestLettersKeepNothing(t *testing.T) {
	p := newPostOffice(t)
	for _, address := range []string{p.user.Email, "stranger@example.org"} {
		require.NoError(t, models.AskForLetter(t.Context(), p.db, p.r.vault, models.LetterReset, address))
		require.Zero(t, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM jobs j WHERE j::text LIKE '%example%'`), "sealed")
		l := p.deliver()
		require.Equal(t, address == p.user.Email, l != nil)
		require.Zero(t, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM jobs WHERE params ? 'to'`), "gone when the letter has ended")
		if l != nil {
			at := strings.Index(l.text, "kum_")
			token := l.text[at : at+47]
			for _, table := range []string{"jobs", "account_tokens", "users", "letter_quotas"} {
				require.Zero(t, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM `+table+` x WHERE x::text LIKE '%'||$1||'%'`, token), table)
			}
		}
	}
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM account_tokens`))

	// One that can't be sent is given up, and keeps no address either.
	require.NoError(t, models.QueueLetterTo(t.Context(), p.db.Pool, p.r.vault, "no address", p.user.ID, models.LetterEmailChanged, nil))
	require.Nil(t, p.deliver())
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM jobs WHERE status = 'FAILED' AND NOT params ? 'to'`))
	for _, params := range []string{`[]`, `{"letter":"nonsense","user":"` + p.user.ID.String() + `"}`, `{"letter":"key_expiring","user":"` + p.user.ID.String() + `"}`, `{"letter":"reset","to":"AAAA"}`} {
		p.exec(`INSERT INTO jobs (id, kind, params) VALUES ($1, 'mail:letter', $2)`, models.NewID(), json.RawMessage(params))
		require.Nil(t, p.deliver(), params)
	}
	require.EqualValues(t, 5, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM jobs WHERE status = 'FAILED'`))
}

// A mail server that is away is tried again, each time with a token of its own: the first one may have arrived.
func TestLetterIsTriedAgain(t *testing.T) {
	p := newPostOffice(t)
	office := p.r.cfg.Mailer
	var err error
	p.r.cfg.Mailer, err = mail.New(mail.Config{Host: "127.0.0.1", Port: 1, From: "k@example.com"}, quiet)
	require.NoError(t, err)
	p.queue(models.LetterReset, nil)
	require.Nil(t, p.deliver())
	require.Equal(t, "QUEUED 1", modelstest.Scalar[string](t, p.db, `SELECT status || ' ' || attempts FROM jobs WHERE kind = 'mail:letter'`))
	p.r.cfg.Mailer = office
	require.NotNil(t, p.deliver())
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM account_tokens`))
}

func TestOwnersAreWarnedOfExpiringKeysTwice(t *testing.T) {
	p := newPostOffice(t)
	warned := func() int64 {
		p.exec(`DELETE FROM jobs`)
		require.NoError(t, p.r.keysExpiring(t.Context(), tick{}))
		return modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM jobs WHERE kind = 'mail:letter' AND params->>'letter' = 'key_expiring' AND params->>'user' = $1`, p.user.ID.String())
	}
	_, row := models.NewAPIKey(p.user.ID, nil, "till", time.Now().AddDate(0, 0, -30))
	require.NoError(t, models.InsertAPIKey(t.Context(), p.db, row))
	for _, step := range []struct {
		expires string
		letters int64
	}{{"NULL", 0}, {"now() + interval '8 days'", 0}, {"now() + interval '6 days'", 1}, {"expires_at", 0}, {"now() + interval '20 hours'", 1}, {"expires_at", 0},
		{"now() + interval '90 days'", 0}, {"now() + interval '5 days'", 1}, {"now() - interval '1 second'", 0}} {
		p.exec(`UPDATE api_keys SET expires_at = ` + step.expires)
		require.Equal(t, step.letters, warned(), step.expires)
		require.Zero(t, warned(), "again: %s", step.expires)
	}
	p.exec(`UPDATE api_keys SET expires_at = now() + interval '2 days', is_active = false`)
	require.Zero(t, warned(), "it is off")
	p.exec(`UPDATE api_keys SET expires_at = now() + interval '5 hours', is_active = true, created_at = now()`)
	require.Zero(t, warned(), "it was made for that long")
}

// A limit is told of once an hour, however many requests are refused.
func TestLimitIsToldOnce(t *testing.T) {
	p := newPostOffice(t)
	told := make(chan error, 40)
	for range cap(told) {
		go func() { told <- models.TellLimitReached(t.Context(), p.db, p.user.ID, models.LimitMessages) }()
	}
	for range cap(told) {
		require.NoError(t, <-told)
	}
	count := func() int64 {
		return modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM jobs WHERE kind = 'mail:letter'`)
	}
	require.EqualValues(t, 1, count())
	require.NoError(t, models.TellLimitReached(t.Context(), p.db, p.user.ID, models.LimitSessions))
	require.EqualValues(t, 2, count(), "another limit is another matter")
	p.exec(`UPDATE letter_quotas SET since = now() - interval '61 minutes'`)
	require.NoError(t, models.TellLimitReached(t.Context(), p.db, p.user.ID, models.LimitMessages))
	require.EqualValues(t, 3, count())
	p.exec(`UPDATE letter_quotas SET since = now() - interval '61 minutes'`)
	n, err := models.ForgetLetters(t.Context(), p.db.Pool)
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

// A letter is there when its transaction commits, and only then.
func TestLetterGoesWithItsTransaction(t *testing.T) {
	p := newPostOffice(t)
	for _, fails := range []bool{true, false} {
		err := p.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
			if err := models.QueueLetter(t.Context(), tx, p.user.ID, models.LetterVerify, nil); err != nil || !fails {
				return err
			}
			return fmt.Errorf("no")
		})
		require.Equal(t, fails, err != nil)
		require.Equal(t, fails, modelstest.Scalar[int64](t, p.db, `SELECT count(*) FROM jobs`) == 0)
	}
}
