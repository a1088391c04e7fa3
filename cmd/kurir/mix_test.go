package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The load is a mix: mostly texts; of each 20 messages these are something else.
const (
	mixOf        = 20
	mixUploaded  = 0 // an image, by mediaId
	mixURL       = 1 // an image of its own, by mediaUrl
	mixHigh      = 2 // of high priority
	mixScheduled = 3 // by sendAt
	mixCancelled = 4 // by sendAt, and cancelled when it is about to go out, so that it may be either
)

// people are those who get all messages but the scheduled ones.
const people = 3

func personOf(n int) string { return fmt.Sprintf("62812000%05d", 11111+n%people) }

// accepted is a message that the API has taken, and what must become of it.
type accepted struct {
	id        string
	sha256    string // of the picture that the phone has to show, "" if none
	cancelled bool   // so the API said
}

// mixed is one message of the mix.
type mixed struct {
	body   map[string]any
	sha256 string
	cancel time.Time // zero: it is not
}

// mixedMessage is the i-th message of a load, which goes to one of n sessions. Scheduled ones have a chat of their own, since
// they overtake and are overtaken.
func (c *cluster) mixedMessage(i, n int) mixed {
	m := mixed{body: map[string]any{"to": personOf(i / n), "message": fmt.Sprintf("message %d", i)}}
	look := func(picture int, field, value string) {
		m.body = map[string]any{"to": m.body["to"], "type": "image", field: value, "caption": m.body["message"]}
		m.sha256 = sha256Of(pictureOf(picture))
	}
	switch kind := (i + i/n) % mixOf; kind {
	case mixUploaded:
		look(uploadedPicture, "mediaId", c.mediaID)
	case mixURL:
		look(i, "mediaUrl", fmt.Sprintf("%s/%d.png", c.pictures, i))
	case mixHigh:
		m.body["priority"] = "high"
	case mixScheduled, mixCancelled:
		at := time.Now().Add(time.Second + time.Duration(i/mixOf%5)*200*time.Millisecond)
		m.body["to"], m.body["sendAt"] = fmt.Sprintf("62813%08d", i), at.Format(time.RFC3339Nano)
		if kind == mixCancelled {
			// A scheduled message goes out within a second of its time: some of these are early enough, some are too late.
			m.cancel = at.Add(time.Duration(i/mixOf%8-1) * 100 * time.Millisecond)
		}
	}
	return m
}

// uploadedPicture is the picture that all messages with a mediaId show. Others show the one of their own number.
const uploadedPicture = 1<<24 - 1

// pictureOf is a small PNG, another one for each number.
func pictureOf(i int) []byte {
	p := image.NewRGBA(image.Rect(0, 0, 1, 1))
	p.Set(0, 0, color.RGBA{R: uint8(i >> 16), G: uint8(i >> 8), B: uint8(i), A: 255})
	var b bytes.Buffer
	_ = png.Encode(&b, p) // a buffer takes everything
	return b.Bytes()
}

func sha256Of(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// servePictures is the server of the tenant's that mediaUrl leads to.
func servePictures(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/"), ".png"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(pictureOf(i))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// upload puts the picture that is sent by its mediaId into the store.
func (c *cluster) upload(session string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.entries[0]+"/api/v1/sessions/"+session+"/media", bytes.NewReader(pictureOf(uploadedPicture)))
	require.NoError(c.t, err)
	req.Header.Set("X-Api-Key", c.apiKey)
	res, err := c.http.Do(req)
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	require.Equal(c.t, http.StatusCreated, res.StatusCode, "%s", body)
	var answer struct{ Data struct{ MediaID string } }
	require.NoError(c.t, json.Unmarshal(body, &answer))
	require.NotEmpty(c.t, answer.Data.MediaID)
	c.mediaID = answer.Data.MediaID
}

// cancelAt cancels the n-th accepted message at its time and remembers what the API said.
func (c *cluster) cancelAt(entry string, n int, at time.Time, patient bool) {
	c.cancels.Go(func() {
		<-time.After(time.Until(at))
		c.mu.Lock()
		id := c.accepted[n].id
		c.mu.Unlock()
		done, err := c.cancelOne(entry+"/api/v1/messages/"+id, patient)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.accepted[n].cancelled = done
		c.uncancelled = errors.Join(c.uncancelled, err)
	})
}

// cancelOne reports whether the API has cancelled a message. A patient client repeats a call that fails; if it is refused then,
// that may be its own doing, so it looks at the message.
func (c *cluster) cancelOne(url string, patient bool) (done bool, err error) {
	method, doubt := http.MethodDelete, false
	for began := time.Now(); ; {
		var m struct{ Status, Code string }
		status, data, err := c.request(context.Background(), method, url, nil)
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		switch refused := err == nil && status == http.StatusConflict && m.Code == "not_pending"; {
		case err == nil && status == http.StatusOK:
			return method == http.MethodDelete || m.Status == "cancelled", nil
		case refused && !doubt:
			return false, nil
		case refused:
			method = http.MethodGet
			continue
		case !patient || time.Since(began) > time.Minute, err == nil && status < 500 && status != http.StatusTooManyRequests:
			return false, errors.Join(fmt.Errorf("cancel: %s %s: %d %s", method, url, status, data), err)
		}
		doubt = true
		<-time.After(100 * time.Millisecond)
	}
}

// cancelsDone waits until every cancellation has been answered. None may have failed.
func (c *cluster) cancelsDone() {
	c.t.Helper()
	c.cancels.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.NoError(c.t, c.uncancelled)
}
