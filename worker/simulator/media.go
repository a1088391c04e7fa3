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

// carry streams the medium of a message from the gateway to the network, and has the message name what arrived there.
// A result is one without a send; an error means that the medium can't be had now.
func (c *conn) carry(ctx context.Context, m *wire.Send) (*wire.SendResult, error) {
	if m.Media == nil {
		return nil, nil
	}
	if c.session.Media == nil {
		return nil, fmt.Errorf("%w: there is no store of media", worker.ErrNotConnected)
	}
	content, err := c.session.Media.Open(ctx, m.Media.ID)
	if errors.Is(err, worker.ErrMediaGone) {
		return &wire.SendResult{
			Outcome: wire.OutcomeFailed, Code: wire.CodeMediaGone, Error: "the medium of the message is gone", Timestamp: time.Now().UTC(),
		}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: open the medium: %w", worker.ErrNotConnected, err)
	}
	defer func() { _ = content.Close() }() // read to its end, or given up
	got, err := c.engine.upload(ctx, content)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: carry the medium: %w", worker.ErrNotConnected, err)
	case m.Media.SHA256 != "" && m.Media.SHA256 != got.SHA256:
		return nil, fmt.Errorf("%w: the medium arrived as %d bytes of another content", worker.ErrNotConnected, got.Size)
	}
	m.Media = &message.Media{ID: m.Media.ID, MIMEType: m.Media.MIMEType, Size: got.Size, SHA256: got.SHA256}
	return nil, nil
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
