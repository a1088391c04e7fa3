package whatsapp

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"

	"kurir/embedded/embeddedtest"
)

// A user that owns its schema and may make none starts the worker, also for the first time.
func TestASchemaThatIsThereNeedsNoRightToMakeOne(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	at, err := url.Parse(embeddedtest.DB(t))
	require.NoError(t, err)
	admin, err := pgx.Connect(ctx, at.String())
	require.NoError(t, err)
	defer func() { _ = admin.Close(ctx) }()
	role := "r" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = admin.Exec(ctx, "CREATE ROLE "+role+" LOGIN PASSWORD 'secret'; CREATE SCHEMA kurir_whatsapp AUTHORIZATION "+role)
	require.NoError(t, err)
	at.User = url.UserPassword(role, "secret")
	for _, start := range []string{"first", "second"} {
		pool, err := openPool(ctx, at.String(), "kurir_whatsapp", 3)
		require.NoError(t, err)
		require.NoError(t, upgrade(ctx, pool, "kurir_whatsapp", waLog.Noop), start)
		pool.Close()
	}
	pool, err := openPool(ctx, at.String(), "another", 3)
	require.NoError(t, err)
	defer pool.Close()
	require.ErrorContains(t, upgrade(ctx, pool, "another", waLog.Noop), "create the schema")
}

// Of a device that is unlinked, or linked anew, nothing stays: privacy tokens do not go with it by themselves.
func TestNothingStaysOfADevice(t *testing.T) {
	t.Parallel()
	ctx, pool := context.Background(), database(t)
	h := holderOf(t, pool, "s", 1)
	_, err := h.claim(ctx)
	require.NoError(t, err)
	first, second := types.NewADJID("628", 0, 1), types.NewADJID("628", 0, 2)
	token := store.PrivacyToken{User: types.NewJID("491", types.DefaultUserServer), Token: []byte{1}, Timestamp: time.Now()}
	left := func() (n int) {
		t.Helper()
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM whatsmeow_privacy_tokens").Scan(&n))
		return n
	}
	require.NoError(t, device(t, h, first).PrivacyTokens.PutPrivacyTokens(ctx, token))
	require.Equal(t, 1, left())
	require.NoError(t, h.adopt(ctx, second), "the number is linked anew")
	require.Zero(t, left())
	require.NoError(t, device(t, h, second).PrivacyTokens.PutPrivacyTokens(ctx, token))
	require.Equal(t, 1, left())
	require.NoError(t, h.forget(ctx))
	require.Zero(t, left())
}
