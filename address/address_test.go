package address

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"6281234567890":                 "6281234567890@s.whatsapp.net",
		"+62 812-3456-7890":             "6281234567890@s.whatsapp.net",
		"(62) 812.3456.7890":            "6281234567890@s.whatsapp.net",
		" 6281234567890\n":              "6281234567890@s.whatsapp.net",
		"+62\u00a0812\u20113456/7890":   "6281234567890@s.whatsapp.net",
		"6281234567890@c.us":            "6281234567890@s.whatsapp.net",
		"6281234567890@S.WhatsApp.NET":  "6281234567890@s.whatsapp.net",
		"6281234560000":                 "6281234560000@s.whatsapp.net",
		"628123456789":                  "628123456789@s.whatsapp.net",
		"+1 (202) 555-0123":             "12025550123@s.whatsapp.net",
		"+39 06 1234 5678":              "390612345678@s.whatsapp.net",  // Italy keeps its 0
		"5215512345678":                 "5215512345678@s.whatsapp.net", // Mexico's accounts of old
		"5511912345678":                 "5511912345678@s.whatsapp.net",
		"1234567@s.whatsapp.net":        "1234567@s.whatsapp.net", // an address is WhatsApp's own, no plan is asked
		"120363012345678901@g.us":       "120363012345678901@g.us",
		"6281234567890-1600000000@g.us": "6281234567890-1600000000@g.us",
		"123456789012345@lid":           "123456789012345@lid",
		"120363012345678901@newsletter": "120363012345678901@newsletter",
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"": errForm, "abc": errForm, "+": errForm, "123456": errForm, "1234567890123456": errForm, "++6281234567890": errForm,
		"62812x4567890": errForm, "٦٢٨١٢٣٤٥٦٧٨٩٠": errForm, "628123\n4567890": errForm, strings.Repeat("6", 1000): errForm,
		"08123456789": errLocal, "0812-3456-789": errLocal, "+0812 345 6789": errLocal, "0062812345678": errPrefix, "6208123456789": errTrunk, "4407911123456": errTrunk,
		"9991234567": errCountry, "120255501234": errTooLong, "+1 202 555 01": errTooShort,
		"status@broadcast": errStatus, "12345@broadcast": errStatus, "6281234567890@example.com": errServer, "a@b@g.us": errServer,
	} {
		_, err := Parse(text)
		assert.Equal(t, want, err, "%q", text)
	}
	for _, text := range []string{"@s.whatsapp.net", "6281234567890:1@s.whatsapp.net", "+6281234567890@s.whatsapp.net", "123456@s.whatsapp.net", "1-2@g.us", "a@lid", "１２３４５@lid"} {
		_, err := Parse(text)
		assert.ErrorContains(t, err, "expected digits before @", text)
	}
}

var grammar = regexp.MustCompile(`^(\d{7,15}@s\.whatsapp\.net|\d{5,25}(-\d{5,25})?@g\.us|\d{5,25}@(lid|newsletter))$`)

func FuzzParse(f *testing.F) {
	for _, text := range []string{"", "6281234567890", "+62 812-3456-7890", "6281234567890@c.us", "1-2@g.us", "status@broadcast", "0812", "\x00@lid", "5215512345678", "+800 1234 5678"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		jid, err := Parse(text)
		if err != nil {
			if jid != "" || err.Error() == "" {
				t.Fatalf("%q: %q, %v", text, jid, err)
			}
			return
		}
		if !grammar.MatchString(jid) {
			t.Fatalf("%q became %q", text, jid)
		}
		if again, err := Parse(jid); err != nil || again != jid {
			t.Fatalf("%q became %q, and that %q, %v", text, jid, again, err)
		}
	})
}
