package password

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/fault"
)

func TestCheck(t *testing.T) {
	const email = "sari.dewi@example.com"
	for plain, ok := range map[string]bool{
		"correct horse battery": true, "8 bytes.": true, strings.Repeat("é", 36): true, "sari.dewi@example.org": true, "password correct": true,
		"": false, "7 bytes": false, strings.Repeat("é", 37): false, strings.Repeat("x", 73): false,
		"password": false, "PassWord": false, "12345678": false, "1q2w3e4r": false, "Password2026!": false, "**iloveyou**": false, "1Qaz2wsx": false,
		"sari.dewi@example.com": false, "Sari.Dewi@Example.com": false, "sari.dewi": false,
	} {
		err := Check("newPassword", plain, email)
		require.Equal(t, ok, err == nil, "%q: %v", plain, err)
		if err != nil {
			require.Equal(t, fault.Invalid, fault.Of(err))
			require.ErrorContains(t, err, "newPassword")
			require.NotContains(t, err.Error(), "Sari")
		}
	}
}

func TestTheListIsWhole(t *testing.T) {
	require.Greater(t, len(common()), 15_000)
	for word := range common() {
		require.GreaterOrEqual(t, len(word), Min, "%q is refused by its length", word)
		require.Equal(t, strings.ToLower(word), word)
	}
}
