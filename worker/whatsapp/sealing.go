package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// sealing is the encryption of one message, which is done for each device by itself. whatsmeow leaves out a device for which it
// fails, be it that WhatsApp gives no keys or that the database does not answer, and sends the rest, even if that is nothing:
// WhatsApp takes it, and nobody can read it. So sealing ends the send before it goes out: once the database has failed, or if, in a chat of
// two, there is nothing for the recipient's phone. It is of SendMessage's goroutine alone.
type sealing struct {
	own   []string // the session's own names in addresses of keys, by number and by LID
	to    types.JID
	phone bool  // it is encrypted for the recipient's phone
	err   error // why the send ended
	stop  context.CancelFunc
}

// codeNoKeys is a message's that could not be encrypted for its recipient's phone.
const codeNoKeys = "no_keys"

var errNoKeys = errors.New("nothing is encrypted for the recipient's phone")

type sealingKey struct{}

// sealing is for one call of Client.SendMessage, by the context that it returns. The caller calls done afterwards.
func (l *link) sealing(ctx context.Context, to types.JID) (s *sealing, with context.Context, done func()) {
	s = &sealing{to: to, own: []string{l.people.own().SignalAddressUser(), l.people.ownLID().SignalAddressUser()}}
	ctx, s.stop = context.WithCancel(ctx)
	return s, context.WithValue(ctx, sealingKey{}, s), s.stop
}

// end ends the send, which heeds its context before it goes out.
func (s *sealing) end(err error) {
	s.err = err
	s.stop()
}

// stored passes on a database's error, and ends the encryption that it belongs to, if any.
func (s *sealing) stored(ctx context.Context, err error) error {
	switch {
	case err == nil || s == nil || ctx.Err() != nil: // a send that was given up ends by itself
	case isFenced(err):
		s.end(errSuperseded)
	default:
		s.end(fmt.Errorf("%w: %w", errStorage, err))
	}
	return err
}

// sealed notes for whom there is something: by the keys that were turned, which are those of a device. The recipient is whoever is not the
// session itself, as WhatsApp may name him by number or by LID, unless it writes to itself.
func (s *sealing) sealed(addresses map[string][]byte) {
	self := slices.Contains(s.own, s.to.SignalAddressUser())
	for address := range addresses {
		if user, phone := strings.CutSuffix(address, ":0"); phone && slices.Contains(s.own, user) == self {
			s.phone = true
		}
	}
}

// complete reports errNoKeys if the recipient's phone is left out, in a chat of two: in a group, a member who cannot read a message asks for it.
func (s *sealing) complete() error {
	switch s.to.Server {
	case types.DefaultUserServer, types.HiddenUserServer, types.BotServer:
		if !s.phone {
			return errNoKeys
		}
	}
	return nil
}

// sealingOf is the encryption of a message that a statement belongs to, nil: none.
func sealingOf(ctx context.Context) *sealing {
	s, _ := ctx.Value(sealingKey{}).(*sealing)
	return s
}

// GetManySessions implements store.SessionStore.
func (s sessions) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	all, err := s.SessionStore.GetManySessions(ctx, addresses)
	return all, sealingOf(ctx).stored(ctx, err)
}

// PutManySessions implements store.SessionStore. whatsmeow calls it once for all devices that a message was encrypted for, if there are any.
func (s sessions) PutManySessions(ctx context.Context, changed map[string][]byte) error {
	sealing := sealingOf(ctx)
	err := sealing.stored(ctx, s.SessionStore.PutManySessions(ctx, changed))
	if err == nil && sealing != nil {
		sealing.sealed(changed)
	}
	return err
}

// identities are people's keys, which whatsmeow compares and stores with each device that it encrypts for.
type identities struct{ store.IdentityStore }

// IsTrustedIdentity implements store.IdentityStore.
func (i identities) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	trusted, err := i.IdentityStore.IsTrustedIdentity(ctx, address, key)
	return trusted, sealingOf(ctx).stored(ctx, err)
}

// PutIdentity implements store.IdentityStore.
func (i identities) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	return sealingOf(ctx).stored(ctx, i.IdentityStore.PutIdentity(ctx, address, key))
}

// tokens are what people have given the session to write to them. In a chat of two, whatsmeow looks for one when it has encrypted a message,
// and then sends it: this is the last moment to refuse.
type tokens struct{ store.PrivacyTokenStore }

// GetPrivacyToken implements store.PrivacyTokenStore.
func (t tokens) GetPrivacyToken(ctx context.Context, user types.JID) (*store.PrivacyToken, error) {
	if s := sealingOf(ctx); s != nil {
		if err := s.complete(); err != nil {
			s.end(err)
			return nil, err
		}
	}
	return t.PrivacyTokenStore.GetPrivacyToken(ctx, user)
}
