//go:build !race

package wafake_test

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store/sqlstore"

	"kurir/embedded/embeddedtest"
	"kurir/worker/whatsapp/wafake"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// The store that workers have, on PostgreSQL: another process goes on with what one has left there.
func TestADeviceMovesWithItsDatabase(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	ann := person(t, s, "4917099999")
	db, err := sql.Open("pgx", embeddedtest.DB(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	container := sqlstore.NewWithDB(db, "pgx", nil)
	require.NoError(t, container.Upgrade(bg()))
	first := follow(t, s, whatsmeow.NewClient(container.NewDevice(), nil), "worker-1")
	first.scan(s, "4917012345")
	_, err = ann.Await(first.send(jid(ann.Number), words("from the first"))) // else the first messages of both cross
	require.NoError(t, err)
	first.Disconnect()
	_, err = ann.Write(jid("4917012345"), "in between")
	require.NoError(t, err)

	device, err := sqlstore.NewWithDB(db, "pgx", nil).GetDevice(bg(), first.Store.GetJID())
	require.NoError(t, err)
	second := follow(t, s, whatsmeow.NewClient(device, nil), "worker-2")
	require.NoError(t, second.Connect())
	await(second, texted("in between"))
	_, err = ann.Await(second.send(jid(ann.Number), words("from the second")))
	require.NoError(t, err)
	require.Empty(t, ann.Unreadable())
	require.Empty(t, s.Fights("4917012345"))
	logins := s.Logins("4917012345")
	require.Equal(t, []string{"worker-1", "worker-2"}, []string{logins[0].Client, logins[1].Client})
}
