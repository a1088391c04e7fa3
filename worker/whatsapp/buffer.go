package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"

	"kurir/worker/whatsapp/ratchet"
)

// buffer is whatsmeow's buffer of what it has decrypted. It remembers which entry the message belongs to whose handler is about
// to be called: whatsmeow handles one stanza at a time.
//
// A message that cannot be decrypted is acknowledged, and its sender is asked for another one, a few times. One that cannot be
// decrypted because the database does not answer must be neither: the link ends, and WhatsApp delivers it again.
type buffer struct {
	store.EventBuffer
	broken  func(error) // ends the link
	ratchet *ratchet.Guard
	mu      sync.Mutex
	last    *[32]byte
}

// GetBufferedEvent implements store.EventBuffer.
func (b *buffer) GetBufferedEvent(ctx context.Context, hash [32]byte) (*store.BufferedEvent, error) {
	b.mu.Lock()
	b.last = &hash
	b.mu.Unlock()
	e, err := b.EventBuffer.GetBufferedEvent(ctx, hash)
	if err != nil {
		return nil, b.unanswered(err)
	}
	return e, nil
}

// DoDecryptionTxn implements store.EventBuffer. Errors of the database come out of the protocol's code in many forms; whether the
// transaction goes on to answer tells them from the protocol's own.
func (b *buffer) DoDecryptionTxn(ctx context.Context, decrypt func(context.Context) error) error {
	answers := false
	err := b.ratchet.Decrypt(ctx, func(ctx context.Context) error {
		return b.EventBuffer.DoDecryptionTxn(ctx, func(ctx context.Context) error {
			err := decrypt(ctx)
			if err != nil {
				_, silent := b.EventBuffer.GetBufferedEvent(ctx, [32]byte{})
				answers = silent == nil
			}
			return err
		})
	})
	if err == nil || answers {
		return err
	}
	return b.unanswered(err)
}

// DeleteOldBufferedHashes implements store.EventBuffer. whatsmeow wants it after the first message of each link, and reads all
// sessions' entries for it: the engine's sweep does it.
func (b *buffer) DeleteOldBufferedHashes(context.Context) error { return nil }

// unanswered ends the link. Only of an error that says that a context ended does whatsmeow tell nobody.
func (b *buffer) unanswered(err error) error {
	err = fmt.Errorf("%w: %w", errStorage, err)
	b.broken(err)
	return errors.Join(err, context.Canceled)
}

// taken is the entry of the present message, nil if it has none.
func (b *buffer) taken() *[32]byte {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	last := b.last
	b.last = nil
	return last
}

// whatsmeow goes on where these fail, and acknowledges what it then cannot read, or will not be able to.

// sessions are those with people's devices.
type sessions struct {
	store.SessionStore
	broken func(error)
}

// MigratePNToLID implements store.SessionStore.
func (s sessions) MigratePNToLID(ctx context.Context, pn, lid types.JID) error {
	return stored(ctx, s.SessionStore.MigratePNToLID(ctx, pn, lid), s.broken)
}

// senderKeys are the keys of groups' members.
type senderKeys struct {
	store.SenderKeyStore
	broken func(error)
}

// PutSenderKey implements store.SenderKeyStore.
func (s senderKeys) PutSenderKey(ctx context.Context, group, user string, key []byte) error {
	return stored(ctx, s.SenderKeyStore.PutSenderKey(ctx, group, user, key), s.broken)
}

// messageSecrets are those of messages, with which votes in them, reactions to them and comments on them are sealed.
type messageSecrets struct {
	store.MsgSecretStore
	broken func(error)
}

// PutMessageSecret implements store.MsgSecretStore.
func (s messageSecrets) PutMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID, secret []byte) error {
	return stored(ctx, s.MsgSecretStore.PutMessageSecret(ctx, chat, sender, id, secret), s.broken)
}

// GetMessageSecret implements store.MsgSecretStore.
func (s messageSecrets) GetMessageSecret(ctx context.Context, chat, sender types.JID, id types.MessageID) ([]byte, types.JID, error) {
	secret, author, err := s.MsgSecretStore.GetMessageSecret(ctx, chat, sender, id)
	if err != nil && !unfit(err) { // whoever reads it goes on without
		s.broken(fmt.Errorf("%w: %w", errStorage, err))
	}
	return secret, author, err
}

// unfit reports whether the database answers, but refuses what somebody has sent, a NUL byte in an ID for example. It would do so each
// time that WhatsApp delivers it, and nothing else would arrive.
func unfit(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && strings.HasPrefix(refused.Code, dataException)
}

// dataException is the class of PostgreSQL's errors about values.
const dataException = "22"

func stored(ctx context.Context, err error, broken func(error)) error {
	if err != nil && ctx.Err() == nil && !unfit(err) { // a send that was given up breaks nothing
		broken(fmt.Errorf("%w: %w", errStorage, err))
	}
	return err
}
