package egresstest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// Public stands for the internet: the one loopback address that the guard of a test lets through.
const Public = "127.9.9.9"

// Serve starts a server there and returns its URL.
func Serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", Public+":0")
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(handler)
	_ = server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	return "http://" + l.Addr().String()
}
