package whatsapp

import (
	"context"
	"crypto/aes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
)

// Where a medium is to be fetched from, and how large it is, stands in the message: its sender may have written anything there.
// So before anything is fetched the message is looked at, and the way to the media leads to WhatsApp's hosts only, redirects
// and proxies included, and ends when more comes than was announced.

// notFetched is a medium that is never fetched. whatsmeow takes it for a context that ended: else it would try again.
type notFetched struct{ cause error }

func (e *notFetched) Error() string { return e.cause.Error() }

func (e *notFetched) Unwrap() []error { return []error{e.cause, context.Canceled} }

var (
	errForeign  = &notFetched{fmt.Errorf("%w: it is not at a host of WhatsApp's", worker.ErrMediaRefused)}
	errUnsealed = &notFetched{fmt.Errorf("%w: it has no key or no hash", worker.ErrMediaRefused)}
	errTooLarge = &notFetched{fmt.Errorf("%w: %w", worker.ErrMediaRefused, wire.Refuse(wire.CodeMediaTooLarge, "the medium is larger than the worker fetches"))}
	errLonger   = &notFetched{fmt.Errorf("%w: it is longer than the message says", worker.ErrMediaRefused)}
)

// ofWhatsApp reports whether media are fetched from there.
func ofWhatsApp(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	return u.Scheme == "https" && u.User == nil && (u.Port() == "" || u.Port() == "443") && strings.HasSuffix(host, ".whatsapp.net")
}

// fetchable looks at what a message says of its medium, and answers how many bytes that is at WhatsApp.
func fetchable(chat types.JID, m whatsmeow.DownloadableMessage, limit int64) (size int64, err error) {
	if named, ok := m.(interface{ GetURL() string }); ok && named.GetURL() != "" {
		if u, err := url.Parse(named.GetURL()); err != nil || !ofWhatsApp(u) {
			return 0, errForeign
		}
	}
	if path := m.GetDirectPath(); path != "" && !strings.HasPrefix(path, "/") { // it would be a part of the host's name
		return 0, errForeign
	}
	sealed := len(m.GetMediaKey()) > 0 && len(m.GetFileEncSHA256()) == sha256.Size && len(m.GetFileSHA256()) == sha256.Size
	if !sealed && chat.Server != types.NewsletterServer { // those are as everybody may read them
		return 0, errUnsealed
	}
	sized, ok := m.(interface{ GetFileLength() uint64 })
	if !ok {
		return limit, nil
	}
	length := sized.GetFileLength()
	switch {
	case length > uint64(limit): //nolint:gosec // above 0
		return 0, errTooLarge
	case !sealed && length == 0:
		return limit, nil
	}
	return sealedSize(int64(length)), nil //nolint:gosec // not above limit
}

// sealedSize is the length of a medium after it has been encrypted: filled up to whole blocks, with the code that proves it.
func sealedSize(length int64) int64 { return (length/aes.BlockSize+1)*aes.BlockSize + 10 }

type sizeKey struct{}

// mediaWay is the way to WhatsApp's media. An answer is as long as the request's context says, see fetch, or as limit.
type mediaWay struct {
	to    http.RoundTripper
	limit int64
}

// RoundTrip implements http.RoundTripper.
func (w mediaWay) RoundTrip(r *http.Request) (*http.Response, error) {
	if !ofWhatsApp(r.URL) {
		if r.Body != nil {
			_ = r.Body.Close() // as the contract has it
		}
		return nil, errForeign
	}
	res, err := w.to.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	limit, ok := r.Context().Value(sizeKey{}).(int64)
	if !ok {
		limit = sealedSize(w.limit)
	}
	if res.ContentLength > limit { // whatsmeow makes room for all of it
		return nil, errors.Join(errLonger, res.Body.Close())
	}
	res.Body = &bounded{ReadCloser: res.Body, left: limit}
	return res, nil
}

// bounded is a body of which no more than left is read.
type bounded struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, errLonger
	}
	return n, err
}
