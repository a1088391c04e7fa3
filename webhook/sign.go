package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The headers that Sign sets.
const (
	HeaderID        = standardwebhooks.HeaderWebhookID
	HeaderTimestamp = standardwebhooks.HeaderWebhookTimestamp
	HeaderSignature = standardwebhooks.HeaderWebhookSignature
	HeaderHub256    = "X-Hub-Signature-256"
)

// SecretPrefix begins every secret as Standard Webhooks writes it; base64 of the key follows.
const SecretPrefix = "whsec_"

// The sizes of a key in bytes, as the Standard Webhooks specification recommends them and other libraries demand.
const (
	MinSecretBytes = 24
	MaxSecretBytes = 64
	newSecretBytes = 32
)

// NewSecret makes a random secret.
func NewSecret() string {
	key := make([]byte, newSecretBytes)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return SecretPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseSecret brings a secret that a user chose into the form that is stored and that his Standard Webhooks library
// takes. One that begins with whsec_ must be padded standard base64 of 24 to 64 bytes and stays as it is; any other text
// is itself the key, of 24 to 64 bytes in UTF-8, and is wrapped. The errors never repeat the secret.
func ParseSecret(given string) (wrapped string, err error) {
	if strings.TrimSpace(given) != given {
		return "", errors.New("secret begins or ends with white space")
	}
	if strings.HasPrefix(given, SecretPrefix) {
		if _, err := decodeSecret(given); err != nil {
			return "", err
		}
		return given, nil
	}
	if err := checkKeySize(len(given)); err != nil {
		return "", err
	}
	return SecretPrefix + base64.StdEncoding.EncodeToString([]byte(given)), nil
}

func decodeSecret(secret string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(secret, SecretPrefix)
	if !ok {
		return nil, errors.New("secret does not begin with " + SecretPrefix)
	}
	// Strict, and without the line breaks that the decoder would skip: one key has one spelling.
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") {
		return nil, errors.New("secret is not padded standard base64 after " + SecretPrefix)
	}
	if err := checkKeySize(len(key)); err != nil {
		return nil, err
	}
	return key, nil
}

func checkKeySize(n int) error {
	if n < MinSecretBytes || n > MaxSecretBytes {
		return fmt.Errorf("secret must be %d to %d bytes, this one has %d", MinSecretBytes, MaxSecretBytes, n)
	}
	return nil
}

// Sign returns the headers that prove to the subscriber who sent the body and when. secrets are in whsec_ form, the
// current one first; during a rotation the old one follows and webhook-signature holds a signature for each.
//
// X-Hub-Signature-256 is for clients that know only GitHub's form: "sha256=" and the hex HMAC-SHA256 of the body alone,
// under the decoded bytes of the current secret. For a secret that was given as plain text these are the text itself, so
// such a client uses what its owner typed.
//
// An unusable secret is an error, so that nothing ever leaves unsigned.
func Sign(secrets []string, id string, ts time.Time, body []byte) (http.Header, error) {
	if len(secrets) == 0 {
		return nil, errors.New("sign webhook: no secret")
	}
	signatures := make([]string, len(secrets))
	h := make(http.Header, 4)
	for i, secret := range secrets {
		key, err := decodeSecret(secret)
		if err != nil {
			return nil, fmt.Errorf("sign webhook: %w", err)
		}
		if i == 0 {
			h.Set(HeaderHub256, hubSignature(key, body))
		}
		if signatures[i], err = standardSignature(key, id, ts, body); err != nil {
			return nil, fmt.Errorf("sign webhook: %w", err)
		}
	}
	h.Set(HeaderID, id)
	h.Set(HeaderTimestamp, fmt.Sprint(ts.Unix()))
	h.Set(HeaderSignature, strings.Join(signatures, " "))
	return h, nil
}

func standardSignature(key []byte, id string, ts time.Time, body []byte) (string, error) {
	signer, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return "", err
	}
	return signer.Sign(id, ts, body)
}

func hubSignature(key, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}
