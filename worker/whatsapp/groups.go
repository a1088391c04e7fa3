package whatsapp

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"kurir/wire"
	"kurir/worker"
)

// ListGroups implements worker.Groups.
func (c *conn) ListGroups(ctx context.Context, in wire.Page) (out wire.Groups, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	joined, err := l.client.GetJoinedGroups(ctx)
	if err != nil {
		return out, refusal(err)
	}
	out.Groups = []wire.Group{}
	for _, g := range joined {
		if g.JID.String() > in.After {
			one := l.group(ctx, g)
			one.Participants = nil
			out.Groups = append(out.Groups, one)
		}
	}
	slices.SortFunc(out.Groups, func(a, b wire.Group) int { return strings.Compare(a.ID, b.ID) })
	if limit := max(in.Limit, 1); len(out.Groups) > limit {
		out.Groups, out.More = out.Groups[:limit], true
	}
	return out, nil
}

// Group implements worker.Groups.
func (c *conn) Group(ctx context.Context, in wire.GroupRef) (out wire.Group, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	return l.groupOf(ctx, in.Group)
}

func (l *link) groupOf(ctx context.Context, group string) (out wire.Group, err error) {
	jid, err := groupJID(group)
	if err != nil {
		return out, err
	}
	info, err := l.client.GetGroupInfo(ctx, jid)
	if err != nil {
		return out, refusal(err)
	}
	return l.group(ctx, info), nil
}

// group is one as the gateway wants it.
func (l *link) group(ctx context.Context, g *types.GroupInfo) wire.Group {
	owner, _ := l.people.both(ctx, g.OwnerJID, g.OwnerPN)
	out := wire.Group{ID: g.JID.String(), Subject: g.Name, CreatedAt: g.GroupCreated.UTC(), Size: len(g.Participants)}
	if !g.OwnerJID.IsEmpty() {
		out.Owner = l.people.name(ctx, g.OwnerJID, g.OwnerPN)
	}
	for _, p := range g.Participants {
		other := p.LID
		if p.JID.Server == types.HiddenUserServer {
			other = p.PhoneNumber
		}
		number, lid := l.people.both(ctx, p.JID, other)
		one := wire.Participant{JID: l.people.name(ctx, p.JID, other), Phone: phone(number), LID: text(lid), Name: optional(p.DisplayName), Role: wire.RoleMember}
		switch {
		case p.IsSuperAdmin, !owner.IsEmpty() && owner == number:
			one.Role = wire.RoleOwner
		case p.IsAdmin:
			one.Role = wire.RoleAdmin
		}
		out.Participants = append(out.Participants, one)
	}
	return out
}

// CreateGroup implements worker.Groups. WhatsApp is given the key but not known to heed it; so we remember the group of a key, by
// WhatsApp's answer or by its notification, which has the key too.
func (c *conn) CreateGroup(ctx context.Context, in wire.NewGroup) (out wire.NewGroupResult, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	members, err := persons(in.Participants)
	if err != nil {
		return out, err
	}
	key := strings.ReplaceAll(in.Key, "-", "")
	made, err := c.holder.madeGroup(ctx, key)
	if err != nil {
		return out, worker.ErrNotConnected
	}
	if made != "" {
		out.Group, err = l.groupOf(ctx, made)
		return out, err
	}
	out.Results = make([]wire.ParticipantResult, len(members))
	there, err := l.reachable(ctx, members, out.Results)
	if err != nil {
		return out, err
	}
	info, err := l.client.CreateGroup(ctx, whatsmeow.ReqCreateGroup{Name: in.Subject, Participants: there, CreateKey: key})
	if err != nil {
		return out, refusal(err)
	}
	if err := c.holder.keepGroup(ctx, key, info.JID.String()); err != nil {
		c.log.Warn("a group's key is not kept", "error", redact(err.Error()))
	}
	for _, p := range info.Participants {
		for i, m := range members {
			if p.Error != 0 && same(p, m) {
				out.Results[i].Code = participantCode(whatsmeow.ParticipantChangeAdd, p.Error)
			}
		}
	}
	info.Participants = slices.DeleteFunc(info.Participants, func(p types.GroupParticipant) bool { return p.Error != 0 })
	out.Group = l.group(ctx, info)
	return out, nil
}

// reachable leaves out the numbers that are not on WhatsApp, and says so in results. The others become WhatsApp's own address of them,
// in members too: it may have other digits than the number that was asked for.
func (l *link) reachable(ctx context.Context, members []types.JID, results []wire.ParticipantResult) (there []types.JID, err error) {
	var numbers []string
	for _, m := range members {
		if m.Server == types.DefaultUserServer {
			numbers = append(numbers, m.User)
		}
	}
	found := map[string]types.JID{}
	if len(numbers) > 0 {
		if found, err = l.look(ctx, numbers); err != nil {
			return nil, err
		}
	}
	for i, m := range members {
		results[i].JID = m.String()
		jid, ok := found[m.User]
		ok = ok && m.Server == types.DefaultUserServer
		switch {
		case ok:
			members[i] = jid.ToNonAD()
		case m.Server == types.DefaultUserServer:
			results[i].Code = "not_on_whatsapp"
			continue
		}
		if !slices.Contains(there, members[i]) {
			there = append(there, members[i])
		}
	}
	return there, nil
}

// same reports whether a participant is the one who was asked for.
func same(p types.GroupParticipant, asked types.JID) bool {
	return slices.ContainsFunc([]types.JID{p.JID, p.PhoneNumber, p.LID}, func(j types.JID) bool { return j.ToNonAD() == asked })
}

// participantCode is why WhatsApp did not do something to a participant.
func participantCode(change whatsmeow.ParticipantChange, code int) string {
	switch code {
	case 0, 200:
		return ""
	case 403, 408:
		return "invite_needed"
	case 404:
		if change == whatsmeow.ParticipantChangeAdd {
			return "not_on_whatsapp"
		}
		return "not_member"
	case 406:
		return "is_owner"
	case 409:
		return "already_member"
	}
	return "error_" + strconv.Itoa(code)
}

var changes = map[string]whatsmeow.ParticipantChange{
	wire.ChangeAdd: whatsmeow.ParticipantChangeAdd, wire.ChangeRemove: whatsmeow.ParticipantChangeRemove,
	wire.ChangePromote: whatsmeow.ParticipantChangePromote, wire.ChangeDemote: whatsmeow.ParticipantChangeDemote,
}

// ChangeParticipants implements worker.Groups.
func (c *conn) ChangeParticipants(ctx context.Context, in wire.ParticipantChange) (out wire.ParticipantResults, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	jid, err := groupJID(in.Group)
	if err != nil {
		return out, err
	}
	change, known := changes[in.Change]
	members, err := persons(in.Participants)
	if !known || err != nil {
		return out, wire.Refuse(wire.CodeInvalidRequest, "expected a change, and the JIDs of people")
	}
	asked := members
	out.Participants = make([]wire.ParticipantResult, len(members))
	for i, m := range members {
		out.Participants[i].JID = m.String()
	}
	if change == whatsmeow.ParticipantChangeAdd {
		if asked, err = l.newcomers(ctx, jid, members, out.Participants); err != nil {
			return wire.ParticipantResults{}, err
		}
	}
	if len(asked) == 0 {
		return out, nil
	}
	done, err := l.client.UpdateGroupParticipants(ctx, jid, asked, change)
	if err != nil {
		return wire.ParticipantResults{}, l.asAdmin(ctx, jid, err)
	}
	for _, p := range done {
		for i, m := range members {
			if out.Participants[i].Code == "" && same(p, m) {
				out.Participants[i].Code = participantCode(change, p.Error)
			}
		}
	}
	return out, nil
}

// newcomers are those of some people who can be added to a group, under WhatsApp's addresses, which members get too. Of the others it says
// why not in results.
func (l *link) newcomers(ctx context.Context, jid types.JID, members []types.JID, results []wire.ParticipantResult) ([]types.JID, error) {
	info, err := l.client.GetGroupInfo(ctx, jid)
	if err != nil {
		return nil, refusal(err)
	}
	there, err := l.reachable(ctx, members, results)
	if err != nil {
		return nil, err
	}
	for i, m := range members {
		if slices.ContainsFunc(info.Participants, func(p types.GroupParticipant) bool { return same(p, m) }) {
			results[i].Code = "already_member"
		}
	}
	return slices.DeleteFunc(there, func(m types.JID) bool { return results[slices.Index(members, m)].Code != "" }), nil
}

// asAdmin tells what only an administrator may do from what nobody can.
func (l *link) asAdmin(ctx context.Context, jid types.JID, err error) error {
	if !errors.Is(err, whatsmeow.ErrIQForbidden) && !errors.Is(err, whatsmeow.ErrIQNotAuthorized) && !errors.Is(err, whatsmeow.ErrGroupInviteLinkUnauthorized) {
		return refusal(err)
	}
	if _, err := l.client.GetGroupInfo(ctx, jid); err != nil {
		return refusal(err)
	}
	return wire.Refuse(wire.CodeNotGroupAdmin, "only an administrator of the group may do that")
}

// Invite implements worker.Groups.
func (c *conn) Invite(ctx context.Context, in wire.GroupRef) (wire.Invite, error) {
	return c.invite(ctx, in, false)
}

// RevokeInvite implements worker.Groups.
func (c *conn) RevokeInvite(ctx context.Context, in wire.GroupRef) (wire.Invite, error) {
	return c.invite(ctx, in, true)
}

func (c *conn) invite(ctx context.Context, in wire.GroupRef, anew bool) (out wire.Invite, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	jid, err := groupJID(in.Group)
	if err != nil {
		return out, err
	}
	out.Link, err = l.client.GetGroupInviteLink(ctx, jid, anew)
	if err != nil {
		return wire.Invite{}, l.asAdmin(ctx, jid, err)
	}
	out.Code = strings.TrimPrefix(out.Link, whatsmeow.InviteLinkPrefix)
	return out, nil
}

// LeaveGroup implements worker.Groups.
func (c *conn) LeaveGroup(ctx context.Context, in wire.GroupRef) (wire.Done, error) {
	l, leave, err := c.enter()
	if err != nil {
		return wire.Done{}, err
	}
	defer leave()
	jid, err := groupJID(in.Group)
	if err != nil {
		return wire.Done{}, err
	}
	// WhatsApp is not known to refuse those who are not in it.
	if _, err := l.client.GetGroupInfo(ctx, jid); err != nil {
		return wire.Done{}, refusal(err)
	}
	return wire.Done{}, refusal(l.client.LeaveGroup(ctx, jid))
}

// JoinGroup implements worker.Groups.
func (c *conn) JoinGroup(ctx context.Context, in wire.Invite) (out wire.Joined, err error) {
	l, leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	jid, err := l.client.JoinGroupWithLink(ctx, in.Code)
	if err != nil {
		return out, refusal(err)
	}
	return wire.Joined{Group: jid.String()}, nil
}

func groupJID(text string) (types.JID, error) {
	jid, err := types.ParseJID(text)
	if err != nil || jid.User == "" || jid.Server != types.GroupServer {
		return jid, wire.Refuse(wire.CodeInvalidRequest, "expected the JID of a group")
	}
	return jid, nil
}

func persons(list []string) (out []types.JID, err error) {
	for _, one := range list {
		jid, err := person(one)
		if err != nil {
			return nil, err
		}
		out = append(out, jid)
	}
	return out, nil
}
