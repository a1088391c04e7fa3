package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"kurir/message"
	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator/simnet"
)

// maxAnswer bounds what the network says to an upload.
const maxAnswer = 1 << 16

// carry has the medium of a message carried to the network, and has the message name what arrived there. A result is one
// without a send; an error means that nothing can be sent now.
func (c *conn) carry(ctx context.Context, m *wire.Send) (*wire.SendResult, error) {
	if m.Media == nil {
		return nil, nil
	}
	got, err := c.carrier.Get(ctx, m.WhatsappID, m.Media)
	if errors.Is(err, worker.ErrMediaGone) {
		return &wire.SendResult{
			Outcome: wire.OutcomeFailed, Code: wire.CodeMediaGone, Error: "the medium of the message is gone", Timestamp: time.Now().UTC(),
		}, nil
	}
	if err != nil {
		if _, gone := c.taking(); gone != nil { // time has passed
			return nil, gone
		}
		return nil, err
	}
	m.Media = &message.Media{ID: m.Media.ID, MIMEType: m.Media.MIMEType, Size: got.Size, SHA256: got.SHA256}
	return nil, nil
}

// checked uploads a medium, and sees that what arrived is what was to be sent.
func (e *Engine) checked(ctx context.Context, m *message.Media, content io.Reader) (simnet.Medium, error) {
	got, err := e.upload(ctx, content)
	if err == nil && m.SHA256 != "" && m.SHA256 != got.SHA256 {
		err = fmt.Errorf("the medium arrived as %d bytes of another content", got.Size)
	}
	return got, err
}

// upload streams a medium to the network.
func (e *Engine) upload(ctx context.Context, content io.Reader) (simnet.Medium, error) {
	var m simnet.Medium
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.base+"/media", content)
	if err != nil {
		return m, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return m, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return m, fmt.Errorf("the simulated network answered %s", res.Status)
	}
	return m, json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&m)
}

// download opens a medium on the network.
func (e *Engine) download(ctx context.Context, m *simnet.Medium) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+"/media/"+m.SHA256, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	switch res.StatusCode {
	case http.StatusOK:
		return res.Body, nil
	case http.StatusNotFound:
		err = worker.ErrMediaGone
	default:
		err = fmt.Errorf("the simulated network answered %s", res.Status)
	}
	return nil, errors.Join(err, res.Body.Close())
}
