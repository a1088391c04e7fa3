package models_test

import (
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// Whatever letter, digit or mark somebody looks for, alone or with others, is a search: none is an error.
func TestAnyCharacterIsLookedFor(t *testing.T) {
	db := modelstest.DB(t)
	var words []string
	look := func() {
		t.Helper()
		_, _, err := models.Users(t.Context(), db, models.UserFilter{Search: strings.Join(words, " "), Limit: 1})
		require.NoError(t, err, "between %q and %q", words[0], words[len(words)-1])
		_, err = models.SessionsOfAll(t.Context(), db, models.SessionFilter{Search: strings.Join(words, " "), Limit: 1})
		require.NoError(t, err, "between %q and %q", words[0], words[len(words)-1])
		words = nil
	}
	for r := range rune(unicode.MaxRune) {
		if !unicode.In(r, unicode.L, unicode.N, unicode.M) || unicode.Is(unicode.Han, r) && r%256 > 0 || unicode.Is(unicode.Hangul, r) && r%256 > 0 {
			continue
		}
		words = append(words, string(r), string(r)+"\u0301", "a"+string(r))
		if len(words) > 3000 {
			look()
		}
	}
	look()
}
