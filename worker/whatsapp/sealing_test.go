//go:build !race

package whatsapp

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow/store"

	"kurir/wire"
	"kurir/worker"
)

// wentOut is how often a message of a session reached WhatsApp.
func (n *network) wentOut(h *held, m wire.Send) (times int) {
	for _, s := range n.Sends(n.of(h.id)) {
		if s.ID == m.WhatsappID {
			times++
		}
	}
	return times
}

// arrives lets a message be sent until WhatsApp has it, and looks at the recipient's phone and at the session's own: both show it once.
func (n *network) arrives(t *testing.T, h *held, m wire.Send) {
	t.Helper()
	h.deliver(m)
	after := sendOf("after " + m.Message) // what comes twice, comes before
	after.To = m.To
	h.deliver(after)
	for _, phone := range []string{"+491", n.of(h.id)} {
		p := n.person(t, phone)
		_, err := p.Await(after.WhatsappID)
		require.NoError(t, err)
		shown, err := p.Await(m.WhatsappID)
		require.NoError(t, err)
		require.Equal(t, m.Message, shown.Text(), phone)
		require.Equal(t, 1, shown.Times, phone)
	}
	require.Equal(t, 1, n.wentOut(h, m))
}

// A message for whose recipient WhatsApp gives no keys, or names no phone, is not sent: WhatsApp would take it, and nobody could read it.
func TestNothingGoesOutThatItsRecipientCannotRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault    func(*network)
		begun    bool  // the session has written to somebody else, so that its own phone has keys with it
		migrated int64 // since when people are named by LID
	}{
		"no keys for anybody":              {fault: func(n *network) { n.RefuseKeys(1) }},
		"no keys for the recipient":        {fault: func(n *network) { n.RefuseKeys(1) }, begun: true},
		"no keys for the recipient, a LID": {fault: func(n *network) { n.RefuseKeys(1) }, begun: true, migrated: 1},
		"no devices":                       {fault: func(n *network) { n.HideDevices(1) }, begun: true},
		"no devices of anybody":            {fault: func(n *network) { n.HideDevices(1) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			n.migrated = c.migrated
			e := n.engine(t)
			ended(t, e)
			h := n.linked(t, e)
			n.person(t, "+491")
			if c.begun {
				other := sendOf("hello")
				other.To = "492@s.whatsapp.net"
				h.deliver(other)
			}
			m := sendOf("first")
			c.fault(n)
			r, err := h.Send(context.Background(), m)
			require.NoError(t, err)
			require.Equal(t, []string{wire.OutcomeUnknown, codeNoKeys}, []string{r.Outcome, r.Code})
			require.Zero(t, n.wentOut(h, m))
			n.arrives(t, h, m)
		})
	}
}

// Should whatsmeow send before we can refuse, the message is not taken for sent, and goes out once more.
func TestWhatWentOutUnreadableIsNotSent(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann, d := n.person(t, "+491"), h.Conn.(*conn).present().device
	d.PrivacyTokens = d.PrivacyTokens.(tokens).PrivacyTokenStore
	n.RefuseKeys(1)
	m := sendOf("first")
	for range 2 {
		r, err := h.Send(context.Background(), m)
		require.NoError(t, err)
		if n.wentOut(h, m) == 1 {
			require.Equal(t, []string{wire.OutcomeUnknown, codeNoKeys}, []string{r.Outcome, r.Code})
			continue
		}
		require.Equal(t, wire.OutcomeSent, r.Outcome)
	}
	shown, err := ann.Await(m.WhatsappID)
	require.NoError(t, err)
	require.Equal(t, 1, shown.Times)
	require.Equal(t, 2, n.wentOut(h, m))
}

// A message to oneself is for the own phone.
func TestAMessageToOneself(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	m := sendOf("note to self")
	m.To = address(n.of(h.id)).String()
	n.RefuseKeys(1)
	r, err := h.Send(context.Background(), m)
	require.NoError(t, err)
	require.Equal(t, codeNoKeys, r.Code)
	h.deliver(m)
	shown, err := n.person(t, n.of(h.id)).Await(m.WhatsappID)
	require.NoError(t, err)
	require.Equal(t, m.Message, shown.Text())
}

// In a group, who could not read a message for want of keys asks for it, and gets it.
func TestMembersWithoutKeysAskForThem(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	m := sendOf("first")
	m.To = n.Group(t, h.id, "+491")
	n.RefuseKeys(1)
	h.deliver(m)
	ann := n.person(t, "+491")
	shown, err := ann.Await(m.WhatsappID)
	require.NoError(t, err)
	require.Equal(t, 1, shown.Times)
	require.Equal(t, m.Message, shown.Text())
	require.Contains(t, ann.Unreadable(), m.WhatsappID)
}

// failing are the stores of a device, whose next statement of one kind does something first, or fails.
type failing struct {
	store.IdentityStore
	store.SessionStore
	due atomic.Pointer[fault]
}

type fault struct {
	statement string
	do        func() error
}

func (f *failing) at(statement string) error {
	if next := f.due.Load(); next != nil && next.statement == statement && f.due.CompareAndSwap(next, nil) {
		return next.do()
	}
	return nil
}

func (f *failing) IsTrustedIdentity(ctx context.Context, address string, key [32]byte) (bool, error) {
	if err := f.at("trusted"); err != nil {
		return false, err
	}
	return f.IdentityStore.IsTrustedIdentity(ctx, address, key)
}

func (f *failing) PutIdentity(ctx context.Context, address string, key [32]byte) error {
	if err := f.at("put identity"); err != nil {
		return err
	}
	return f.IdentityStore.PutIdentity(ctx, address, key)
}

func (f *failing) GetManySessions(ctx context.Context, addresses []string) (map[string][]byte, error) {
	if err := f.at("get sessions"); err != nil {
		return nil, err
	}
	return f.SessionStore.GetManySessions(ctx, addresses)
}

func (f *failing) PutManySessions(ctx context.Context, changed map[string][]byte) error {
	if err := f.at("put sessions"); err != nil {
		return err
	}
	return f.SessionStore.PutManySessions(ctx, changed)
}

// fails makes an engine whose sessions have failing stores.
func (n *network) fails(t *testing.T) (*Engine, *failing) {
	t.Helper()
	e, f := n.engine(t), &failing{}
	ended(t, e)
	e.prepare = func(d *store.Device) {
		if d.ID != nil {
			f.IdentityStore, f.SessionStore = d.Identities, d.Sessions
			d.Identities, d.Sessions = f, f
		}
	}
	return e, f
}

// Where the database fails in the middle of an encryption, the message stays here, whether there were keys before or not.
func TestNothingGoesOutWhereTheDatabaseFails(t *testing.T) {
	t.Parallel()
	for _, statement := range []string{"trusted", "put identity", "get sessions", "put sessions"} {
		t.Run(statement, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			e, f := n.fails(t)
			h := n.linked(t, e)
			n.person(t, "+491")
			group := n.Group(t, h.id, "+491", "+492")
			for _, m := range []wire.Send{sendOf("first"), sendOf("second"), sendOf("to a group")} {
				if m.Message == "to a group" {
					m.To = group
				}
				f.due.Store(&fault{statement, func() error { return errors.New("connection reset") }})
				_, err := h.Send(context.Background(), m)
				require.ErrorIs(t, err, worker.ErrNotConnected, m.Message)
				require.Nil(t, f.due.Load(), "it has failed")
				require.Zero(t, n.wentOut(h, m), m.Message)
				n.arrives(t, h, m)
			}
			require.Equal(t, wire.StatusConnected, h.State().Status, "one statement ends no connection")
		})
	}
}

// Nor does anything where the database goes away for longer.
func TestNothingGoesOutWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e, f := n.fails(t)
	h := n.linked(t, e)
	n.person(t, "+491")
	var end func()
	m := sendOf("first")
	f.due.Store(&fault{"trusted", func() error { end = outage(t, n.url); return nil }})
	for range 2 {
		_, err := h.Send(context.Background(), m)
		require.ErrorIs(t, err, worker.ErrNotConnected)
	}
	require.Zero(t, n.wentOut(h, m))
	end()
	n.arrives(t, h, m)
}

// Who is replaced in the middle of an encryption sends nothing.
func TestNothingGoesOutOfWhoIsReplaced(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e, f := n.fails(t)
	h := n.linked(t, e)
	n.person(t, "+491")
	m := sendOf("late")
	f.due.Store(&fault{"put identity", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := holderOf(t, e.pool, h.id, 2).claim(ctx)
		return err
	}})
	_, err := h.Send(context.Background(), m)
	require.ErrorIs(t, err, worker.ErrLeaseLost)
	require.Nil(t, f.due.Load())
	require.Zero(t, n.wentOut(h, m))
}

// A send whose caller has gone breaks nothing, and is no failure of the database.
func TestASendThatIsGivenUp(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	e, f := n.fails(t)
	h := n.linked(t, e)
	n.person(t, "+491")
	m := sendOf("slow")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.due.Store(&fault{"trusted", func() error { cancel(); return ctx.Err() }})
	r, err := h.Send(ctx, m)
	require.NoError(t, err)
	require.Equal(t, wire.OutcomeUnknown, r.Outcome)
	require.Zero(t, n.wentOut(h, m))
	n.arrives(t, h, m)
}
