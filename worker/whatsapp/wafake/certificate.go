package wafake

import (
	"crypto/sha256"
	"sync"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/logger"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCert"
	"go.mau.fi/whatsmeow/util/keys"
	"google.golang.org/protobuf/proto"
)

// root signs the certificates of every fake, so that a client in another process can trust one that it has not met.
// It is no secret: whoever trusts it trusts anybody.
var root = keys.NewKeyPairFromPrivateKey(sha256.Sum256([]byte("wafake: root of the certificates")))

var trust sync.Once

// Trust makes whatsmeow take the fake's certificates instead of WhatsApp's, in the whole process. Call it before the
// first client connects; New does.
func Trust() {
	trust.Do(func() {
		whatsmeow.WACertPubKey = *root.Pub
		if logger.Logger == nil { // libsignal would set it at its first use, by two goroutines at once
			var none logger.Loggable = quiet{}
			logger.Setup(&none)
		}
	})
}

// quiet is libsignal's logger for tests, which provoke what it would complain of.
type quiet struct{}

func (quiet) Debug(string, string)   {}
func (quiet) Info(string, string)    {}
func (quiet) Warning(string, string) {}
func (quiet) Error(string, string)   {}
func (quiet) Configure(string)       {}

const intermediateSerial = 1

// certificates is the chain for a server's static key.
func certificates(static *keys.KeyPair) ([]byte, error) {
	intermediate := keys.NewKeyPair()
	upper, err := certificate(root, intermediate, intermediateSerial, whatsmeow.WACertIssuerSerial)
	if err != nil {
		return nil, err
	}
	leaf, err := certificate(intermediate, static, intermediateSerial+1, intermediateSerial)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&waCert.CertChain{Intermediate: upper, Leaf: leaf})
}

func certificate(issuer, subject *keys.KeyPair, serial, issuerSerial uint32) (*waCert.CertChain_NoiseCertificate, error) {
	now := time.Now()
	details, err := proto.Marshal(&waCert.CertChain_NoiseCertificate_Details{
		Serial:       proto.Uint32(serial),
		IssuerSerial: proto.Uint32(issuerSerial),
		Key:          subject.Pub[:],
		NotBefore:    proto.Uint64(uint64(now.Add(-time.Hour).Unix())),     //nolint:gosec // after 1970
		NotAfter:     proto.Uint64(uint64(now.Add(24 * time.Hour).Unix())), //nolint:gosec // after 1970
	})
	if err != nil {
		return nil, err
	}
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*issuer.Priv), details)
	return &waCert.CertChain_NoiseCertificate{Details: details, Signature: signature[:]}, nil
}
