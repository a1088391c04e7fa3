package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
)

// Links in mails lead where somebody said that we are.
func TestConfigOfMails(t *testing.T) {
	for link, environ := range map[string][]string{
		"https://kurir.example.com": {"PUBLIC_URL=https://kurir.example.com/", "KURIR_ENV=production"},
		"http://localhost:8123":     {"PORT=8123"},
		"http://127.0.0.1:9000":     {"GATEWAY_URL=http://127.0.0.1:9000"},
		"":                          {"KURIR_ENV=production", "GATEWAY_URL=http://api:8000"},
	} {
		c, err := readConfig(environ)
		require.NoError(t, err)
		require.Equal(t, link, c.linksTo())
	}
	_, err := readConfig([]string{"PUBLIC_URL=kurir.example.com"})
	require.ErrorContains(t, err, "PUBLIC_URL")
	proof := []string{"REQUIRE_EMAIL_VERIFICATION=true", "KURIR_ENV=production", "SMTP_HOST=mail.example.com", "SMTP_FROM=k@example.com"}
	_, err = readConfig(proof)
	require.ErrorContains(t, err, "REQUIRE_EMAIL_VERIFICATION")
	c, err := readConfig(append(proof, "PUBLIC_URL=https://kurir.example.com"))
	require.NoError(t, err)
	require.True(t, c.VerifyEmail)
}

// The first administrator's password obeys the rules of all others.
func TestAdministratorsPassword(t *testing.T) {
	db := modelstest.DB(t)
	for _, weak := range []string{"short", "password", "Admin@Example.com", "Iloveyou1"} {
		made, err := makeAdministrator(t.Context(), db, &config{AdminEmail: "Admin@example.com", BcryptRounds: 4}, weak)
		require.False(t, made)
		require.ErrorContains(t, err, "ADMIN_PASSWORD")
	}
	made, err := makeAdministrator(t.Context(), db, &config{AdminEmail: "Admin@example.com", BcryptRounds: 4}, "correct horse battery")
	require.NoError(t, err)
	require.True(t, made)
	again, err := makeAdministrator(t.Context(), db, &config{AdminEmail: "Admin@example.com", BcryptRounds: 4}, "correct horse battery")
	require.NoError(t, err)
	require.False(t, again)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM system_logs l JOIN users u ON u.id = l.target_user_id
		WHERE l.message = 'user.created' AND l.actor = 'operator' AND l.service = 'cli' AND l.details = '{"role": "administrator", "tier": "max"}'
			AND u.email = 'admin@example.com' AND l.xmin = u.xmin`), "in one transaction")
}
