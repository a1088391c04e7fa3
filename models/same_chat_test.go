package models_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models"
)

// A person's number and LID are one conversation; those of two people are not.
func TestSameChat(t *testing.T) {
	o := newOutbox(t)
	const group, sari, budi = "1203@g.us", "6281@s.whatsapp.net", "6282@s.whatsapp.net"
	o.exec(`INSERT INTO chats (session_uid, chat, phone, lid) VALUES ($1, '6281@s.whatsapp.net', '+6281', '111@lid'), ($1, '111@lid', '+6281', '111@lid'), ($1, '222@lid', '+6282', '222'), ($1, '333@lid', NULL, '333@lid'),
		($1, '6284@s.whatsapp.net', NULL, '444'), ($1, '555@lid', '6285', NULL)`, o.session.UID)
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{sari, sari, true}, {sari, budi, false}, {sari, group, false}, {group, "111@lid", false}, {"111@lid", "222@lid", false}, {"333@lid", "333@lid", true},
		{sari, "111@lid", true}, {budi, "222@lid", true}, // one of the two is known to be the other
		{sari, "222@lid", false}, {budi, "111@lid", false}, {"6289@s.whatsapp.net", "999@lid", true}, // of the last two nothing is known
		{sari, "333@lid", false}, {budi, "333@lid", true}, {"6289@s.whatsapp.net", "222@lid", false},
		{"6284@s.whatsapp.net", "444@lid", true}, {"6284@s.whatsapp.net", "333@lid", false}, {"6285@s.whatsapp.net", "555@lid", true},
	} {
		for range 2 {
			same, err := models.SameChat(t.Context(), o.db.Pool, o.session.UID, c.a, c.b)
			require.NoError(t, err)
			require.Equal(t, c.same, same, "%s %s", c.a, c.b)
			c.a, c.b = c.b, c.a
		}
	}
}
