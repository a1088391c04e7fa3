package whatsapp

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// The version is the whole process's, so that this runs by itself. What logs in says the former one where whatsmeow's copy is left alone.
func TestTheVersionIsWhatALoginSays(t *testing.T) {
	former := Version()
	t.Cleanup(func() { require.NoError(t, SetVersion(former)) })
	jid := types.NewJID("6281", types.DefaultUserServer)
	said := func() [3]uint32 {
		v := (&store.Device{ID: &jid}).GetClientPayload().GetUserAgent().GetAppVersion()
		return [3]uint32{v.GetPrimary(), v.GetSecondary(), v.GetTertiary()}
	}
	require.NoError(t, SetVersion("2.3000.1999999999"))
	require.Equal(t, "2.3000.1999999999", Version())
	require.Equal(t, [3]uint32{2, 3000, 1999999999}, said())
	for _, bad := range []string{"", "2.3000", "latest", "2.3000.x"} {
		require.Error(t, SetVersion(bad), bad)
	}
	require.Equal(t, [3]uint32{2, 3000, 1999999999}, said(), "nothing has changed")
}
