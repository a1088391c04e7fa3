package worker

import (
	"context"
	"fmt"
	"io"

	"kurir/wire"
)

// media is the gateway's store of media for a session that was opened in a term.
func (n *Node) media(t *term, session string) MediaStore {
	return &gatewayMedia{n.gateway, wire.MediaOwner{WorkerID: n.cfg.ID, Secret: t.secret, Term: t.id, SessionID: session}}
}

type gatewayMedia struct {
	gateway *wire.Gateway
	owner   wire.MediaOwner
}

// Open implements MediaStore.
func (m *gatewayMedia) Open(ctx context.Context, id string) (io.ReadCloser, error) {
	content, err := m.gateway.Media(ctx, m.owner, id)
	if wire.Code(err) == wire.CodeMediaNotFound {
		return nil, fmt.Errorf("%w: %w", ErrMediaGone, err)
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}

// Put implements MediaStore.
func (m *gatewayMedia) Put(ctx context.Context, r io.Reader) (wire.Media, error) {
	medium, err := m.gateway.PutMedia(ctx, m.owner, r)
	switch wire.Code(err) {
	case wire.CodeMediaTooLarge, wire.CodeTooLarge, wire.CodeMediaEmpty:
		return wire.Media{}, fmt.Errorf("%w: %w", ErrMediaRefused, err)
	}
	return medium, err
}
