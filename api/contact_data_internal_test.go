package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMaskedAddressesTellLittle(t *testing.T) {
	t.Parallel()
	for jid, want := range map[string]string{"6281234567890@s.whatsapp.net": "…890@s.whatsapp.net", "99887766554433@lid": "…433@lid",
		"120363041234567890@g.us": "…890@g.us", "12345@lid": "…345@lid"} {
		require.Equal(t, want, masked(jid))
	}
}
