package api

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"kurir/address"
	"kurir/fault"
	"kurir/wire"
)

// GroupsInput asks for a page of groups.
type GroupsInput struct {
	SessionPath
	JIDPage
}

// GroupResource is a group that the session is in.
type GroupResource struct {
	ID           string             `json:"id" doc:"Its address: send to it" example:"120363012345678901@g.us"`
	Subject      string             `json:"subject" example:"Customers in Bandung"`
	Owner        string             `json:"owner" doc:"Address of who made it; empty if unknown"`
	CreatedAt    time.Time          `json:"createdAt"`
	Size         int                `json:"size" doc:"How many are in it"`
	Participants []GroupParticipant `json:"participants,omitempty" doc:"Not in lists"`
}

// GroupParticipant is somebody in a group.
type GroupParticipant struct {
	JID   string  `json:"jid" example:"6281234567890@s.whatsapp.net"`
	Phone *string `json:"phone" doc:"Null if it cannot be resolved"`
	LID   *string `json:"lid" doc:"WhatsApp's pseudonymous ID, null if unknown"`
	Name  *string `json:"name" doc:"The name that the person shows, null if unknown"`
	Role  string  `json:"role" enum:"owner,admin,member"`
}

func groupResource(g *wire.Group) GroupResource {
	r := GroupResource{ID: g.ID, Subject: g.Subject, Owner: g.Owner, CreatedAt: g.CreatedAt.UTC(), Size: g.Size}
	for _, p := range g.Participants {
		if p.LID == nil && strings.HasSuffix(p.JID, "@lid") {
			p.LID = &p.JID
		}
		r.Participants = append(r.Participants, GroupParticipant(p))
	}
	return r
}

// GroupList is a page of groups.
type GroupList struct {
	Groups     []GroupResource `json:"groups"`
	NextCursor *string         `json:"nextCursor"`
}

func (a *API) listGroups(ctx context.Context, in *GroupsInput) (*Reply[GroupList], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	groups, err := pass(ctx, a, s, wire.ListGroups, page)
	if err != nil {
		return nil, err
	}
	list, next := cut(groups.Groups, in.JIDPage, groups.More, func(g wire.Group) string { return g.ID })
	answer := GroupList{Groups: []GroupResource{}, NextCursor: next}
	for i := range list {
		list[i].Participants = nil
		answer.Groups = append(answer.Groups, groupResource(&list[i]))
	}
	return reply(answer), nil
}

// CreateGroupInput makes a group.
type CreateGroupInput struct {
	SessionPath
	OnceHeader
	Body struct {
		Subject      string   `json:"subject" minLength:"1" maxLength:"100" example:"Customers in Bandung"`
		Participants []string `json:"participants" minItems:"1" maxItems:"256" doc:"Phone numbers or WhatsApp addresses of people, besides the session" example:"[\"6281234567890\"]"`
	}
}

// ParticipantResult is what became of one participant.
type ParticipantResult struct {
	JID  string `json:"jid" example:"6281234567890@s.whatsapp.net"`
	OK   bool   `json:"ok"`
	Code string `json:"code,omitempty" doc:"Why it was not done: not_on_whatsapp, already_member, not_member, is_owner, invite_needed, or another one of WhatsApp's"`
}

func participantResults(list []wire.ParticipantResult) []ParticipantResult {
	results := []ParticipantResult{}
	for _, r := range list {
		results = append(results, ParticipantResult{JID: r.JID, OK: r.Code == "", Code: r.Code})
	}
	return results
}

// CreatedGroup is a new group, and who is in it.
type CreatedGroup struct {
	GroupResource
	Results []ParticipantResult `json:"results" doc:"What became of each participant"`
}

func (a *API) createGroup(ctx context.Context, in *CreateGroupInput) (*Reply[CreatedGroup], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(in.Body.Subject) == "" {
		return nil, fault.Field("subject", "expected a subject")
	}
	people, err := parsePeople(in.Body.Participants)
	if err != nil {
		return nil, err
	}
	g, err := pass(ctx, a, s, wire.CreateGroup, wire.NewGroup{Key: newResourceID(ctx).String(), Subject: in.Body.Subject, Participants: people})
	if err != nil {
		return nil, err
	}
	return reply(CreatedGroup{groupResource(&g.Group), participantResults(g.Results)}), nil
}

func parsePeople(list []string) ([]string, error) {
	people := make([]string, len(list))
	for i, text := range list {
		var err error
		if people[i], err = parsePerson(fmt.Sprintf("participants[%d]", i), text); err != nil {
			return nil, err
		}
	}
	return people, nil
}

// GroupPath names a group.
type GroupPath struct {
	SessionPath
	GroupID string `path:"groupId" maxLength:"64" doc:"The group's address" example:"120363012345678901@g.us"`
}

// jid is the group's address. What is none names no group.
func (p GroupPath) jid() (string, error) {
	user, _ := strings.CutSuffix(p.GroupID, "@"+address.Group)
	jid, err := address.Parse(user + "@" + address.Group)
	if err != nil {
		return "", errGroupNotFound
	}
	return jid, nil
}

// passGroup asks something about a group.
func passGroup[O any](ctx context.Context, a *API, in *GroupPath, call wire.Call[wire.GroupRef, O]) (out O, jid string, err error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return out, "", err
	}
	if jid, err = in.jid(); err != nil {
		return out, "", err
	}
	out, err = pass(ctx, a, s, call, wire.GroupRef{Group: jid})
	return out, jid, err
}

func (a *API) getGroup(ctx context.Context, in *GroupPath) (*Reply[GroupResource], error) {
	g, _, err := passGroup(ctx, a, in, wire.GetGroup)
	if err != nil {
		return nil, err
	}
	return reply(groupResource(&g)), nil
}

// ParticipantsInput names people to add or to remove.
type ParticipantsInput struct {
	GroupPath
	Body struct {
		Participants []string `json:"participants" minItems:"1" maxItems:"256" doc:"Phone numbers or WhatsApp addresses" example:"[\"6281234567890\"]"`
	}
}

// RolesInput says who is an administrator.
type RolesInput struct {
	GroupPath
	Body struct {
		Participants []string `json:"participants" minItems:"1" maxItems:"256" doc:"Phone numbers or WhatsApp addresses" example:"[\"6281234567890\"]"`
		Role         string   `json:"role" enum:"admin,member" example:"admin"`
	}
}

// ChangedParticipants says what became of each.
type ChangedParticipants struct {
	Participants []ParticipantResult `json:"participants"`
}

func (a *API) addParticipants(ctx context.Context, in *ParticipantsInput) (*Reply[ChangedParticipants], error) {
	return a.changeParticipants(ctx, &in.GroupPath, wire.ChangeAdd, in.Body.Participants)
}

func (a *API) removeParticipants(ctx context.Context, in *ParticipantsInput) (*Reply[ChangedParticipants], error) {
	return a.changeParticipants(ctx, &in.GroupPath, wire.ChangeRemove, in.Body.Participants)
}

func (a *API) setRoles(ctx context.Context, in *RolesInput) (*Reply[ChangedParticipants], error) {
	change := wire.ChangePromote
	if in.Body.Role == wire.RoleMember {
		change = wire.ChangeDemote
	}
	return a.changeParticipants(ctx, &in.GroupPath, change, in.Body.Participants)
}

func (a *API) changeParticipants(ctx context.Context, in *GroupPath, change string, list []string) (*Reply[ChangedParticipants], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	jid, err := in.jid()
	if err != nil {
		return nil, err
	}
	people, err := parsePeople(list)
	if err != nil {
		return nil, err
	}
	changed, err := pass(ctx, a, s, wire.ChangeParticipants, wire.ParticipantChange{Group: jid, Change: change, Participants: people})
	if err != nil {
		return nil, err
	}
	return reply(ChangedParticipants{participantResults(changed.Participants)}), nil
}

// GroupInvite leads into a group.
type GroupInvite struct {
	GroupID string `json:"groupId" example:"120363012345678901@g.us"`
	Code    string `json:"code"`
	Link    string `json:"link" example:"https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv"`
}

func (a *API) groupInvite(ctx context.Context, in *GroupPath) (*Reply[GroupInvite], error) {
	return inviteOf(passGroup(ctx, a, in, wire.GetInvite))
}

func (a *API) revokeInvite(ctx context.Context, in *GroupPath) (*Reply[GroupInvite], error) {
	return inviteOf(passGroup(ctx, a, in, wire.RevokeInvite))
}

func inviteOf(i wire.Invite, jid string, err error) (*Reply[GroupInvite], error) {
	if err != nil {
		return nil, err
	}
	return reply(GroupInvite{GroupID: jid, Code: i.Code, Link: i.Link}), nil
}

// LeftGroup is a group that the session is no longer in.
type LeftGroup struct {
	GroupID string `json:"groupId" example:"120363012345678901@g.us"`
}

func (a *API) leaveGroup(ctx context.Context, in *GroupPath) (*Reply[LeftGroup], error) {
	_, jid, err := passGroup(ctx, a, in, wire.LeaveGroup)
	if err != nil {
		return nil, err
	}
	return reply(LeftGroup{jid}), nil
}

// JoinGroupInput follows an invitation.
type JoinGroupInput struct {
	SessionPath
	Body struct {
		Link string `json:"link" minLength:"1" maxLength:"256" doc:"The invitation, or its code" example:"https://chat.whatsapp.com/AbCdEfGhIjKlMnOpQrStUv"`
	}
}

// JoinedGroup is the group that the invitation led into.
type JoinedGroup struct {
	GroupID string `json:"groupId" example:"120363012345678901@g.us"`
	Pending bool   `json:"pending" doc:"An administrator of the group has to agree first"`
}

var invitation = regexp.MustCompile(`^(?:https?://)?(?:chat\.whatsapp\.com/(?:invite/)?)?([A-Za-z0-9_-]{8,64})(?:\?[^\s]*)?$`)

// joinGroup reads the code out of the link. The link itself is never opened.
func (a *API) joinGroup(ctx context.Context, in *JoinGroupInput) (*Reply[JoinedGroup], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	match := invitation.FindStringSubmatch(strings.TrimSpace(in.Body.Link))
	if match == nil {
		return nil, fault.Field("link", "expected https://chat.whatsapp.com/… or the code behind it")
	}
	joined, err := pass(ctx, a, s, wire.JoinGroup, wire.Invite{Code: match[1]})
	if err != nil {
		return nil, err
	}
	return reply(JoinedGroup{GroupID: joined.Group, Pending: joined.Pending}), nil
}
