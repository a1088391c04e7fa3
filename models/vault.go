package models

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Vault keeps secrets that must be readable again: AES-256-GCM under ENCRYPTION_KEY. It has one key or several: the first
// seals, all open. It also derives the secrets of workers, which so need not be stored.
type Vault struct {
	keys []vaultKey
}

type vaultKey struct {
	id      []byte // made of the key
	aead    cipher.AEAD
	workers []byte // derived, for the secrets of workers
}

// vaultID is how many bytes name a key.
const vaultID = 4

// NewVault makes a vault of keys of 32 bytes each.
func NewVault(keys ...[]byte) (*Vault, error) {
	if len(keys) == 0 {
		return nil, errors.New("ENCRYPTION_KEY is empty")
	}
	v := &Vault{}
	for _, key := range keys {
		k, err := newVaultKey(key)
		if err != nil {
			return nil, err
		}
		if _, ok := v.key(k.id); !ok { // one that is given twice counts once
			v.keys = append(v.keys, k)
		}
	}
	return v, nil
}

func newVaultKey(key []byte) (vaultKey, error) {
	if len(key) != 32 {
		return vaultKey{}, fmt.Errorf("ENCRYPTION_KEY has %d bytes, not 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return vaultKey{}, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return vaultKey{}, err
	}
	id, err := hkdf.Key(sha256.New, key, nil, "kurir key id", vaultID)
	if err != nil {
		return vaultKey{}, err
	}
	workers, err := hkdf.Key(sha256.New, key, nil, "kurir worker secrets", 32)
	return vaultKey{id: id, aead: aead, workers: workers}, err
}

func (v *Vault) key(id []byte) (vaultKey, bool) {
	for _, k := range v.keys {
		if bytes.Equal(k.id, id) {
			return k, true
		}
	}
	return vaultKey{}, false
}

// KeyIDs name the keys, the one that seals first. They tell nothing of the keys.
func (v *Vault) KeyIDs() []string {
	ids := make([]string, len(v.keys))
	for i, k := range v.keys {
		ids[i] = hex.EncodeToString(k.id)
	}
	return ids
}

// Versions begin each sealed value. The first had no name of its key: any may have sealed it.
const (
	vaultNameless = 1 // version, nonce, ciphertext
	vaultNamed    = 2 // version, name of the key, nonce, ciphertext
)

// sealedPrefix is how all begins that the first key seals.
func (v *Vault) sealedPrefix() []byte { return append([]byte{vaultNamed}, v.keys[0].id...) }

// Seal encrypts. The purpose is bound in: a value sealed for one cannot be opened for another.
func (v *Vault) Seal(purpose string, plain []byte) []byte {
	aead := v.keys[0].aead
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails, see crypto/rand
	return aead.Seal(append(v.sealedPrefix(), nonce...), nonce, plain, []byte(purpose))
}

var errSealedForm = errors.New("sealed value is malformed")

// Open decrypts what Seal made for the same purpose, with any of the keys.
func (v *Vault) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, errSealedForm
	}
	switch sealed[0] {
	case vaultNamed:
		if len(sealed) < 1+vaultID {
			return nil, errSealedForm
		}
		k, ok := v.key(sealed[1 : 1+vaultID])
		if !ok {
			return nil, fmt.Errorf("sealed under the key %x, which ENCRYPTION_KEY does not hold", sealed[1:1+vaultID])
		}
		return k.open(purpose, sealed[1+vaultID:])
	case vaultNameless:
		var err error
		for _, k := range v.keys {
			var plain []byte
			if plain, err = k.open(purpose, sealed[1:]); err == nil {
				return plain, nil
			}
		}
		return nil, err
	}
	return nil, errSealedForm
}

func (k vaultKey) open(purpose string, sealed []byte) ([]byte, error) {
	n := k.aead.NonceSize()
	if len(sealed) < n {
		return nil, errSealedForm
	}
	plain, err := k.aead.Open(nil, sealed[:n], sealed[n:], []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("open sealed value (was ENCRYPTION_KEY changed?): %w", err)
	}
	return plain, nil
}

// WorkerSecret is what gateway and worker show each other during a term that begins now.
func (v *Vault) WorkerSecret(worker string, term int64) string {
	return v.keys[0].workerSecret(worker, term)
}

// WorkerSecretOf is the secret of a term that began when the named key was the first. A name that is unknown or empty stands for
// the present first.
func (v *Vault) WorkerSecretOf(worker string, term int64, key string) string {
	if id, err := hex.DecodeString(key); err == nil {
		if k, ok := v.key(id); ok {
			return k.workerSecret(worker, term)
		}
	}
	return v.WorkerSecret(worker, term)
}

// IsWorkerSecret compares with the secrets under all keys, in a time that does not tell which one it is.
func (v *Vault) IsWorkerSecret(worker string, term int64, secret string) bool {
	same := 0
	for _, k := range v.keys {
		same |= subtle.ConstantTimeCompare([]byte(secret), []byte(k.workerSecret(worker, term)))
	}
	return same == 1
}

func (k vaultKey) workerSecret(worker string, term int64) string {
	mac := hmac.New(sha256.New, k.workers)
	mac.Write([]byte(worker + "\x00" + strconv.FormatInt(term, 10)))
	return hex.EncodeToString(mac.Sum(nil))
}
