package simulator

import (
	"context"
	"strings"

	"kurir/wire"
)

// CheckContacts implements worker.Contacts.
func (c *conn) CheckContacts(ctx context.Context, in wire.Numbers) (wire.Checked, error) {
	return ask(ctx, c, wire.CheckContacts, in)
}

// ListContacts implements worker.Contacts.
func (c *conn) ListContacts(ctx context.Context, in wire.Page) (wire.People, error) {
	return ask(ctx, c, wire.ListContacts, in)
}

// Contact implements worker.Contacts.
func (c *conn) Contact(ctx context.Context, in wire.Address) (wire.Person, error) {
	return ask(ctx, c, wire.GetContact, in)
}

// Picture implements worker.Contacts. The network names a path of its own.
func (c *conn) Picture(ctx context.Context, in wire.Address) (wire.Picture, error) {
	p, err := ask(ctx, c, wire.GetPicture, in)
	if err == nil && p.URL != nil {
		url := strings.TrimSuffix(c.engine.cfg.SimnetURL, "/") + *p.URL
		p.URL = &url
	}
	return p, err
}

// ListGroups implements worker.Groups.
func (c *conn) ListGroups(ctx context.Context, in wire.Page) (wire.Groups, error) {
	return ask(ctx, c, wire.ListGroups, in)
}

// Group implements worker.Groups.
func (c *conn) Group(ctx context.Context, in wire.GroupRef) (wire.Group, error) {
	return ask(ctx, c, wire.GetGroup, in)
}

// CreateGroup implements worker.Groups.
func (c *conn) CreateGroup(ctx context.Context, in wire.NewGroup) (wire.NewGroupResult, error) {
	return ask(ctx, c, wire.CreateGroup, in)
}

// ChangeParticipants implements worker.Groups.
func (c *conn) ChangeParticipants(ctx context.Context, in wire.ParticipantChange) (wire.ParticipantResults, error) {
	return ask(ctx, c, wire.ChangeParticipants, in)
}

// Invite implements worker.Groups.
func (c *conn) Invite(ctx context.Context, in wire.GroupRef) (wire.Invite, error) {
	return ask(ctx, c, wire.GetInvite, in)
}

// RevokeInvite implements worker.Groups.
func (c *conn) RevokeInvite(ctx context.Context, in wire.GroupRef) (wire.Invite, error) {
	return ask(ctx, c, wire.RevokeInvite, in)
}

// LeaveGroup implements worker.Groups.
func (c *conn) LeaveGroup(ctx context.Context, in wire.GroupRef) (wire.Done, error) {
	return ask(ctx, c, wire.LeaveGroup, in)
}

// JoinGroup implements worker.Groups.
func (c *conn) JoinGroup(ctx context.Context, in wire.Invite) (wire.Joined, error) {
	return ask(ctx, c, wire.JoinGroup, in)
}

// SetPresence implements worker.Presencer.
func (c *conn) SetPresence(ctx context.Context, in wire.Presence) (wire.Done, error) {
	return ask(ctx, c, wire.SetPresence, in)
}

// SubscribePresence implements worker.Presencer.
func (c *conn) SubscribePresence(ctx context.Context, in wire.Address) (wire.Done, error) {
	return ask(ctx, c, wire.SubscribePresence, in)
}

// MarkRead implements worker.Reader.
func (c *conn) MarkRead(ctx context.Context, in wire.ReadMarks) (wire.Done, error) {
	return ask(ctx, c, wire.MarkRead, in)
}

// PairingCode implements worker.Pairer.
func (c *conn) PairingCode(ctx context.Context, in wire.Pairing) (wire.PairingCode, error) {
	return ask(ctx, c, wire.GetPairingCode, in)
}
