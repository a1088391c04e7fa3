package wafake

import (
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
	"google.golang.org/protobuf/proto"
)

// noise is the symmetric state of a Noise handshake. whatsmeow has one too, but keeps the last keys to itself.
type noise struct {
	hash, salt []byte
	key        cipher.AEAD
	counter    uint32
}

func newNoise() (*noise, error) {
	n := &noise{hash: []byte(socket.NoiseStartPattern)}
	n.salt = n.hash
	var err error
	if n.key, err = gcmutil.Prepare(n.hash); err != nil {
		return nil, err
	}
	n.mixHash(socket.WAConnHeader)
	return n, nil
}

func (n *noise) mixHash(data []byte) {
	sum := sha256.Sum256(append(append([]byte{}, n.hash...), data...))
	n.hash = sum[:]
}

func (n *noise) mixKey(private *[32]byte, public []byte) error {
	secret, err := curve25519.X25519(private[:], public)
	if err != nil {
		return err
	}
	out := hkdfutil.SHA256(secret, n.salt, nil, 64)
	n.salt, n.counter = out[:32], 0
	n.key, err = gcmutil.Prepare(out[32:])
	return err
}

func (n *noise) encrypt(plain []byte) []byte {
	sealed := n.key.Seal(nil, nonce(n.counter), plain, n.hash)
	n.counter++
	n.mixHash(sealed)
	return sealed
}

func (n *noise) decrypt(sealed []byte) ([]byte, error) {
	plain, err := n.key.Open(nil, nonce(n.counter), sealed, n.hash)
	n.counter++
	n.mixHash(sealed)
	return plain, err
}

// finish returns the keys of the transport: the one that the client writes with, and the one that it reads with.
func (n *noise) finish() (read, write cipher.AEAD, err error) {
	out := hkdfutil.SHA256(nil, n.salt, nil, 64)
	if read, err = gcmutil.Prepare(out[:32]); err != nil {
		return nil, nil, err
	}
	write, err = gcmutil.Prepare(out[32:])
	return read, write, err
}

func nonce(counter uint32) []byte {
	iv := make([]byte, 12)
	binary.BigEndian.PutUint32(iv[8:], counter)
	return iv
}

// caller is who has finished a handshake: its static key and what it said of itself.
type caller struct {
	static  [32]byte
	payload *waWa6.ClientPayload
}

// handshake answers a Noise XX handshake with a chain of certificates under the fake's own root.
func (f *frames) handshake(static *keys.KeyPair) (caller, error) {
	var who caller
	n, err := newNoise()
	if err != nil {
		return who, err
	}
	hello, err := f.handshakeMessage()
	if err != nil {
		return who, err
	}
	theirs := hello.GetClientHello().GetEphemeral()
	if len(theirs) != 32 {
		return who, errors.New("the client's hello has no ephemeral key")
	}
	n.mixHash(theirs)

	ephemeral := keys.NewKeyPair()
	n.mixHash(ephemeral.Pub[:])
	if err := n.mixKey(ephemeral.Priv, theirs); err != nil {
		return who, err
	}
	answer := &waWa6.HandshakeMessage_ServerHello{Ephemeral: ephemeral.Pub[:], Static: n.encrypt(static.Pub[:])}
	if err := n.mixKey(static.Priv, theirs); err != nil {
		return who, err
	}
	chain, err := certificates(static)
	if err != nil {
		return who, err
	}
	answer.Payload = n.encrypt(chain)
	out, err := proto.Marshal(&waWa6.HandshakeMessage{ServerHello: answer})
	if err != nil {
		return who, err
	}
	if err := f.writeRaw(out); err != nil {
		return who, err
	}

	finish, err := f.handshakeMessage()
	if err != nil {
		return who, err
	}
	key, err := n.decrypt(finish.GetClientFinish().GetStatic())
	if err != nil || len(key) != 32 {
		return who, fmt.Errorf("the client's static key: %w", err)
	}
	who.static = [32]byte(key)
	if err := n.mixKey(ephemeral.Priv, key); err != nil {
		return who, err
	}
	payload, err := n.decrypt(finish.GetClientFinish().GetPayload())
	if err != nil {
		return who, fmt.Errorf("the client's payload: %w", err)
	}
	who.payload = &waWa6.ClientPayload{}
	if err := proto.Unmarshal(payload, who.payload); err != nil {
		return who, err
	}
	f.readKey, f.writeKey, err = n.finish()
	return who, err
}

func (f *frames) handshakeMessage() (*waWa6.HandshakeMessage, error) {
	raw, err := f.readRaw()
	if err != nil {
		return nil, err
	}
	var m waWa6.HandshakeMessage
	return &m, proto.Unmarshal(raw, &m)
}
