package whatsapp

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
)

// CheckContacts implements worker.Contacts.
func (c *conn) CheckContacts(ctx context.Context, in wire.Numbers) (out wire.Checked, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	found, err := l.look(ctx, in.Numbers)
	if err != nil {
		return out, err
	}
	for _, number := range in.Numbers {
		one := wire.CheckedNumber{Number: number}
		if jid, ok := found[number]; ok {
			n, lid := l.people.both(ctx, jid, types.EmptyJID)
			one.Exists, one.JID, one.LID = true, text(n), text(lid)
		}
		out.Numbers = append(out.Numbers, one)
	}
	return out, nil
}

// look asks which of these numbers, in digits, are on WhatsApp.
func (l *link) look(ctx context.Context, numbers []string) (map[string]types.JID, error) {
	asked := make([]string, len(numbers))
	for i, number := range numbers {
		asked[i] = "+" + number
	}
	answers, err := l.client.IsOnWhatsApp(ctx, asked)
	if err != nil {
		return nil, refusal(err)
	}
	found := map[string]types.JID{}
	for _, a := range answers {
		if a.IsIn {
			found[strings.TrimPrefix(a.Query, "+")] = a.JID
		}
	}
	return found, nil
}

// ListContacts implements worker.Contacts: the phone's contacts, as far as it has told, and whom the session has written to.
func (c *conn) ListContacts(ctx context.Context, in wire.Page) (out wire.People, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	known, err := l.known(ctx)
	if err != nil {
		return out, err
	}
	all := make([]string, 0, len(known))
	for jid := range known {
		if jid > in.After {
			all = append(all, jid)
		}
	}
	slices.Sort(all)
	limit := max(in.Limit, 1)
	out.More = len(all) > limit
	out.Contacts = []wire.Person{}
	for _, jid := range all[:min(limit, len(all))] {
		out.Contacts = append(out.Contacts, known[jid])
	}
	return out, nil
}

// known is everybody whom the session's phone or its sends name, by JID.
func (l *link) known(ctx context.Context) (map[string]wire.Person, error) {
	contacts, err := l.device.Contacts.GetAllContacts(ctx)
	if err != nil {
		return nil, err
	}
	chats, err := l.c.holder.written(ctx)
	if err != nil {
		return nil, err
	}
	for _, chat := range chats {
		jid, err := types.ParseJID(chat)
		if err != nil || jid.Server != types.DefaultUserServer && jid.Server != types.HiddenUserServer {
			continue
		}
		if _, ok := contacts[jid]; !ok {
			contacts[jid] = types.ContactInfo{}
		}
	}
	list := map[string]wire.Person{}
	for jid, info := range contacts {
		p := l.person(ctx, jid, info)
		if had, ok := list[p.JID]; !ok || had.Name == nil {
			list[p.JID] = p
		}
	}
	return list, nil
}

func (l *link) person(ctx context.Context, jid types.JID, info types.ContactInfo) wire.Person {
	number, lid := l.people.both(ctx, jid, types.EmptyJID)
	p := wire.Person{JID: l.people.name(ctx, jid, types.EmptyJID), Phone: phone(number), LID: text(lid)}
	for _, name := range []string{info.FullName, info.FirstName, info.BusinessName, info.PushName} {
		if p.Name == nil {
			p.Name = optional(name)
		}
	}
	return p
}

// Contact implements worker.Contacts.
func (c *conn) Contact(ctx context.Context, in wire.Address) (out wire.Person, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	jid, err := person(in.JID)
	if err != nil {
		return out, err
	}
	if jid.Server == types.DefaultUserServer {
		found, err := l.look(ctx, []string{jid.User})
		if err != nil {
			return out, err
		}
		if len(found) == 0 {
			return out, wire.Refuse(wire.CodeContactNotFound, "this number is not on WhatsApp")
		}
	}
	infos, err := l.client.GetUserInfo(ctx, []types.JID{jid})
	if err != nil {
		return out, refusal(err)
	}
	stored, err := l.device.Contacts.GetContact(ctx, jid)
	if err != nil {
		return out, err
	}
	out = l.person(ctx, jid, stored)
	if info, ok := infos[jid]; ok {
		out.About = optional(info.Status)
	}
	return out, nil
}

// Picture implements worker.Contacts.
func (c *conn) Picture(ctx context.Context, in wire.Address) (out wire.Picture, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	jid, err := person(in.JID)
	if err != nil {
		return out, err
	}
	info, err := l.client.GetProfilePictureInfo(ctx, jid, &whatsmeow.GetProfilePictureParams{})
	switch {
	case errors.Is(err, whatsmeow.ErrProfilePictureNotSet), errors.Is(err, whatsmeow.ErrProfilePictureUnauthorized):
		return out, nil
	case err != nil:
		return out, refusal(err)
	case info != nil:
		out.URL, out.ID = optional(info.URL), optional(info.ID)
	}
	return out, nil
}

// person reads the JID of somebody.
func person(text string) (types.JID, error) {
	jid, err := types.ParseJID(text)
	if err != nil || jid.User == "" || jid.Server != types.DefaultUserServer && jid.Server != types.HiddenUserServer {
		return jid, wire.Refuse(wire.CodeInvalidRequest, "expected the JID of a person")
	}
	return jid.ToNonAD(), nil
}

// refusal tells what WhatsApp refuses from what went wrong.
func refusal(err error) error {
	switch {
	case errors.Is(err, whatsmeow.ErrNoPushName): // the phone has not told it yet
		return worker.ErrNotConnected
	case errors.Is(err, whatsmeow.ErrIQRateOverLimit):
		return wire.Refuse(wire.CodeRateLimited, "WhatsApp asks for fewer calls")
	case errors.Is(err, whatsmeow.ErrGroupNotFound), errors.Is(err, whatsmeow.ErrNotInGroup):
		return wire.Refuse(wire.CodeGroupNotFound, "there is no such group, or the session is not in it")
	case errors.Is(err, whatsmeow.ErrInviteLinkInvalid), errors.Is(err, whatsmeow.ErrInviteLinkRevoked):
		return wire.Refuse(wire.CodeInviteInvalid, "the invitation was revoked, or never was")
	}
	return err
}
