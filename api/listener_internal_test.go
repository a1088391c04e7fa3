package api

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The server's own limit for a first request must not end a connection that a proxy keeps for later.
func TestConnectionsMayWaitForTheirFirstRequest(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	c := &patientConn{Conn: server, limits: DefaultTimeouts()}
	long := time.Now().Add(-time.Second)
	require.NoError(t, c.SetReadDeadline(long))
	go func() { _, _ = client.Write([]byte("GET")) }()
	b := make([]byte, 1)
	_, err := io.ReadFull(c, b)
	require.NoError(t, err)
	require.Equal(t, "G", string(b))

	require.NoError(t, c.SetReadDeadline(long))
	_, err = c.Read(b)
	require.True(t, errors.Is(err, os.ErrDeadlineExceeded), "the rest of a request has its limit")
}

func TestConnectionsWithoutARequestEndInSilence(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	require.NoError(t, client.Close())
	c := &patientConn{Conn: server, limits: DefaultTimeouts()}
	_, err := c.Read(make([]byte, 1))
	require.Equal(t, io.EOF, err)
	require.True(t, hasEnded(c))
}
