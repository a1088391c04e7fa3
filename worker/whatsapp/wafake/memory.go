package wafake

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"strings"
	"sync"

	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"

	"kurir/worker/whatsapp/ratchet"
)

// memory keeps in memory what a person's client needs: keys, sessions and addresses. It forgets the rest.
type memory struct {
	store.NoopStore
	ratchet *ratchet.Guard

	mu         sync.Mutex
	identities map[string][32]byte
	sessions   map[string][]byte
	senderKeys map[string][]byte
	preKeys    map[uint32]*keys.PreKey
	lastKey    uint32
	lids, pns  map[string]string
	migrated   map[string]bool
	secrets    map[types.MessageID]secret
}

// secret is what a poll's votes are sealed with.
type secret struct {
	sender types.JID
	key    []byte
}

// NewDevice is a device that is not linked and keeps its keys in memory, where a database is not what is tested.
func NewDevice() *store.Device {
	m := &memory{
		identities: map[string][32]byte{}, sessions: map[string][]byte{}, senderKeys: map[string][]byte{},
		preKeys: map[uint32]*keys.PreKey{}, lids: map[string]string{}, pns: map[string]string{}, migrated: map[string]bool{},
		secrets: map[types.MessageID]secret{}, ratchet: ratchet.New(),
	}
	random := make([]byte, 36)
	_, _ = rand.Read(random)
	d := &store.Device{
		Log: waLog.Noop, Initialized: true,
		NoiseKey: keys.NewKeyPair(), IdentityKey: keys.NewKeyPair(),
		RegistrationID: binary.BigEndian.Uint32(random), AdvSecretKey: random[4:],
		Account:    &waAdv.ADVSignedDeviceIdentity{},
		Identities: m, Sessions: m.ratchet.Sessions(ratchet.States(m)), PreKeys: m, SenderKeys: m, LIDs: m, Container: m, AppStateKeys: m, AppState: m,
		Contacts: m, ChatSettings: m, MsgSecrets: m, PrivacyTokens: m, EventBuffer: m,
	}
	d.SignedPreKey = d.IdentityKey.CreateSignedPreKey(1)
	return d
}

// DoDecryptionTxn implements store.EventBuffer.
func (m *memory) DoDecryptionTxn(ctx context.Context, do func(context.Context) error) error {
	return m.ratchet.Decrypt(ctx, do)
}

func (m *memory) PutIdentity(_ context.Context, address string, key [32]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.identities[address] = key
	return nil
}

func (m *memory) DeleteIdentity(_ context.Context, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.identities, address)
	return nil
}

func (m *memory) IsTrustedIdentity(_ context.Context, address string, key [32]byte) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.identities[address]
	return !ok || known == key, nil
}

func (m *memory) GetSession(_ context.Context, address string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sessions[address], nil
}

func (m *memory) HasSession(ctx context.Context, address string) (bool, error) {
	s, err := m.GetSession(ctx, address)
	return s != nil, err
}

func (m *memory) GetManySessions(_ context.Context, addresses []string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]byte{}
	for _, address := range addresses {
		out[address] = m.sessions[address]
	}
	return out, nil
}

func (m *memory) PutSession(_ context.Context, address string, session []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sessions[address] = session
	return nil
}

func (m *memory) PutManySessions(ctx context.Context, sessions map[string][]byte) error {
	for address, session := range sessions {
		_ = m.PutSession(ctx, address, session)
	}
	return nil
}

func (m *memory) DeleteSession(_ context.Context, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, address)
	return nil
}

// MigratePNToLID moves what is kept under a number to its LID.
func (m *memory) MigratePNToLID(_ context.Context, pn, lid types.JID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to := pn.SignalAddressUser(), lid.SignalAddressUser()
	if m.migrated[from] {
		return nil
	}
	m.migrated[from] = true
	for address, session := range m.sessions {
		if device, ok := strings.CutPrefix(address, from+":"); ok {
			m.sessions[to+":"+device] = session
			delete(m.sessions, address)
		}
	}
	for address, key := range m.identities {
		if device, ok := strings.CutPrefix(address, from+":"); ok {
			m.identities[to+":"+device] = key
			delete(m.identities, address)
		}
	}
	return nil
}

// GetOrGenPreKeys makes fewer keys than it is asked for at first: a person has few correspondents.
func (m *memory) GetOrGenPreKeys(_ context.Context, count uint32) ([]*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*keys.PreKey
	for range min(count, 30) {
		out = append(out, m.preKey())
	}
	return out, nil
}

func (m *memory) GenOnePreKey(context.Context) (*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.preKey(), nil
}

func (m *memory) preKey() *keys.PreKey {
	m.lastKey++
	m.preKeys[m.lastKey] = keys.NewPreKey(m.lastKey)
	return m.preKeys[m.lastKey]
}

func (m *memory) GetPreKey(_ context.Context, id uint32) (*keys.PreKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.preKeys[id], nil
}

func (m *memory) RemovePreKey(_ context.Context, id uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.preKeys, id)
	return nil
}

func (m *memory) UploadedPreKeyCount(context.Context) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.preKeys), nil
}

func (m *memory) PutSenderKey(_ context.Context, group, user string, key []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.senderKeys[group+" "+user] = key
	return nil
}

func (m *memory) GetSenderKey(_ context.Context, group, user string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.senderKeys[group+" "+user], nil
}

func (m *memory) PutMessageSecret(_ context.Context, _, sender types.JID, id types.MessageID, key []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets[id] = secret{sender, key}
	return nil
}

func (m *memory) GetMessageSecret(_ context.Context, _, _ types.JID, id types.MessageID) ([]byte, types.JID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secrets[id].key, m.secrets[id].sender, nil
}

func (m *memory) PutLIDMapping(_ context.Context, lid, pn types.JID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lids[pn.User], m.pns[lid.User] = lid.User, pn.User
	return nil
}

func (m *memory) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	for _, one := range mappings {
		if !one.LID.IsEmpty() {
			_ = m.PutLIDMapping(ctx, one.LID, one.PN)
		}
	}
	return nil
}

func (m *memory) GetLIDForPN(_ context.Context, pn types.JID) (types.JID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	user, ok := m.lids[pn.User]
	if !ok {
		return types.EmptyJID, nil
	}
	return types.JID{User: user, Device: pn.Device, Server: types.HiddenUserServer}, nil
}

func (m *memory) GetPNForLID(_ context.Context, lid types.JID) (types.JID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	user, ok := m.pns[lid.User]
	if !ok {
		return types.EmptyJID, nil
	}
	return types.JID{User: user, Device: lid.Device, Server: types.DefaultUserServer}, nil
}

func (m *memory) GetManyLIDsForPNs(ctx context.Context, pns []types.JID) (map[types.JID]types.JID, error) {
	out := map[types.JID]types.JID{}
	for _, pn := range pns {
		if lid, _ := m.GetLIDForPN(ctx, pn); !lid.IsEmpty() {
			out[pn] = lid
		}
	}
	return out, nil
}
