package simnet

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"kurir/wire"
)

func TestQRCodesChangeUntilOneIsScanned(t *testing.T) {
	b := start(t, Config{ScanDelay: -1, QRInterval: 20 * time.Millisecond})
	c := b.login(t, "s", 1, "w")
	one, two := c.await(OpQR).QR, c.await(OpQR).QR
	require.NotEqual(t, one.Code, two.Code)
	require.True(t, two.ExpiresAt.After(one.ExpiresAt))
	b.must(t, "/sessions/s/scan", nil)
	number := c.await(OpLinked).PhoneNumber
	require.Regexp(t, `^\+6281\d{9}$`, number)
	require.Equal(t, number, c.await(OpReady).PhoneNumber)
	status, _ := b.post(t, "/sessions/s/scan", nil)
	require.Equal(t, http.StatusConflict, status)
}

func TestALinkedSessionNeedsNoQRFromAnyWorker(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "one")
	require.NoError(t, c.ws.Close(websocket.StatusNormalClosure, ""))
	c = b.login(t, "s", 2, "two")
	f := c.next()
	require.Equal(t, OpReady, f.Op)
	r := b.report(t)
	require.Zero(t, r.DoubleConnections)
	require.Equal(t, "two", r.PerSession["s"].ConnectedTo)
	require.EqualValues(t, 2, r.PerSession["s"].Epoch)
}

func TestUnlinkAndBan(t *testing.T) {
	b := start(t, Config{})
	c := b.linked(t, "s", 1, "w")
	number := b.report(t).PerSession["s"].PhoneNumber
	b.must(t, "/sessions/s/unlink", nil)
	c.await(OpLoggedOut)
	c.ended()

	c = b.linked(t, "s", 1, "w") // scanned at once
	require.Equal(t, number, b.report(t).PerSession["s"].PhoneNumber, "the same phone")
	b.must(t, "/sessions/s/ban", nil)
	c.await(OpBanned)
	c.ended()
	c = b.login(t, "s", 1, "w")
	c.await(OpBanned)

	b.must(t, "/sessions/s/unlink", nil)
	c = b.linked(t, "s", 1, "w")
	require.NotEqual(t, number, b.report(t).PerSession["s"].PhoneNumber)
	c.write(&Frame{Op: OpLogout})
	c.await(OpLoggedOut)
	require.False(t, b.report(t).PerSession["s"].Linked)
}

func TestDoubleConnectionsAreCounted(t *testing.T) {
	t.Run("the replaced worker still answers", func(t *testing.T) {
		b := start(t, Config{})
		old := b.linked(t, "s", 1, "one")
		b.linked(t, "s", 2, "two")
		old.await(OpReplaced)
		ping := old.await(OpPing)
		old.write(&Frame{Op: OpPong, N: ping.N}, &Frame{Op: OpPong, N: ping.N})
		require.NoError(t, old.ws.Close(websocket.StatusNormalClosure, ""))
		require.EqualValues(t, 1, b.report(t).DoubleConnections)
	})
	t.Run("an answer to a ping from before is no proof", func(t *testing.T) {
		b := start(t, Config{})
		old := b.linked(t, "s", 1, "one")
		ping := old.await(OpPing)
		b.linked(t, "s", 2, "two")
		old.write(&Frame{Op: OpPong, N: ping.N})
		require.NoError(t, old.ws.Close(websocket.StatusNormalClosure, ""))
		require.Zero(t, b.report(t).DoubleConnections)
	})
	t.Run("the replaced worker hangs up", func(t *testing.T) {
		b := start(t, Config{})
		old := b.linked(t, "s", 1, "one")
		b.linked(t, "s", 2, "two")
		old.await(OpReplaced)
		require.NoError(t, old.ws.Close(websocket.StatusNormalClosure, ""))
		require.Zero(t, b.report(t).DoubleConnections)
	})
	t.Run("a worker replaces its own connection", func(t *testing.T) {
		b := start(t, Config{})
		old := b.linked(t, "s", 1, "one")
		b.linked(t, "s", 1, "one")
		old.write(&Frame{Op: OpPong, N: old.await(OpPing).N})
		require.NoError(t, old.ws.Close(websocket.StatusNormalClosure, ""))
		require.Zero(t, b.report(t).DoubleConnections)
	})
	t.Run("the older holder logs in again", func(t *testing.T) {
		b := start(t, Config{})
		b.linked(t, "s", 2, "two")
		b.linked(t, "s", 1, "one")
		r := b.report(t)
		require.EqualValues(t, 1, r.DoubleConnections)
		require.Equal(t, "one", r.PerSession["s"].ConnectedTo, "the network replaces, it does not judge")
		require.EqualValues(t, 1, r.PerSession["s"].Epoch)
	})
}

func TestAReplacedConnectionIsNotHeard(t *testing.T) {
	b := start(t, Config{})
	old := b.linked(t, "s", 1, "one")
	b.linked(t, "s", 2, "two")
	old.write(&Frame{Op: OpSend, N: 1, Send: &wire.Send{WhatsappID: "A", To: person(1)}})
	require.NoError(t, old.ws.Close(websocket.StatusNormalClosure, ""))
	require.Zero(t, b.report(t).Messages)
}

func TestControlAnswersPlainly(t *testing.T) {
	b := start(t, Config{ScanDelay: -1})
	resp, err := http.Get(b.url + "/")
	require.NoError(t, err)
	text := drain(t, resp)
	require.Contains(t, text, "THIS IS A SIMULATOR")
	for _, route := range []string{"/report", "/config", "/inject/message", "/scan", "/drop", "/unlink", "/ban", "/connect"} {
		require.True(t, strings.Contains(text, route), "the help does not name %s", route)
	}
	status, _ := b.post(t, "/sessions/nobody/drop", nil)
	require.Equal(t, http.StatusNotFound, status)
	b.login(t, "s", 1, "w").await(OpQR)
	for path, body := range map[string]any{
		"/sessions/s/ban": nil, "/sessions/s/unlink": nil,
		"/inject/message": map[string]any{"sessionId": "s", "from": person(1), "text": "x"},
	} {
		status, answer := b.post(t, path, body)
		require.Equal(t, http.StatusConflict, status, "%s: %s", path, answer)
	}
	status, _ = b.post(t, "/inject/message", map[string]any{"sessionId": "s", "from": "??", "text": "x"})
	require.Equal(t, http.StatusUnprocessableEntity, status)
}
