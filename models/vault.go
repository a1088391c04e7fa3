package models

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Vault keeps secrets that must be readable again: AES-256-GCM under ENCRYPTION_KEY. It also derives the secrets of
// workers, which so need not be stored.
type Vault struct {
	aead       cipher.AEAD
	workersKey []byte
}

// NewVault makes a vault of a key of 32 bytes.
func NewVault(key []byte) (*Vault, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("ENCRYPTION_KEY has %d bytes, not 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	workersKey, err := hkdf.Key(sha256.New, key, nil, "kurir worker secrets", 32)
	return &Vault{aead: aead, workersKey: workersKey}, err
}

// vaultVersion begins each sealed value, so that another algorithm can follow.
const vaultVersion = 1

// Seal encrypts. The purpose is bound in: a value sealed for one cannot be opened for another.
func (v *Vault) Seal(purpose string, plain []byte) []byte {
	nonce := make([]byte, v.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails, see crypto/rand
	return v.aead.Seal(append([]byte{vaultVersion}, nonce...), nonce, plain, []byte(purpose))
}

// Open decrypts what Seal made for the same purpose.
func (v *Vault) Open(purpose string, sealed []byte) ([]byte, error) {
	n := v.aead.NonceSize()
	if len(sealed) < 1+n || sealed[0] != vaultVersion {
		return nil, errors.New("sealed value is malformed")
	}
	plain, err := v.aead.Open(nil, sealed[1:1+n], sealed[1+n:], []byte(purpose))
	if err != nil {
		return nil, fmt.Errorf("open sealed value (was ENCRYPTION_KEY changed?): %w", err)
	}
	return plain, nil
}

// WorkerSecret is what gateway and worker show each other during one term.
func (v *Vault) WorkerSecret(worker string, term int64) string {
	mac := hmac.New(sha256.New, v.workersKey)
	mac.Write([]byte(worker + "\x00" + strconv.FormatInt(term, 10)))
	return hex.EncodeToString(mac.Sum(nil))
}
