package simnet

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/wire"
)

// upload puts a medium on the network, as a worker does.
func (b *bench) upload(t testing.TB, content string) *message.Media {
	t.Helper()
	resp, err := http.Post(b.url+"/media", "application/octet-stream", strings.NewReader(content))
	require.NoError(t, err)
	body := drain(t, resp)
	require.Equal(t, http.StatusOK, resp.StatusCode, body)
	var m Medium
	require.NoError(t, json.Unmarshal([]byte(body), &m))
	require.EqualValues(t, len(content), m.Size)
	return &message.Media{SHA256: m.SHA256, Size: m.Size, MIMEType: "image/png"}
}

func TestAPhoneDownloadsTheMediumItself(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	medium := b.upload(t, "pixels")
	said := *medium
	said.Size = 1 << 40 // whatever the worker says
	c.sent(wire.Send{WhatsappID: "A", To: person(1), Type: "image", Media: &said, Caption: "look"})
	shown := b.screen(t, person(1))[0]
	require.Equal(t, &Medium{SHA256: medium.SHA256, Size: 6, MIMEType: "image/png"}, shown.Medium)

	said.SHA256 = strings.Repeat("ab", 32)
	require.Equal(t, wire.OutcomeUnknown, c.send(wire.Send{WhatsappID: "B", To: person(1), Type: "image", Media: &said}).Outcome)
	require.Equal(t, codeNoMedium, c.send(wire.Send{WhatsappID: "C", To: person(1), Type: "image"}).Code)
	require.Len(t, b.screen(t, person(1)), 1)

	resp, err := http.Get(b.url + "/media/" + medium.SHA256)
	require.NoError(t, err)
	require.Equal(t, "pixels", drain(t, resp))
	for _, name := range []string{"..%2f..%2fetc%2fpasswd", strings.Repeat("0", 64), "x"} {
		resp, err := http.Get(b.url + "/media/" + name)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusNotFound, resp.StatusCode, name)
	}
}
