package webhook

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// FuzzSignature: whatever is accepted as a secret signs whatever is sent so that the official library takes it, alone and
// beside another one, and nothing else does.
func FuzzSignature(f *testing.F) {
	f.Add("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_1", []byte(`{"a":1}`))
	f.Add(strings.Repeat("s", 24), "", []byte{})
	f.Add("whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 64)), "id.with.dots", []byte("\x00\xff"))
	f.Add("whsec_", "x", []byte("x"))
	f.Add("whsec_AAAA\nAAAA", "x", []byte("x"))
	other := NewSecret()
	f.Fuzz(func(t *testing.T, given, id string, body []byte) {
		secret, err := ParseSecret(given)
		if err != nil {
			if strings.Contains(err.Error(), given) && len(given) > 8 {
				t.Fatalf("the refusal repeats the secret: %v", err)
			}
			return
		}
		if again, err := ParseSecret(secret); err != nil || again != secret {
			t.Fatalf("%q is wrapped as %q, and that as %q, %v", given, secret, again, err)
		}
		for _, secrets := range [][]string{{secret}, {other, secret}, {secret, other}} {
			h, err := Sign(secrets, id, time.Now(), body)
			if err != nil {
				t.Fatalf("an accepted secret does not sign: %v", err)
			}
			if id == "" {
				continue // the library demands one, and ours are UUIDs
			}
			check(t, secret, h, body, true)
			check(t, other, h, body, len(secrets) == 2 || secret == other)
			check(t, secret, h, append([]byte("x"), body...), false)
		}
	})
}

func check(t *testing.T, secret string, h http.Header, body []byte, want bool) {
	t.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatalf("the official library refuses an accepted secret: %v", err)
	}
	if err := verifier.Verify(body, h); (err == nil) != want {
		t.Fatalf("verified: %v, expected %v", err, want)
	}
}

// FuzzParseRetryAfter never panics, and stays within its bound.
func FuzzParseRetryAfter(f *testing.F) {
	for _, value := range []string{"", "5", "-1", "99999999999999999999", "-99999999999999999999", "Wed, 21 Oct 2099 07:28:00 GMT", "1e9", " 7 "} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got := parseRetryAfter(value, time.Now()); got < 0 || got > maxRetryAfter {
			t.Fatalf("%q is %s", value, got)
		}
	})
}
