package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// secrets are those that development makes by itself.
type secrets struct {
	JWTSecret     string `json:"jwtSecret"`
	EncryptionKey string `json:"encryptionKey"`
	WorkerToken   string `json:"workerAuthToken"`
	AdminPassword string `json:"adminPassword"`
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return base64.StdEncoding.EncodeToString(b)
}

// secretsFile is where a home keeps them.
func secretsFile(home string) string { return filepath.Join(home, "secrets.json") }

// keptSecrets reads the secrets of a home, or makes them. Of several processes that start at once one makes them: the
// file appears whole, under a name that can be taken once.
func keptSecrets(home string) (*secrets, error) {
	path := secretsFile(home)
	kept, err := readSecrets(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("make KURIR_HOME: %w", err)
	}
	body, err := json.MarshalIndent(secrets{JWTSecret: random(), EncryptionKey: random(), WorkerToken: random(),
		AdminPassword: base64.RawURLEncoding.EncodeToString([]byte(rand.Text()[:12]))}, "", "  ")
	if err != nil {
		return nil, err
	}
	draft, err := os.CreateTemp(home, "secrets-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("keep secrets: %w", err)
	}
	defer func() { _ = os.Remove(draft.Name()) }()
	_, err = draft.Write(body)
	if err = errors.Join(err, draft.Sync(), draft.Close()); err != nil {
		return nil, fmt.Errorf("keep secrets: %w", err)
	}
	if err := os.Link(draft.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("keep secrets: %w", err)
	}
	return readSecrets(path)
}

func readSecrets(path string) (*secrets, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var kept secrets
	if err := json.Unmarshal(body, &kept); err != nil {
		return nil, fmt.Errorf("secrets in %s cannot be read: %w", path, err)
	}
	return &kept, nil
}
