package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is committed is what the API says of itself now.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	files, err := generate()
	require.NoError(t, err)
	for name, want := range files {
		committed, err := os.ReadFile(filepath.Join("..", name))
		require.NoError(t, err)
		if string(committed) != string(want) {
			t.Errorf("clients/%s is not what the API's types say: run `make clients` and commit what it writes", name)
		}
	}
}

func TestKeyedAddresses(t *testing.T) {
	pattern, err := keyed([]byte(`{"paths":{"/api/v1/messages":{"get":{},"post":{"parameters":[{"in":"header","name":"Idempotency-Key"}]}},
		"/api/v1/sessions/{id}/send":{"post":{"parameters":[{"in":"path","name":"id"},{"in":"header","name":"Idempotency-Key"}]}},
		"/api/v1/sessions/{id}/start":{"post":{"parameters":[{"in":"path","name":"id"}]}}}}`))
	require.NoError(t, err)
	for path, want := range map[string]bool{"/api/v1/messages": true, "/api/messages": true, "/behind/a/proxy/api/v1/messages": true, "/api/v1/sessions/shop/send": true,
		"/api/v1/sessions/shop/start": false, "/api/v1/sessions/a/b/send": false, "/api/v1/messages/1": false} {
		require.Equal(t, want, regexp.MustCompile(pattern).MatchString(path), path)
	}
	_, err = keyed([]byte(`{"paths":{"/api/v1/x":{"put":{"parameters":[{"in":"header","name":"Idempotency-Key"}]}}}}`))
	require.Error(t, err)
}
