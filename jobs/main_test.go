package jobs

import (
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/golang-lru/v2"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/webhook"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

var quiet = slog.New(slog.DiscardHandler)

// addHook adds a webhook for all events to a session.
func addHook(t *testing.T, db *models.DB, s *models.Session) uuid.UUID {
	hook := uuid.New()
	_, err := db.Pool.Exec(t.Context(), `WITH former AS (DELETE FROM webhooks WHERE session_uid = $2)
		INSERT INTO lanes (id, kind, open) VALUES ($1, 'WEBHOOK', true)`, hook, s.UID)
	require.NoError(t, err)
	_, err = db.Pool.Exec(t.Context(), `INSERT INTO webhooks (id, user_id, session_uid, url, events, secret) VALUES ($1, $2, $3, 'http://x', '{*}', 'x')`, hook, s.UserID, s.UID)
	require.NoError(t, err)
	return hook
}

func newWidths() *lru.Cache[uuid.UUID, webhook.Width] {
	widths, err := lru.New[uuid.UUID, webhook.Width](10)
	if err != nil {
		panic(err)
	}
	return widths
}
