package jobs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/mail"
	"kurir/models"
)

func TestOwnerIsToldOfADisabledWebhook(t *testing.T) {
	b := newHookBench(t)
	r := b.runner()
	folder := t.TempDir()
	var err error
	r.cfg.Mailer, err = mail.New(mail.Config{Folder: folder}, quiet)
	require.NoError(t, err)
	params, err := json.Marshal(models.WebhookMail{WebhookID: b.hook, Reason: models.DisabledFailing})
	require.NoError(t, err)
	tell := func() string {
		j := &models.Job{ID: models.NewID(), Kind: models.KindWebhookMail, Params: params}
		result, err := r.mailWebhookDisabled(t.Context(), j)
		require.NoError(t, err)
		require.Equal(t, mailed(false), result, "there is no SMTP here")
		letter, _ := os.ReadFile(filepath.Join(folder, j.ID.String()+".eml"))
		return string(letter)
	}
	require.Empty(t, tell(), "it is on again")
	b.exec(`UPDATE webhooks SET is_active = false, url = 'https://hooks.example.com/very?secret=path', failing_since = now()`)
	letter := tell()
	require.Contains(t, letter, "hooks.example.com")
	require.Contains(t, letter, "shop")
	require.Contains(t, letter, "@example.com")
	require.NotContains(t, letter, "secret")
	b.exec(`UPDATE users SET is_active = false`)
	require.Empty(t, tell(), "he is no customer any more")
	b.exec(`UPDATE users SET is_active = true, email = 'nobody'`)
	_, err = r.mailWebhookDisabled(t.Context(), &models.Job{ID: models.NewID(), Params: params})
	require.Equal(t, fault.Invalid, fault.Of(err), "trying again is in vain: %v", err)
	b.exec(`DELETE FROM webhooks`)
	require.Empty(t, tell())
	_, err = r.mailWebhookDisabled(t.Context(), &models.Job{ID: models.NewID(), Params: json.RawMessage(`[]`)})
	require.Error(t, err)
}
