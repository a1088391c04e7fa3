package whatsapp

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"kurir/wire"
	"kurir/worker"
)

// gate is the way of an engine to the network, which notes the media that are asked for.
type gate struct {
	to http.RoundTripper

	mu     sync.Mutex
	asked  []string
	answer func(r *http.Request) *http.Response // nil: the network does
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || r.URL.Path == "/ws/chat" {
		return g.to.RoundTrip(r)
	}
	g.mu.Lock()
	g.asked = append(g.asked, r.URL.String())
	answer := g.answer
	g.mu.Unlock()
	if answer != nil {
		return answer(r), nil
	}
	return g.to.RoundTrip(r)
}

func (g *gate) urls() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked
}

func (g *gate) answers(with func(r *http.Request) *http.Response) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked, g.answer = nil, with
}

// gated is a linked session whose way is a gate, and a person who can upload.
func gated(t *testing.T) (*link, *gate, *network) {
	n, g := newNetwork(t), &gate{}
	e := n.engine(t, func(c *Config) {
		c.MediaMax = 1 << 20
		through := c.Through
		c.Through = func(inner http.RoundTripper) http.RoundTripper {
			g.to = through(inner)
			return g
		}
	})
	ended(t, e)
	return n.linked(t, e).Conn.(*conn).present(), g, n
}

// picture is one that somebody has uploaded, as his phone tells of it.
func picture(t *testing.T, n *network) *waE2E.ImageMessage {
	t.Helper()
	up, err := n.person(t, "+491").Client.Upload(context.Background(), []byte("a picture"), whatsmeow.MediaImage)
	require.NoError(t, err)
	return &waE2E.ImageMessage{URL: &up.URL, DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileEncSHA256: up.FileEncSHA256,
		FileSHA256: up.FileSHA256, FileLength: &up.FileLength}
}

var (
	private = types.NewJID("491", types.DefaultUserServer)
	channel = types.NewJID("120363", types.NewsletterServer)
)

func body(text string, length int64) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ContentLength: length, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text))}
}

// A medium is fetched from WhatsApp only, whatever its sender has written of where it is.
func TestAMediumIsFetchedFromWhatsAppOnly(t *testing.T) {
	t.Parallel()
	l, g, n := gated(t)
	honest := picture(t, n)
	got, err := l.fetch(private, honest)(t.Context())
	require.NoError(t, err)
	content, err := io.ReadAll(got)
	require.NoError(t, errorsOf(err, got.Close()))
	require.Equal(t, "a picture", string(content))
	require.Len(t, g.urls(), 1)

	for name, change := range map[string]func(m *waE2E.ImageMessage){
		"another host":       func(m *waE2E.ImageMessage) { m.URL = proto.String("https://169.254.169.254/latest/meta-data") },
		"another scheme":     func(m *waE2E.ImageMessage) { m.URL = proto.String("http://mmg.whatsapp.net/v/x") },
		"another port":       func(m *waE2E.ImageMessage) { m.URL = proto.String("https://mmg.whatsapp.net:5432/v/x") },
		"a name that ends":   func(m *waE2E.ImageMessage) { m.URL = proto.String("https://evilwhatsapp.net/x") },
		"a name that begins": func(m *waE2E.ImageMessage) { m.URL = proto.String("https://mmg.whatsapp.net.example.com/x") },
		"a user":             func(m *waE2E.ImageMessage) { m.URL = proto.String("https://mmg.whatsapp.net@example.com/x") },
		"no URL":             func(m *waE2E.ImageMessage) { m.URL = proto.String("https://mmg.whatsapp.net\\@example.com/x") },
		"a path with a host": func(m *waE2E.ImageMessage) { m.URL, m.DirectPath = nil, proto.String("@10.0.0.5/x") },
		"a path with a name": func(m *waE2E.ImageMessage) { m.URL, m.DirectPath = nil, proto.String(".example.com/x") },
		"a path with a port": func(m *waE2E.ImageMessage) { m.URL, m.DirectPath = nil, proto.String(":8080/x") },
		"no key":             func(m *waE2E.ImageMessage) { m.MediaKey = nil },
		"no hash":            func(m *waE2E.ImageMessage) { m.FileEncSHA256 = nil },
		"neither":            func(m *waE2E.ImageMessage) { m.MediaKey, m.FileEncSHA256 = nil, nil },
	} {
		g.answers(func(*http.Request) *http.Response { return body("a secret", 8) })
		m := proto.CloneOf(honest)
		change(m)
		_, err := l.fetch(private, m)(t.Context())
		require.ErrorIs(t, err, worker.ErrMediaRefused, name)
		require.Empty(t, g.urls(), name)
	}
}

func errorsOf(list ...error) error {
	for _, err := range list {
		if err != nil {
			return err
		}
	}
	return nil
}

// WhatsApp's hosts lead nowhere else either, and are asked once.
func TestAMediumIsNotFetchedThroughRedirects(t *testing.T) {
	t.Parallel()
	l, g, n := gated(t)
	honest := picture(t, n)
	g.answers(func(r *http.Request) *http.Response {
		return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {"http://169.254.169.254/x"}}, Body: http.NoBody, Request: r}
	})
	_, err := l.fetch(private, honest)(t.Context())
	require.ErrorIs(t, err, worker.ErrMediaRefused)
	require.Equal(t, []string{honest.GetURL()}, g.urls())
}

// No more comes to the disk than a medium may have, and than its message says.
func TestAMediumIsAsLongAsItsMessageSays(t *testing.T) {
	t.Parallel()
	l, g, n := gated(t)
	honest := picture(t, n)
	for _, length := range []uint64{1<<20 + 1, 1 << 63, 1<<64 - 1} {
		large := proto.CloneOf(honest)
		large.FileLength = &length
		_, err := l.fetch(private, large)(t.Context())
		require.ErrorIs(t, err, worker.ErrMediaRefused)
		require.Equal(t, wire.CodeMediaTooLarge, wire.Code(err))
		require.Empty(t, g.urls(), "it is not asked for")
	}
	for name, length := range map[string]int64{"announced": 1 << 40, "not announced": -1} {
		g.answers(func(*http.Request) *http.Response { return body(strings.Repeat("x", 5000), length) })
		_, err := l.fetch(private, honest)(t.Context())
		require.ErrorIs(t, err, worker.ErrMediaRefused, name)
		require.Len(t, g.urls(), 1, name)
	}
}

// The media of all sessions take no more of the disk than there is room for, and leave it again.
func TestMediaWaitForRoom(t *testing.T) {
	t.Parallel()
	l, g, n := gated(t)
	honest := picture(t, n)
	e := l.c.engine
	first, err := e.tempFile(t.Context(), tempRoom)
	require.NoError(t, err)
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = l.fetch(private, honest)(soon)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Empty(t, g.urls())
	require.NoError(t, first.Close())
	require.Error(t, first.Close(), "twice makes no more room")

	for range 3 {
		got, err := l.fetch(private, honest)(t.Context())
		require.NoError(t, err)
		require.NoError(t, got.Close())
	}
	g.answers(func(*http.Request) *http.Response { return body("something else", -1) })
	_, err = l.fetch(private, honest)(t.Context())
	require.Error(t, err)
	require.True(t, e.room.TryAcquire(tempRoom), "all of it is free again")
	e.room.Release(tempRoom)
	large, err := e.tempFile(t.Context(), 2*tempRoom)
	require.NoError(t, err, "one that is larger goes alone")
	require.NoError(t, large.Close())
}

// What channels publish is not encrypted.
func TestAMediumOfAChannel(t *testing.T) {
	t.Parallel()
	l, g, _ := gated(t)
	g.answers(func(*http.Request) *http.Response { return body("published", -1) })
	sum := sha256.Sum256([]byte("published"))
	m := &waE2E.ImageMessage{URL: proto.String("https://mmg.whatsapp.net/m1/x"), FileSHA256: sum[:]}
	got, err := l.fetch(channel, m)(t.Context())
	require.NoError(t, err)
	content, err := io.ReadAll(got)
	require.NoError(t, errorsOf(err, got.Close()))
	require.Equal(t, "published", string(content))

	g.answers(func(*http.Request) *http.Response { return body(strings.Repeat("x", 2<<20), -1) })
	_, err = l.fetch(channel, m)(t.Context())
	require.ErrorIs(t, err, worker.ErrMediaRefused)
}

func TestSealedSize(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	for _, length := range []int{1, 15, 16, 17, 1000} {
		up, err := n.person(t, "+491").Client.Upload(context.Background(), make([]byte, length), whatsmeow.MediaImage)
		require.NoError(t, err)
		u, err := url.Parse(up.URL)
		require.NoError(t, err)
		require.True(t, ofWhatsApp(u))
		require.EqualValues(t, n.MediumSize(up.DirectPath), sealedSize(int64(length)), length)
	}
}
