package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"

	"github.com/golang-jwt/jwt/v5"
)

// tokenKeys sign and verify users' tokens: the first signs, all verify. A token names its key by an ID that is made of it.
type tokenKeys struct {
	id    string // of the first
	first []byte
	byID  map[string][]byte
	all   jwt.VerificationKeySet
}

func newTokenKeys(secrets [][]byte) tokenKeys {
	k := tokenKeys{first: secrets[0], byID: map[string][]byte{}}
	for i, secret := range secrets {
		id := tokenKeyID(secret)
		if i == 0 {
			k.id = id
		}
		k.byID[id] = secret
		k.all.Keys = append(k.all.Keys, secret)
	}
	return k
}

// tokenKeyID names a secret without telling anything of it.
func tokenKeyID(secret []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("kurir token key id"))
	return hex.EncodeToString(mac.Sum(nil)[:4])
}

func (k *tokenKeys) sign(c jwt.Claims) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, c)
	t.Header["kid"] = k.id
	return t.SignedString(k.first)
}

// verifies finds the key of a token. One that names none is of a time when there was one key, and may be any's.
func (k *tokenKeys) verifies(t *jwt.Token) (any, error) {
	named, ok := t.Header["kid"]
	if !ok {
		return k.all, nil
	}
	id, _ := named.(string)
	if secret, ok := k.byID[id]; ok {
		return secret, nil
	}
	return nil, errors.New("no key of this name")
}

// isWorkerToken compares with all tokens, in a time that does not tell which one it is.
func (a *API) isWorkerToken(token string) bool {
	same := subtle.ConstantTimeCompare([]byte(token), []byte(a.cfg.WorkerToken))
	for _, other := range a.cfg.MoreWorkerTokens {
		same |= subtle.ConstantTimeCompare([]byte(token), []byte(other))
	}
	return same == 1
}
