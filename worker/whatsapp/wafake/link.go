package wafake

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// linking is a connection on its way to be a device.
type linking struct {
	refs    []string
	request string // ID of the stanza that tells it that it is linked
	device  *device
	details []byte
	code    *codeLink
	done    chan error // holds one
}

func (l *linking) settle(err error) {
	select {
	case l.done <- err:
	default:
	}
}

// refsShown is how many codes a client gets at once; it shows one after the other.
const refsShown = 6

// showCodes sends a client that is not linked its QR codes. The caller has the lock.
func (s *Server) showCodes(c *conn) {
	if c.link == nil {
		c.link = &linking{done: make(chan error, 1)}
	}
	s.pairing[c], c.link.refs = true, nil
	refs := make([]node, refsShown)
	for i := range refs {
		ref := "2@" + rand.Text() + rand.Text()
		c.link.refs = append(c.link.refs, ref)
		refs[i] = node{Tag: "ref", Content: []byte(ref)}
	}
	c.send(node{
		Tag:     "iq",
		Attrs:   attrs{"from": types.ServerJID, "type": "set", "id": s.id(), "xmlns": "md"},
		Content: []node{{Tag: "pair-device", Content: refs}},
	})
}

// FreshCodes gives every client that shows QR codes new ones. The old ones are worth nothing any more.
func (s *Server) FreshCodes() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.pairing {
		s.showCodes(c)
	}
}

// Scan links the client that shows a QR code to a number, as the number's phone does, and returns when the client has
// signed. Any code that the client was given will do, until it is linked or gone.
func (s *Server) Scan(number, qr string) (types.JID, error) {
	phone, err := s.Person(number)
	if err != nil {
		return types.EmptyJID, err
	}
	parts := strings.Split(qr, ",")
	if len(parts) < 4 {
		return types.EmptyJID, fmt.Errorf("a QR code has at least four parts, not %d", len(parts))
	}
	var decoded [3][]byte
	for i := range decoded {
		if decoded[i], err = base64.StdEncoding.DecodeString(parts[i+1]); err != nil {
			return types.EmptyJID, err
		}
	}
	s.mu.Lock()
	var c *conn
	for candidate := range s.pairing {
		for _, ref := range candidate.link.refs {
			if ref == parts[0] || strings.HasSuffix(parts[0], ref) {
				c = candidate
			}
		}
	}
	if c == nil || !bytes.Equal(c.who.static[:], decoded[0]) {
		s.mu.Unlock()
		return types.EmptyJID, errors.New("nobody shows this QR code")
	}
	jid, err := s.link(c, phone, decoded[1], decoded[2])
	s.mu.Unlock()
	if err != nil {
		return types.EmptyJID, err
	}
	return jid, <-c.link.done
}

// link tells a client that it is linked. The caller has the lock.
func (s *Server) link(c *conn, phone *Person, identity, secret []byte) (types.JID, error) {
	delete(s.pairing, c)
	a := s.accounts[phone.Number]
	d := &device{account: a, id: a.free(), static: c.who.static, platform: "wafake"}
	d.keys.identity = identity
	var err error
	c.link.details, err = proto.Marshal(&waAdv.ADVDeviceIdentity{
		RawID:     proto.Uint32(1),
		Timestamp: proto.Uint64(uint64(time.Now().Unix())), //nolint:gosec // after 1970
		KeyIndex:  proto.Uint32(uint32(d.id)),
	})
	if err != nil {
		return types.EmptyJID, err
	}
	own := phone.Client.Store.IdentityKey
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*own.Priv), bytes.Join([][]byte{{6, 0}, c.link.details, identity}, nil))
	signed, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentity{
		Details: c.link.details, AccountSignatureKey: own.Pub[:], AccountSignature: signature[:],
	})
	if err != nil {
		return types.EmptyJID, err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(signed)
	sealed, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentityHMAC{Details: signed, HMAC: mac.Sum(nil)})
	if err != nil {
		return types.EmptyJID, err
	}
	c.link.device, c.link.request = d, s.id()
	c.send(node{
		Tag:   "iq",
		Attrs: attrs{"from": types.ServerJID, "type": "set", "id": c.link.request, "xmlns": "md"},
		Content: []node{{Tag: "pair-success", Content: []node{
			{Tag: "device-identity", Content: sealed},
			{Tag: "biz", Attrs: attrs{"name": ""}},
			{Tag: "device", Attrs: attrs{"jid": d.jid(), "lid": d.lid()}},
			{Tag: "platform", Attrs: attrs{"name": "android"}},
		}}},
	})
	return d.jid(), nil
}

// linked takes a client's answer to being linked: its signature, or that it won't have it.
func (s *Server) linked(c *conn, n *node) {
	if text(n, "type") == "error" {
		refusal := child(n, "error")
		c.link.settle(fmt.Errorf("the client refuses to be linked: %s", refusal.XMLString()))
		return
	}
	err := c.link.verify(content(n, "pair-device-sign", "device-identity"))
	if err == nil {
		d := c.link.device
		d.account.devices[d.id] = d
		s.announceDevices(d.account)
		c.streamError("515")
	}
	c.link.settle(err)
}

func (l *linking) verify(raw []byte) error {
	var signed waAdv.ADVSignedDeviceIdentity
	if err := proto.Unmarshal(raw, &signed); err != nil {
		return err
	}
	if !bytes.Equal(signed.GetDetails(), l.details) || len(signed.GetDeviceSignature()) != 64 || len(l.device.keys.identity) != 32 {
		return errors.New("the client signed something else")
	}
	key := ecc.NewDjbECPublicKey([32]byte(l.device.keys.identity))
	phone := l.device.account.devices[0].keys.identity
	message := bytes.Join([][]byte{{6, 1}, l.details, l.device.keys.identity, phone}, nil)
	if !ecc.VerifySignature(key, message, [64]byte(signed.GetDeviceSignature())) {
		return errors.New("the client's signature is wrong")
	}
	return nil
}
