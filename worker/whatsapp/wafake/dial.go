package wafake

import (
	"context"
	"net"
	"net/http"

	"go.mau.fi/whatsmeow"
)

// labelHeader tells the witness whose connection it is.
const labelHeader = "X-Wafake-Client"

// personLabel begins the labels of the people's own clients.
const personLabel = "person "

// Transport is one for which every host is the network at addr.
func Transport(addr string) *http.Transport {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	return &http.Transport{DialContext: dial, DialTLSContext: dial}
}

// Label tells the witness that what passes is a client's, of a worker for example.
func Label(label string, to http.RoundTripper) http.RoundTripper { return labelled{label, to} }

type labelled struct {
	label string
	to    http.RoundTripper
}

func (l labelled) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(labelHeader, l.label)
	return l.to.RoundTrip(r)
}

// Configure points a whatsmeow client at the network, under a label. Call it before Connect.
func (s *Server) Configure(client *whatsmeow.Client, label string) {
	h := &http.Client{Transport: Label(label, Transport(s.addr))}
	client.SetPreLoginHTTPClient(h)
	client.SetWebsocketHTTPClient(h)
	client.SetMediaHTTPClient(h)
}
