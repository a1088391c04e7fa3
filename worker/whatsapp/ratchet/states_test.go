//go:build !race

package ratchet_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/util/optional"
	"go.mau.fi/whatsmeow/store"

	"kurir/worker/whatsapp/wafake"
)

// side is one of two devices that write to each other.
type side struct {
	t      *testing.T
	device *store.Device
	cipher *session.Cipher
}

// pair are two devices that both know each other's keys, and have not written yet.
func pair(t *testing.T) (a, b *side) {
	t.Helper()
	devices := []*store.Device{wafake.NewDevice(), wafake.NewDevice()}
	addresses := []*protocol.SignalAddress{protocol.NewSignalAddress("491701", 0), protocol.NewSignalAddress("491702", 0)}
	var sides []*side
	for i, own := range devices {
		other := devices[1-i]
		once, err := other.PreKeys.GenOnePreKey(t.Context())
		require.NoError(t, err)
		builder := session.NewBuilderFromSignal(own, addresses[1-i], store.SignalProtobufSerializer)
		require.NoError(t, builder.ProcessBundle(t.Context(), prekey.NewBundle(other.RegistrationID, 0, optional.NewOptionalUint32(once.KeyID), other.SignedPreKey.KeyID,
			ecc.NewDjbECPublicKey(*once.Pub), ecc.NewDjbECPublicKey(*other.SignedPreKey.Pub), *other.SignedPreKey.Signature,
			identity.NewKey(ecc.NewDjbECPublicKey(*other.IdentityKey.Pub)))))
		sides = append(sides, &side{t, own, session.NewCipher(builder, addresses[1-i])})
	}
	return sides[0], sides[1]
}

func (s *side) writes(text string) protocol.CiphertextMessage {
	s.t.Helper()
	sealed, err := s.cipher.Encrypt(s.t.Context(), []byte(text))
	require.NoError(s.t, err)
	return sealed
}

func (s *side) reads(sealed protocol.CiphertextMessage, want string) {
	s.t.Helper()
	require.NoError(s.t, s.device.EventBuffer.DoDecryptionTxn(s.t.Context(), func(ctx context.Context) error {
		var text []byte
		var err error
		if first, ok := sealed.(*protocol.PreKeySignalMessage); ok {
			text, err = s.cipher.DecryptMessage(ctx, first)
		} else {
			text, err = s.cipher.Decrypt(ctx, sealed.(*protocol.SignalMessage))
		}
		if err == nil {
			require.Equal(s.t, want, string(text))
		}
		return err
	}), want)
}

// Two that write to each other for the first time at once go on to read each other, whichever way their messages cross.
func TestMessagesThatCrossAreRead(t *testing.T) {
	t.Parallel()
	for name, crossings := range map[string]int{"the first": 1, "the first two": 2, "always": 60} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, b := pair(t)
			for range crossings {
				ofA, ofB := a.writes("of a"), b.writes("of b")
				a.reads(ofB, "of b")
				b.reads(ofA, "of a")
			}
			late := a.writes("of a, late")
			for range 3 {
				a.reads(b.writes("of b"), "of b")
				b.reads(a.writes("of a"), "of a")
			}
			b.reads(late, "of a, late")
		})
	}
}
