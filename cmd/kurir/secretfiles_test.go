package main

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
)

// secretVariables are all that may come from files.
func secretVariables() (names []string) {
	t := reflect.TypeFor[config]()
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("secret") != "" {
			names = append(names, t.Field(i).Tag.Get("env"))
		}
	}
	return names
}

func secretFile(t *testing.T, content string) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	_, err = file.WriteString(content)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return file.Name()
}

// Every secret reads the same from a file as from its variable, and is shown as little.
func TestEverySecretMayComeFromAFile(t *testing.T) {
	values := map[string]string{"ENCRYPTION_KEY": random() + ", " + random(), "JWT_SECRET": "a new secret, and the former", "WEBHOOK_SECRET": "whsec_" + random(), "SMTP_PASS": " a password with spaces ",
		"SCALING_WEBHOOK_URL": "https://a.example.com/hidden", "BILLING_WEBHOOK_URL": "https://b.example.com/hidden",
		"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c.example.com/hidden", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://d.example.com/hidden"}
	home := "KURIR_HOME=" + t.TempDir()
	plain, filed := []string{home}, []string{home}
	for _, name := range secretVariables() {
		if values[name] == "" {
			values[name] = "the-secret-of-" + strings.ToLower(name)
		}
		end := map[bool]string{true: "\n", false: "\r\n"}[len(name)%2 == 0]
		plain, filed = append(plain, name+"="+values[name]), append(filed, name+"_FILE="+secretFile(t, values[name]+end))
	}
	require.Subset(t, secretVariables(), []string{"DATABASE_URL", "REDIS_URL", "JWT_SECRET", "ENCRYPTION_KEY", "WORKER_AUTH_TOKEN", "ADMIN_PASSWORD", "SMTP_PASS", "WEBHOOK_SECRET"})
	a, err := readConfig(plain)
	require.NoError(t, err)
	require.NoError(t, a.need())
	b, err := readConfig(filed)
	require.NoError(t, err)
	require.NoError(t, b.need())
	require.Equal(t, a.settings(), b.settings(), "administrators see the same")
	require.Equal(t, a.encryptionKeys, b.encryptionKeys)
	require.Equal(t, a.redacted(), b.redacted())
	require.Equal(t, secretVariables(), b.inFiles)
	va, vb := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config]()) {
		if name := field.Tag.Get("env"); slices.Contains(secretVariables(), name) {
			require.Equal(t, values[name], vb.FieldByIndex(field.Index).String())
			require.Equal(t, va.FieldByIndex(field.Index).String(), vb.FieldByIndex(field.Index).String())
			require.NotContains(t, b.redacted().String(), values[name])
		}
	}
}

// What is wrong with a file is said without what it holds, and without its path, which may be the secret itself.
func TestFilesOfSecretsThatAreWrong(t *testing.T) {
	const secret = "correct-horse-battery-staple"
	good, folder := secretFile(t, secret), t.TempDir()
	for _, tt := range []struct {
		env  []string
		says string
	}{
		{[]string{"JWT_SECRET=" + secret, "JWT_SECRET_FILE=" + good}, "JWT_SECRET and JWT_SECRET_FILE are both set"},
		{[]string{"JWT_SECRET_FILE=" + filepath.Join(folder, secret)}, "JWT_SECRET_FILE: the file that it names cannot be read by the user "},
		{[]string{"JWT_SECRET_FILE=" + filepath.Join(folder, secret)}, "no such file"},
		{[]string{"DATABASE_URL_FILE=" + folder}, "DATABASE_URL_FILE: the file that it names cannot be read"},
		{[]string{"REDIS_URL_FILE=" + secret}, "REDIS_URL_FILE: the file that it names cannot be read"},
		{[]string{"ENCRYPTION_KEY_FILE=" + secretFile(t, "")}, "ENCRYPTION_KEY_FILE: the file that it names is empty"},
		{[]string{"ENCRYPTION_KEY_FILE=" + secretFile(t, " \r\n\n")}, "ENCRYPTION_KEY_FILE: the file that it names is empty"},
		{[]string{"WORKER_AUTH_TOKEN_FILE=" + secretFile(t, secret+"\nanother\n")}, "WORKER_AUTH_TOKEN_FILE: the file that it names has more than one line"},
		{[]string{"SMTP_PASS_FILE=" + secretFile(t, secret+"\x00")}, "SMTP_PASS_FILE"},
		{[]string{"ADMIN_PASSWORD_FILE=" + secretFile(t, strings.Repeat(secret, 10_000))}, "ADMIN_PASSWORD_FILE: the file that it names has more than 65536 bytes"},
		{[]string{"PORT_FILE=" + good}, "PORT_FILE: only secrets are read from files, set PORT"},
	} {
		_, err := readConfig(tt.env)
		require.ErrorContains(t, err, tt.says)
		require.NotContains(t, err.Error(), secret, tt.says)
		for _, command := range [][]string{{"api"}, {"worker"}, {"migrate"}, {"rotate-encryption-key"}, {"health", "api"}} {
			var out bytes.Buffer
			err := run(t.Context(), command, append(tt.env, "GATEWAY_URL=http://x", "SIMNET_URL=http://x", "KURIR_HOME="+folder), &out, &out)
			require.ErrorContains(t, err, tt.says, command)
			require.Empty(t, out.String())
		}
		examined(t, tt.env...).says("configuration", failing, tt.says)
	}
	c, err := readConfig([]string{"JWT_SECRET=", "JWT_SECRET_FILE=" + good, "SMTP_PASS=a", "SMTP_PASS_FILE="})
	require.NoError(t, err, "an empty variable is as good as none")
	require.Equal(t, []string{secret, "a"}, []string{c.JWTSecret, c.SMTPPass})
}

func TestCommandsReadSecretsFromFiles(t *testing.T) {
	url := secretFile(t, embeddedtest.DB(t)+"\n")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"migrate"}, []string{"DATABASE_URL_FILE=" + url, "BCRYPT_ROUNDS=4", "ADMIN_EMAIL=a@example.com", "ADMIN_PASSWORD_FILE=" + secretFile(t, "correct horse battery\n")}, &out, &out))
	require.Contains(t, out.String(), "made the administrator")
	key := base64.StdEncoding.EncodeToString([]byte("master-key-of-32-bytes-in-tests!"))
	d := examined(t, "KURIR_HOME="+t.TempDir(), "DATABASE_URL_FILE="+url, "REDIS_URL=redis://127.0.0.1:1", "ENCRYPTION_KEY_FILE="+secretFile(t, key))
	d.says("configuration", fine, "; from files: DATABASE_URL, ENCRYPTION_KEY")
	d.says("migrations", fine, "up to date")
	d.silent(key)
}
