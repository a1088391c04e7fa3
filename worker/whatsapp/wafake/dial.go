package wafake

import (
	"context"
	"net"
	"net/http"

	"go.mau.fi/whatsmeow"
)

// labelHeader tells the witness whose connection it is.
const labelHeader = "X-Wafake-Client"

// Client is an HTTP client for which every host is the network at addr. Hand it to SetPreLoginHTTPClient,
// SetWebsocketHTTPClient and SetMediaHTTPClient of a whatsmeow client; label is what the witness calls its connections.
func Client(addr, label string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	return &http.Client{Transport: labelled{label, &http.Transport{DialContext: dial, DialTLSContext: dial}}}
}

// labelled says who asks.
type labelled struct {
	label string
	to    *http.Transport
}

func (l labelled) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(labelHeader, l.label)
	return l.to.RoundTrip(r)
}

// CloseIdleConnections is for http.Client.
func (l labelled) CloseIdleConnections() { l.to.CloseIdleConnections() }

// Configure points a whatsmeow client at the network. Call it before Connect. label is what the witness calls its
// connections, of a worker for example.
func (s *Server) Configure(client *whatsmeow.Client, label string) {
	h := Client(s.addr, label)
	client.SetPreLoginHTTPClient(h)
	client.SetWebsocketHTTPClient(h)
	client.SetMediaHTTPClient(h)
}
