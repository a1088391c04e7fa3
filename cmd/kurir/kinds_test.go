package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

// tell gives the simulated network an order.
func (c *cluster) tell(path string, body, into any) {
	c.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(c.t, err)
	res, err := c.http.Post(c.simnet+path, "application/json", bytes.NewReader(encoded))
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusOK, res.StatusCode, "%s: %s", path, answer)
	if into != nil {
		require.NoError(c.t, json.Unmarshal(answer, into))
	}
}

func (c *cluster) phone(number string) simnet.PhoneScreen {
	c.t.Helper()
	res, err := c.http.Get(c.simnet + "/phones/" + number + "/messages")
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	var screen simnet.PhoneScreen
	require.NoError(c.t, json.NewDecoder(res.Body).Decode(&screen))
	return screen
}

// TestPicturesReactionsAndCalls goes the whole way, out and in: a picture to a phone and one from it, a reaction to that, and a
// call that is refused and answered.
func TestPicturesReactionsAndCalls(t *testing.T) {
	c := newCluster(t)
	name := c.linkedSessions(1)[0]
	uid := modelstest.Scalar[string](t, c.db, `SELECT uid::text FROM sessions`)
	const person = "6281200033333"
	var buf bytes.Buffer
	require.NoError(t, png.Encode(&buf, image.NewGray(image.Rect(0, 0, 64, 64))))
	picture := buf.Bytes()
	sum := sha256.Sum256(picture)

	c.call(http.MethodPost, "/sessions/"+name+"/messages", map[string]any{"to": person, "type": "image", "mediaBase64": picture, "caption": "look"}, nil, http.StatusAccepted)
	c.eventually(30*time.Second, "the phone shows the picture", func() (bool, string) {
		shown := c.phone(person).Messages
		return len(shown) == 1 && shown[0].Medium != nil && shown[0].Medium.SHA256 == hex.EncodeToString(sum[:]) && shown[0].Caption == "look", fmt.Sprintf("%+v", shown)
	})

	c.tell("/inject/message", map[string]any{"sessionId": uid, "from": person, "type": "image", "caption": "and mine", "media": map[string]any{"data": picture, "mimetype": "image/png"}}, nil)
	var inbound struct {
		Messages []struct {
			ID    string
			Type  string
			Media *struct {
				URL, MIMEType, SHA256 string
				Size                  int64
			}
		}
	}
	c.eventually(30*time.Second, "the picture comes in", func() (bool, string) {
		c.call(http.MethodGet, "/sessions/"+name+"/messages?direction=inbound", nil, &inbound, http.StatusOK)
		return len(inbound.Messages) == 1, fmt.Sprintf("%+v", inbound)
	})
	m := inbound.Messages[0]
	require.Equal(t, "image", m.Type)
	require.NotNil(t, m.Media)
	require.Equal(t, hex.EncodeToString(sum[:]), m.Media.SHA256)
	require.Equal(t, "image/png", m.Media.MIMEType)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.entries[0]+m.Media.URL, nil)
	require.NoError(t, err)
	req.Header.Set("X-Api-Key", c.apiKey)
	res, err := c.http.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, picture, body)

	c.call(http.MethodPost, "/sessions/"+name+"/messages", map[string]any{"type": "reaction", "messageId": m.ID, "message": "👍"}, nil, http.StatusAccepted)
	c.eventually(30*time.Second, "the reaction is on what the person wrote", func() (bool, string) {
		written := c.phone(person).Written
		return len(written) == 1 && len(written[0].Reactions) == 1 && written[0].Reactions[0].Emoji == "👍", fmt.Sprintf("%+v", written)
	})

	_, err = c.db.Pool.Exec(t.Context(), `UPDATE sessions SET settings = '{"calls":{"reject":true,"message":"Please write."}}'`)
	require.NoError(t, err)
	const caller = "6281200044444"
	c.eventually(60*time.Second, "a call is refused", func() (bool, string) {
		c.tell("/inject/call", map[string]any{"sessionId": uid, "from": caller}, nil)
		calls := c.phone(caller).Calls
		return calls[0].Rejected+calls[len(calls)-1].Rejected > 0, fmt.Sprintf("%+v", calls)
	})
	c.eventually(30*time.Second, "the caller is answered", func() (bool, string) {
		shown := c.phone(caller).Messages
		return len(shown) > 0 && shown[0].Text == "Please write.", fmt.Sprintf("%+v", shown)
	})
	r := c.report()
	require.Zero(t, r.Duplicates+r.Reordered+r.DoubleConnections)
}
