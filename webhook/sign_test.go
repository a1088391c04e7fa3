package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The example of the Standard Webhooks specification.
func TestSignKnownVector(t *testing.T) {
	h, err := Sign([]string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, "msg_p5jXN8AQM9LWM0D4loKWxJek",
		time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.NoError(t, err)
	assert.Equal(t, "msg_p5jXN8AQM9LWM0D4loKWxJek", h.Get("webhook-id"))
	assert.Equal(t, "1614265330", h.Get("webhook-timestamp"))
	assert.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", h.Get("webhook-signature"))
}

func TestSignVerifiesWithTheOfficialLibrary(t *testing.T) {
	body := []byte(`{"id":"0190"}`)
	current, old, other := NewSecret(), NewSecret(), NewSecret()
	h, err := Sign([]string{current, old}, "0190", time.Now(), body)
	require.NoError(t, err)

	verify := func(secret string, body []byte) error {
		wh, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		return wh.Verify(body, h)
	}
	assert.NoError(t, verify(current, body))
	assert.NoError(t, verify(old, body), "the old secret still verifies during a rotation")
	assert.Error(t, verify(other, body))
	assert.Error(t, verify(current, []byte(`{"id":"0191"}`)))
	assert.Len(t, strings.Split(h.Get("webhook-signature"), " "), 2)
}

func TestSignHub(t *testing.T) {
	typed := "the words that the owner typed"
	secret, err := ParseSecret(typed)
	require.NoError(t, err)
	h, err := Sign([]string{secret, NewSecret()}, "0190", time.Unix(1, 0), []byte("body"))
	require.NoError(t, err)

	mac := hmac.New(sha256.New, []byte(typed))
	mac.Write([]byte("body"))
	assert.Equal(t, "sha256="+hex.EncodeToString(mac.Sum(nil)), h.Get("X-Hub-Signature-256"))
}

func TestSignRefusesToSendUnsigned(t *testing.T) {
	for _, secrets := range [][]string{nil, {""}, {"plain"}, {NewSecret(), "whsec_!"}} {
		h, err := Sign(secrets, "0190", time.Unix(1, 0), nil)
		assert.Error(t, err, "%q", secrets)
		assert.Nil(t, h)
	}
}

func TestNewSecret(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	assert.NotEqual(t, a, b)
	wrapped, err := ParseSecret(a)
	require.NoError(t, err)
	assert.Equal(t, a, wrapped)
}

func TestParseSecret(t *testing.T) {
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", n))) }
	tests := []struct {
		name, given, want, err string
	}{
		{"wrapped stays", "whsec_" + b64(24), "whsec_" + b64(24), ""},
		{"wrapped, longest", "whsec_" + b64(64), "whsec_" + b64(64), ""},
		{"wrapped, too short", "whsec_" + b64(23), "", "secret must be 24 to 64 bytes, this one has 23"},
		{"wrapped, too long", "whsec_" + b64(65), "", "secret must be 24 to 64 bytes, this one has 65"},
		{"wrapped, empty", "whsec_", "", "secret must be 24 to 64 bytes, this one has 0"},
		{"wrapped, not base64", "whsec_not base64 at all, not at all", "", "not padded standard base64"},
		{"wrapped, unpadded", "whsec_" + strings.TrimRight(b64(25), "="), "", "not padded standard base64"},
		{"wrapped, broken line", "whsec_" + b64(12) + "\n" + b64(12), "", "not padded standard base64"},
		{"plain", strings.Repeat("k", 24), "whsec_" + b64(24), ""},
		{"plain, longest", strings.Repeat("k", 64), "whsec_" + b64(64), ""},
		{"plain, too short", "webhook-secret-key", "", "secret must be 24 to 64 bytes, this one has 18"},
		{"plain, too long", strings.Repeat("k", 65), "", "secret must be 24 to 64 bytes, this one has 65"},
		{"bytes count, not characters", strings.Repeat("é", 12), "whsec_" +
			base64.StdEncoding.EncodeToString([]byte(strings.Repeat("é", 12))), ""},
		{"empty", "", "", "this one has 0"},
		{"copied with a newline", strings.Repeat("k", 24) + "\n", "", "white space"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseSecret(tt.given)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
}

func FuzzParseSecret(f *testing.F) {
	for _, seed := range []string{"", "whsec_", NewSecret(), "webhook-secret-key", strings.Repeat("é", 20), "whsec_\xff\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		wrapped, err := ParseSecret(given)
		if err != nil {
			if len(given) > 12 && strings.Contains(err.Error(), given) {
				t.Fatalf("error repeats the secret: %v", err)
			}
			return
		}
		if again, err := ParseSecret(wrapped); err != nil || again != wrapped {
			t.Fatalf("%q wraps to %q, which then is %q, %v", given, wrapped, again, err)
		}
		if _, err := Sign([]string{wrapped}, "id", time.Unix(1, 0), nil); err != nil {
			t.Fatalf("accepted secret cannot sign: %v", err)
		}
	})
}
