package whatsapp

import (
	"context"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
)

// people tells who somebody is. WhatsApp names people by number or by LID, and only sometimes says which belong together.
type people struct {
	device *store.Device
	broken func(error) // ends the link
}

// both is somebody's number and LID, as far as either is known. other is what the network said beside the JID.
func (p people) both(ctx context.Context, jid, other types.JID) (number, lid types.JID) {
	jid, other = jid.ToNonAD(), other.ToNonAD()
	for _, j := range []types.JID{jid, other} {
		switch j.Server {
		case types.DefaultUserServer:
			number = j
		case types.HiddenUserServer:
			lid = j
		}
	}
	if own := p.own(); jid.User != "" && (jid.User == own.User || jid.User == p.ownLID().User) {
		return own, p.ownLID()
	}
	var err error // nobody is named by half because the database does not answer: it would be another chat
	if number.IsEmpty() && !lid.IsEmpty() {
		number, err = p.device.LIDs.GetPNForLID(ctx, lid)
	}
	if lid.IsEmpty() && !number.IsEmpty() {
		lid, err = p.device.LIDs.GetLIDForPN(ctx, number)
	}
	_ = stored(ctx, err, p.broken)
	return number.ToNonAD(), lid.ToNonAD()
}

func (p people) own() types.JID { return p.device.GetJID().ToNonAD() }

func (p people) ownLID() types.JID { return p.device.GetLID().ToNonAD() }

// same reports whether two JIDs are one person's, or one chat's. Of somebody's number and LID it has to be known that they belong together.
func (p people) same(ctx context.Context, a, b types.JID) bool {
	a, b = a.ToNonAD(), b.ToNonAD()
	if a == b {
		return !a.IsEmpty()
	}
	number, lid := p.both(ctx, a, types.EmptyJID)
	return !b.IsEmpty() && (b == number || b == lid)
}

// name is somebody's JID as the gateway knows it: the number's where it is known. A group, a channel or a list is itself.
func (p people) name(ctx context.Context, jid, other types.JID) string {
	number, lid := p.both(ctx, jid, other)
	switch {
	case jid.Server != types.DefaultUserServer && jid.Server != types.HiddenUserServer:
		return jid.ToNonAD().String()
	case !number.IsEmpty():
		return number.String()
	}
	return lid.String()
}

// contact is somebody with all that is known of him.
func (p people) contact(ctx context.Context, jid, other types.JID, name string) wire.Contact {
	number, lid := p.both(ctx, jid, other)
	return wire.Contact{Phone: phone(number), LID: text(lid), Name: optional(name)}
}

// phone is a number's digits with a leading +, nil if there is none.
func phone(number types.JID) *string {
	if number.Server != types.DefaultUserServer || number.User == "" {
		return nil
	}
	digits := "+" + number.User
	return &digits
}

func text(jid types.JID) *string {
	if jid.IsEmpty() {
		return nil
	}
	s := jid.String()
	return &s
}
