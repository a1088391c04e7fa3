package wafake

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
)

// codeLink is a client that shows a pairing code for a number.
type codeLink struct {
	number string
	ref    []byte
	theirs []byte // its ephemeral key, under the code
	own    *keys.KeyPair
	shared []byte
}

// hello takes a client's wish to be linked by a code. The caller has the lock.
func (s *Server) hello(c *conn, n *node) node {
	reg := child(n, "link_code_companion_reg")
	c.link.code = &codeLink{
		number: address(&reg, "jid").User,
		ref:    []byte(s.id()),
		theirs: content(&reg, "link_code_pairing_wrapped_companion_ephemeral_pub"),
	}
	return node{
		Tag: "link_code_companion_reg", Attrs: attrs{"stage": "companion_hello"},
		Content: []node{{Tag: "link_code_pairing_ref", Content: c.link.code.ref}},
	}
}

// EnterCode links the client that shows a pairing code for a number, as the number's phone does when the code is typed
// in, and returns when the client has signed.
func (s *Server) EnterCode(number, code string) (types.JID, error) {
	phone, err := s.Person(number)
	if err != nil {
		return types.EmptyJID, err
	}
	code = strings.ReplaceAll(code, "-", "")
	s.mu.Lock()
	var c *conn
	for candidate := range s.pairing {
		if l := candidate.link.code; l != nil && l.number == phone.Number {
			c = candidate
		}
	}
	if c == nil {
		s.mu.Unlock()
		return types.EmptyJID, errors.New("nobody shows a pairing code for this number")
	}
	err = s.greet(c, phone, code)
	s.mu.Unlock()
	if err != nil {
		return types.EmptyJID, err
	}
	if err := <-c.link.done; err != nil {
		return types.EmptyJID, err
	}
	return c.link.device.jid(), nil
}

// greet answers a client's ephemeral key with the phone's. The caller has the lock.
func (s *Server) greet(c *conn, phone *Person, code string) error {
	l := c.link.code
	if len(l.theirs) != 80 {
		return fmt.Errorf("the client's ephemeral key has %d bytes", len(l.theirs))
	}
	theirs, err := underCode(code, l.theirs[:32], l.theirs[32:48], l.theirs[48:])
	if err != nil {
		return err
	}
	l.own = keys.NewKeyPair()
	if l.shared, err = curve25519.X25519(l.own.Priv[:], theirs); err != nil {
		return err
	}
	salt := make([]byte, 48)
	_, _ = rand.Read(salt)
	own, err := underCode(code, salt[:32], salt[32:], l.own.Pub[:])
	if err != nil {
		return err
	}
	c.send(node{
		Tag:   "notification",
		Attrs: attrs{"from": types.ServerJID, "type": "link_code_companion_reg", "id": s.id(), "t": now()},
		Content: []node{{
			Tag: "link_code_companion_reg", Attrs: attrs{"stage": "primary_hello"},
			Content: []node{
				{Tag: "link_code_pairing_ref", Content: l.ref},
				{Tag: "link_code_pairing_wrapped_primary_ephemeral_pub", Content: slices.Concat(salt, own)},
				{Tag: "primary_identity_pub", Content: phone.Client.Store.IdentityKey.Pub[:]},
			},
		}},
	})
	return nil
}

// finishCode takes the client's keys, which it has sealed for who knows the code, and links it.
func (s *Server) finishCode(c *conn, n *node) {
	reg := child(n, "link_code_companion_reg")
	s.mu.Lock()
	defer s.mu.Unlock()
	phone := s.people[c.link.code.number].person
	identity, secret, err := c.link.code.open(phone.Client.Store.IdentityKey, content(&reg, "link_code_pairing_wrapped_key_bundle"))
	if err == nil {
		_, err = s.link(c, phone, identity, secret)
	}
	if err != nil {
		c.link.settle(fmt.Errorf("the code is wrong: %w", err))
	}
}

func (l *codeLink) open(own *keys.KeyPair, wrapped []byte) (identity, secret []byte, err error) {
	if l.own == nil || len(wrapped) < 44 {
		return nil, nil, errors.New("no keys")
	}
	key := hkdfutil.SHA256(l.shared, wrapped[:32], []byte("link_code_pairing_key_bundle_encryption_key"), 32)
	gcm, err := gcmutil.Prepare(key)
	if err != nil {
		return nil, nil, err
	}
	plain, err := gcm.Open(nil, wrapped[32:44], wrapped[44:], nil)
	if err != nil || len(plain) != 96 {
		return nil, nil, fmt.Errorf("the client's keys can't be opened: %w", err)
	}
	shared, err := curve25519.X25519(own.Priv[:], plain[:32])
	if err != nil {
		return nil, nil, err
	}
	return plain[:32], hkdfutil.SHA256(slices.Concat(l.shared, shared, plain[64:]), nil, []byte("adv_secret"), 32), nil
}

// underCode seals or opens a key with a pairing code.
func underCode(code string, salt, iv, in []byte) ([]byte, error) {
	key, err := pbkdf2.Key(sha256.New, code, salt, 2<<16, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(in))
	cipher.NewCTR(block, iv).XORKeyStream(out, in)
	return out, nil
}
