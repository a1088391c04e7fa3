package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/limits"
)

func TestConfigReportsEveryFaultAtOnce(t *testing.T) {
	_, err := readConfig([]string{"PORT=abc", "HELMET_ENABLED=perhaps", "LEASE_TTL=soon", "REGISTRATION=sometimes", "LOG_LEVEL=loud",
		"WEBHOOK_RETRY_SCHEDULE=never", "WEBHOOK_ALLOW_CIDRS=here", "SELF_SERVICE_TIER=gold", "API_VERSION=v9", "SIM_REPLY=shout", "MEDIA_MAX_IMAGE=huge", "MEDIA_ALLOW_CIDRS=there", "PROXY_ALLOW_CIDRS=nowhere", "MEDIA_UPLOADS=0"})
	require.Error(t, err)
	for _, name := range []string{"PORT: expected a whole number", "HELMET_ENABLED: expected true or false", "LEASE_TTL: expected a duration", "REGISTRATION", "LOG_LEVEL",
		"WEBHOOK_RETRY_SCHEDULE", "WEBHOOK_ALLOW_CIDRS", "SELF_SERVICE_TIER", `API_VERSION: "v9" is not served; there is v1`, "SIM_REPLY", "MEDIA_MAX_IMAGE: expected a size", "MEDIA_ALLOW_CIDRS", "PROXY_ALLOW_CIDRS", "MEDIA_UPLOADS"} {
		require.ErrorContains(t, err, name)
	}
}

func TestConfigDefaultsAreTheBriefs(t *testing.T) {
	c, err := readConfig([]string{"PORT=", "NODE_ENV=production"})
	require.NoError(t, err)
	require.Equal(t, 8000, c.Port)
	require.Equal(t, 7*24*time.Hour, time.Duration(c.JWTExpiresIn))
	require.Equal(t, 12, c.BcryptRounds)
	require.Equal(t, 30*time.Second, time.Duration(c.ProbeInterval))
	require.Equal(t, production, c.Env)
	require.Equal(t, "closed", c.Registration)
	c, err = readConfig(nil)
	require.NoError(t, err)
	require.Equal(t, "open", c.Registration)
}

func TestProductionRefusesMissingAndPublicSecrets(t *testing.T) {
	c, err := readConfig([]string{"KURIR_ENV=production", "JWT_SECRET=your-super-secret-jwt-key", "ENCRYPTION_KEY=c2hvcnQ="})
	require.NoError(t, err)
	err = c.need()
	for _, what := range []string{"DATABASE_URL", "REDIS_URL", "JWT_SECRET is too short or publicly known", "WORKER_AUTH_TOKEN is not set", "ENCRYPTION_KEY must be 32 bytes"} {
		require.ErrorContains(t, err, what)
	}
}

func TestDevelopmentMakesAndKeepsSecrets(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	read := func() *config {
		c, err := readConfig([]string{"KURIR_HOME=" + home, "DATABASE_URL=postgres://x", "REDIS_URL=redis://x"})
		require.NoError(t, err)
		require.NoError(t, c.need())
		return c
	}
	a, b := read(), read()
	require.Equal(t, a.JWTSecret, b.JWTSecret)
	require.Equal(t, a.encryptionKeys, b.encryptionKeys)
	info, err := os.Stat(filepath.Join(home, "secrets.json"))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	require.NotContains(t, a.redacted().String(), a.JWTSecret)
	require.NotContains(t, a.redacted().String(), "postgres://x")
}

func TestConfigOfMedia(t *testing.T) {
	c, err := readConfig([]string{"KURIR_HOME=/somewhere", "MEDIA_MAX_IMAGE= 5 mb", "MEDIA_MAX_STICKER=1000", "MEDIA_MAX_DOCUMENT=2048MB"})
	require.NoError(t, err)
	require.Equal(t, "/somewhere/media", c.MediaURL)
	require.EqualValues(t, 5<<20, c.mediaRules["image"].Max)
	require.EqualValues(t, 1000, c.mediaRules["sticker"].Max)
	require.EqualValues(t, 16<<20, c.mediaRules["voice"].Max)
	require.EqualValues(t, 2<<30, c.mediaRules.Most())
	for _, bad := range []string{"MEDIA_MAX_IMAGE=0", "MEDIA_MAX_IMAGE=-1MB", "MEDIA_MAX_IMAGE=1GB", "MEDIA_MAX_DOCUMENT=2049MB", "MEDIA_MAX_DOCUMENT=9999999999999999999MB", "MEDIA_MAX_VIDEO=101MB"} {
		_, err := readConfig([]string{bad})
		require.ErrorContains(t, err, "MEDIA_MAX_", bad)
	}
}

func TestConfigOfLimits(t *testing.T) {
	c, err := readConfig(nil)
	require.NoError(t, err)
	require.Equal(t, limits.DefaultRequests(), c.requests)
	require.Empty(t, c.proxies)
	c, err = readConfig([]string{"RATE_LIMIT_WINDOW_MS=60000", "RATE_LIMIT_MAX_REQUESTS=7", "TRUSTED_PROXIES=10.0.0.1,fd00::/8"})
	require.NoError(t, err)
	require.Equal(t, time.Minute, c.requests.Window)
	require.Equal(t, []int{7, 7}, []int{c.requests.PerAddress, c.requests.PerCredential})
	require.Len(t, c.proxies, 2)
	c, err = readConfig([]string{"RATE_LIMIT_MAX_REQUESTS=7", "LIMIT_REQUESTS_PER_CREDENTIAL=9"})
	require.NoError(t, err)
	require.Equal(t, []int{7, 9}, []int{c.requests.PerAddress, c.requests.PerCredential})
	for _, bad := range []string{"RATE_LIMIT_WINDOW_MS=0", "RATE_LIMIT_MAX_REQUESTS=0", "LIMIT_REQUESTS_PER_CREDENTIAL=0", "LIMIT_SESSION_OPS_PER_MINUTE=0", "TRUSTED_PROXIES=proxy.example.com", "LIMIT_LOGIN_DELAY=1h"} {
		name, _, _ := strings.Cut(bad, "=")
		_, err := readConfig([]string{bad})
		require.Error(t, err, bad)
		require.True(t, strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "LIMIT_"), "%s: %s", bad, err)
	}
}

func TestConfigOfRetention(t *testing.T) {
	for _, name := range []string{"RETENTION_MESSAGES_DAYS", "RETENTION_DELIVERIES_DAYS", "RETENTION_METRICS_DAYS", "RETENTION_LOGS_DAYS"} {
		_, err := readConfig([]string{name + "=0"})
		require.NoError(t, err)
		for _, wrong := range []string{"-1", "-90", "36501", "9999999"} { // the last overflows a duration
			_, err := readConfig([]string{name + "=" + wrong})
			require.ErrorContains(t, err, name+": "+wrong)
		}
	}
}
