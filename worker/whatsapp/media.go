package whatsapp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
)

// carriers carry the media of messages to WhatsApp, which encrypts each kind in its own way.
type carriers map[whatsmeow.MediaType]*worker.Carrier[whatsmeow.UploadResponse]

func (c *conn) newCarriers() carriers {
	list := carriers{}
	for _, kind := range mediaTypes {
		if list[kind] == nil {
			list[kind] = worker.NewCarrier(c.ctx, c.session, func(ctx context.Context, m *wire.Media, content io.Reader) (whatsmeow.UploadResponse, error) {
				return c.upload(ctx, kind, m, content)
			}, c.engine.log)
		}
	}
	return list
}

// carry has the medium of a message carried to WhatsApp. A result is one without a send; an error means that nothing can be
// sent now.
func (c *conn) carry(ctx context.Context, m *wire.Send) (*whatsmeow.UploadResponse, *wire.SendResult, error) {
	got, err := c.carriers[mediaTypes[m.Type]].Get(ctx, m.WhatsappID, m.Media)
	if errors.Is(err, worker.ErrMediaGone) {
		return nil, failed(wire.CodeMediaGone, "the medium of the message is gone"), nil
	}
	return &got, nil, err
}

// upload streams a medium to WhatsApp, by way of a file in which it is encrypted, and sees that what arrived is what was to
// be sent.
func (c *conn) upload(ctx context.Context, kind whatsmeow.MediaType, m *wire.Media, content io.Reader) (r whatsmeow.UploadResponse, err error) {
	l := c.present()
	if l == nil {
		return r, worker.ErrNotConnected
	}
	file, err := c.engine.tempFile(ctx, sealedSize(m.Size))
	if err != nil {
		return r, err
	}
	defer func() { _ = file.Close() }() // it has no name any more
	r, err = l.client.UploadReader(ctx, content, file.File, kind)
	if err == nil && m.SHA256 != "" && m.SHA256 != hex.EncodeToString(r.FileSHA256) {
		err = fmt.Errorf("the medium arrived as %d bytes of another content", r.FileLength)
	}
	return r, err
}

// tempRoom is how much of the disk the files of all sessions take at once. One that is larger waits until it is alone.
const tempRoom = 900 << 20

// tempFile makes a file that is gone with the process, when there is room for it.
func (e *Engine) tempFile(ctx context.Context, size int64) (*tempFile, error) {
	size = max(0, min(size, tempRoom))
	if err := e.room.Acquire(ctx, size); err != nil {
		return nil, fmt.Errorf("room for a medium: %w", err)
	}
	leave := sync.OnceFunc(func() { e.room.Release(size) })
	file, err := os.CreateTemp(e.cfg.TempFolder, "kurir-medium-*")
	if err != nil {
		leave()
		return nil, fmt.Errorf("a file for a medium: %w", err)
	}
	f := &tempFile{file, leave}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

type tempFile struct {
	*os.File
	leave func()
}

// Close implements io.Closer.
func (f *tempFile) Close() error {
	defer f.leave()
	return f.File.Close()
}

// fetch downloads a medium that came in; nil: the message has none. The link may end before it is wanted: WhatsApp's media are
// at other hosts.
func (l *link) fetch(chat types.JID, medium whatsmeow.DownloadableMessage) worker.Fetch {
	if medium == nil {
		return nil
	}
	return func(ctx context.Context) (io.ReadCloser, error) {
		size, err := fetchable(chat, medium, l.c.engine.cfg.MediaMax)
		if err != nil {
			return nil, err
		}
		file, err := l.c.engine.tempFile(ctx, size)
		if err != nil {
			return nil, err
		}
		err = l.client.DownloadToFile(context.WithValue(ctx, sizeKey{}, size), medium, file.File)
		if err == nil {
			_, err = file.Seek(0, io.SeekStart)
		}
		if err != nil {
			return nil, errors.Join(gone(err), file.Close())
		}
		return file, nil
	}
}

// gone tells a medium that WhatsApp has lost from trouble that passes.
func gone(err error) error {
	for _, lost := range []error{whatsmeow.ErrMediaDownloadFailedWith403, whatsmeow.ErrMediaDownloadFailedWith404, whatsmeow.ErrMediaDownloadFailedWith410,
		whatsmeow.ErrNoURLPresent, whatsmeow.ErrInvalidMediaSHA256, whatsmeow.ErrInvalidMediaEncSHA256, whatsmeow.ErrInvalidMediaHMAC, whatsmeow.ErrFileLengthMismatch} {
		if errors.Is(err, lost) {
			return fmt.Errorf("%w: %w", worker.ErrMediaGone, err)
		}
	}
	return err
}

func failed(code, sentence string) *wire.SendResult {
	return &wire.SendResult{Outcome: wire.OutcomeFailed, Code: code, Error: sentence, Timestamp: time.Now().UTC()}
}
