package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsComeFromFiles(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	token, address := filepath.Join(folder, "token"), filepath.Join(folder, "address")
	require.NoError(t, os.WriteFile(token, []byte("a token of our own\n"), 0o600))
	require.NoError(t, os.WriteFile(address, []byte("postgres://u:secret@db/kurir"), 0o600))
	cfg, err := readConfig([]string{"KURIR_ENV=production", "GATEWAY_URL=http://api:8080", "WORKER_AUTH_TOKEN_FILE=" + token, "WHATSAPP_DATABASE_URL_FILE=" + address, "WORKER_ID=w"})
	require.NoError(t, err)
	require.Equal(t, []string{"a token of our own", "postgres://u:secret@db/kurir"}, []string{cfg.Token, cfg.database()})
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "config", cfg.redacted())
	require.NotContains(t, log.String(), "secret@")
	require.NotContains(t, log.String(), "of our own")
	require.Contains(t, log.String(), "(secret)")

	_, err = readConfig([]string{"GATEWAY_URL=http://api:8080", "WORKER_AUTH_TOKEN=x", "WORKER_AUTH_TOKEN_FILE=" + token, "WORKER_ID_FILE=" + token, "DATABASE_URL_FILE=" + filepath.Join(folder, "none")})
	require.ErrorContains(t, err, "WORKER_AUTH_TOKEN and WORKER_AUTH_TOKEN_FILE are both set")
	require.ErrorContains(t, err, "WORKER_ID_FILE: only secrets")
	require.ErrorContains(t, err, "DATABASE_URL_FILE: the file that it names cannot be read")
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	t.Parallel()
	_, err := readConfig([]string{"KURIR_HOME=" + t.TempDir(), "LOG_LEVEL=loud", "WORKER_MAX_SESSIONS=0", "GATEWAY_URL=api", "PROXY_ALLOW_CIDRS=nowhere"})
	for _, want := range []string{"GATEWAY_URL", "WHATSAPP_DATABASE_URL", "WORKER_AUTH_TOKEN", "LOG_LEVEL", "WORKER_MAX_SESSIONS", "PROXY_ALLOW_CIDRS"} {
		require.ErrorContains(t, err, want)
	}
	var out strings.Builder
	err = run(context.Background(), nil, []string{"GATEWAY_URL=http://x", "WORKER_AUTH_TOKEN=y", "DATABASE_URL=postgres://u:secret@127.0.0.1:1/x?connect_timeout=1"}, &out, &out)
	require.Error(t, err)
	require.NotContains(t, err.Error()+out.String(), "secret@")
}

// In development the token is the one that kurir has made, and credentials go past a pooler.
func TestDevelopmentNeedsLittle(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(home, "secrets.json"), []byte(`{"workerAuthToken":"kept"}`), 0o600))
	environ := []string{"KURIR_HOME=" + home, "GATEWAY_URL=http://localhost:8000", "DATABASE_URL=postgres://pooler/x", "DATABASE_DIRECT_URL=postgres://server/x"}
	cfg, err := readConfig(environ)
	require.NoError(t, err)
	require.Equal(t, []string{"kept", "postgres://server/x"}, []string{cfg.Token, cfg.database()})
	require.NotEmpty(t, cfg.ID)
	_, err = readConfig(append(environ, "KURIR_ENV=production"))
	require.ErrorContains(t, err, "WORKER_AUTH_TOKEN")
}

func TestAnImportNeedsBothSides(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, environ := range [][]string{nil, {"IMPORT_DATABASE_URL=file:/srv/main.db"}, {"WHATSAPP_DATABASE_URL=postgres://u:secret@127.0.0.1:1/x"}} {
		err := run(context.Background(), []string{"import"}, environ, &out, &out)
		require.ErrorContains(t, err, "IMPORT_DATABASE_URL and WHATSAPP_DATABASE_URL must be set")
	}
	require.NoError(t, run(context.Background(), []string{"import", "--help"}, nil, &out, &out))
	require.Contains(t, out.String(), "file:/srv/wuzapi/main.db")
	require.NotContains(t, out.String(), "secret")
}

func TestAddressOfKurirsDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "kurir.env")
	require.NoError(t, os.WriteFile(path, []byte("export KURIR_HOME='/x' DATABASE_URL='postgres://a:b@127.0.0.1:5/kurir?sslmode=disable' REDIS_URL='r'\n"), 0o600))
	at, err := addressOf(path)
	require.NoError(t, err)
	require.Equal(t, "postgres://a:b@127.0.0.1:5/kurir?sslmode=disable", at)
	_, err = addressOf(path + "x")
	require.Error(t, err)
}

func TestVersionOfWhatsAppWeb(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, run(context.Background(), []string{"version"}, nil, &out, &out))
	require.Regexp(t, `kurir-whatsapp dev as WhatsApp Web 2\.\d+\.\d+`, fmt.Sprint(out.String()))
}

// A WHATSAPP_VERSION that is none ends the worker before it does anything.
func TestTheVersionOfTheEnvironmentIsOne(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	environ := []string{"GATEWAY_URL=http://x", "WORKER_AUTH_TOKEN=y", "DATABASE_URL=postgres://u@127.0.0.1:1/x?connect_timeout=1", "WHATSAPP_VERSION=latest"}
	require.ErrorContains(t, run(context.Background(), nil, environ, &out, &out), "WHATSAPP_VERSION")
	require.Empty(t, out.String())
}
