package simulator

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPhonesOfContactsBeginWithPlus(t *testing.T) {
	for _, phone := range []string{"6281377777777", "+6281377777777"} {
		require.Equal(t, "+6281377777777", *contact("99887766554434@lid", phone, "", "").Phone, phone)
	}
	require.Equal(t, "+6281234567890", *contact("6281234567890@s.whatsapp.net", "", "", "").Phone)
	require.Nil(t, contact("99887766554434@lid", "", "", "").Phone)
}
