package simnet

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"kurir/wire"
)

// Group is a group of phones.
type Group struct {
	ID        string    `json:"id"` // JID
	Subject   string    `json:"subject"`
	Owner     string    `json:"owner"` // number
	CreatedAt time.Time `json:"createdAt"`
	Invite    string    `json:"invite"`
	Key       string    `json:"key,omitempty"` // of its creation
	Members   []Member  `json:"members"`
}

// Member is one phone in a group.
type Member struct {
	Number string `json:"number"`
	Role   string `json:"role"`
}

// maxMembers is WhatsApp's bound.
const maxMembers = 1024

// groupbook finds groups. Its lock is taken after a session's.
type groupbook struct {
	mu     sync.RWMutex
	groups map[string]*Group
	keys   map[string]*Group // by creator and key
}

func (b *groupbook) put(g *Group) {
	if b.groups == nil {
		b.groups, b.keys = map[string]*Group{}, map[string]*Group{}
	}
	b.groups[g.ID] = g
	if g.Key != "" {
		b.keys[g.Owner+" "+g.Key] = g
	}
}

// members lists who is in a group; ok is false if the network knows no such group.
func (b *groupbook) members(jid string) (numbers []string, ok bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	g := b.groups[jid]
	if g == nil {
		return nil, false
	}
	for _, m := range g.Members {
		numbers = append(numbers, m.Number)
	}
	return numbers, true
}

// of lists the groups that a number is in.
func (b *groupbook) of(number string) []string {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list := []string{}
	for id, g := range b.groups {
		if g.index(number) >= 0 {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list
}

func (g *Group) index(number string) int {
	return slices.IndexFunc(g.Members, func(m Member) bool { return m.Number == number })
}

func (g *Group) administers(number string) bool {
	i := g.index(number)
	return i >= 0 && g.Members[i].Role != wire.RoleMember
}

func (g *Group) resource(participants bool) wire.Group {
	out := wire.Group{ID: g.ID, Subject: g.Subject, Owner: jidOf(g.Owner), CreatedAt: g.CreatedAt, Size: len(g.Members)}
	for _, m := range g.Members {
		if participants {
			phone := "+" + m.Number
			out.Participants = append(out.Participants, wire.Participant{JID: jidOf(m.Number), Phone: &phone, Role: m.Role})
		}
	}
	return out
}

// inGroup does something with a group that a session is in, as an administrator if asked for, and writes the group down
// if it changed.
func (n *Network) inGroup(s *session, jid string, admin, changes bool, do func(g *Group)) error {
	n.groups.mu.Lock()
	defer n.groups.mu.Unlock()
	g := n.groups.groups[jid]
	switch {
	case g == nil || g.index(s.number) < 0:
		return wire.Refuse(wire.CodeGroupNotFound, "the session is in no such group")
	case admin && !g.administers(s.number):
		return wire.Refuse(wire.CodeNotGroupAdmin, "only an administrator of the group may do that")
	}
	do(g)
	if changes {
		n.keepGroup(g)
	}
	return nil
}

// keepGroup journals a group as it is now. Callers hold the groups' lock.
func (n *Network) keepGroup(g *Group) {
	n.groups.put(g)
	state := *g
	state.Members = slices.Clone(g.Members)
	n.journal.add(entry{Op: opGroup, Group: &state})
}

func (n *Network) listGroups(s *session, in wire.Page) (out wire.Groups, err error) {
	n.groups.mu.RLock()
	defer n.groups.mu.RUnlock()
	own := map[string]*Group{}
	for id, g := range n.groups.groups {
		if g.index(s.number) >= 0 {
			own[id] = g
		}
	}
	ids, more := page(own, in, func(id string) string { return id })
	out.More = more
	for _, id := range ids {
		out.Groups = append(out.Groups, own[id].resource(false))
	}
	return out, nil
}

func (n *Network) group(s *session, in wire.GroupRef) (out wire.Group, err error) {
	err = n.inGroup(s, in.Group, false, false, func(g *Group) { out = g.resource(true) })
	return out, err
}

func (n *Network) createGroup(s *session, in wire.NewGroup) (out wire.NewGroupResult, err error) {
	n.groups.mu.Lock()
	defer n.groups.mu.Unlock()
	if g := n.groups.keys[s.number+" "+in.Key]; g != nil && in.Key != "" {
		return wire.NewGroupResult{Group: g.resource(true)}, nil
	}
	g := &Group{ID: newGroupID(), Subject: in.Subject, Owner: s.number, CreatedAt: time.Now().UTC().Truncate(time.Second), Invite: codeText(22), Key: in.Key,
		Members: []Member{{s.number, wire.RoleOwner}}}
	for _, jid := range in.Participants {
		out.Results = append(out.Results, wire.ParticipantResult{JID: jid, Code: g.change(wire.ChangeAdd, jid)})
	}
	n.keepGroup(g)
	out.Group = g.resource(true)
	return out, nil
}

func newGroupID() string {
	digits, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000_000))
	if err != nil {
		panic(err) // the reader of crypto/rand never fails
	}
	return fmt.Sprintf("120363%012d@g.us", digits)
}

func codeText(length int) string { return rand.Text()[:length] }

func (n *Network) changeParticipants(s *session, in wire.ParticipantChange) (out wire.ParticipantResults, err error) {
	err = n.inGroup(s, in.Group, true, true, func(g *Group) {
		for _, jid := range in.Participants {
			out.Participants = append(out.Participants, wire.ParticipantResult{JID: jid, Code: g.change(in.Change, jid)})
		}
	})
	return out, err
}

// change changes one participant and returns why it can't be done, or "".
func (g *Group) change(what, jid string) string {
	number, err := personAt(jid)
	if err != nil {
		return CodeNotOnWhatsApp
	}
	i := g.index(number)
	switch {
	case what == wire.ChangeAdd && i >= 0:
		return "already_member"
	case what == wire.ChangeAdd && len(g.Members) >= maxMembers:
		return "group_full"
	case what == wire.ChangeAdd:
		g.Members = append(g.Members, Member{number, wire.RoleMember})
	case i < 0:
		return "not_member"
	case g.Members[i].Role == wire.RoleOwner:
		return "is_owner"
	case what == wire.ChangeRemove:
		g.Members = slices.Delete(g.Members, i, i+1)
	case what == wire.ChangePromote:
		g.Members[i].Role = wire.RoleAdmin
	case what == wire.ChangeDemote:
		g.Members[i].Role = wire.RoleMember
	default:
		return "unknown_change"
	}
	return ""
}

const inviteURL = "https://chat.whatsapp.com/"

func (g *Group) invitation() wire.Invite {
	return wire.Invite{Code: g.Invite, Link: inviteURL + g.Invite}
}

func (n *Network) invite(s *session, in wire.GroupRef) (out wire.Invite, err error) {
	err = n.inGroup(s, in.Group, true, false, func(g *Group) { out = g.invitation() })
	return out, err
}

func (n *Network) revokeInvite(s *session, in wire.GroupRef) (out wire.Invite, err error) {
	err = n.inGroup(s, in.Group, true, true, func(g *Group) {
		g.Invite = codeText(22)
		out = g.invitation()
	})
	return out, err
}

// leaveGroup: somebody always administers a group.
func (n *Network) leaveGroup(s *session, in wire.GroupRef) (wire.Done, error) {
	return wire.Done{}, n.inGroup(s, in.Group, false, true, func(g *Group) {
		g.Members = slices.DeleteFunc(g.Members, func(m Member) bool { return m.Number == s.number })
		if len(g.Members) > 0 && !slices.ContainsFunc(g.Members, func(m Member) bool { return m.Role != wire.RoleMember }) {
			g.Members[0].Role = wire.RoleAdmin
		}
	})
}

func (n *Network) joinGroup(s *session, in wire.Invite) (wire.Joined, error) {
	n.groups.mu.Lock()
	defer n.groups.mu.Unlock()
	for _, g := range n.groups.groups {
		if g.Invite != in.Code || len(g.Members) == 0 {
			continue
		}
		if code := g.change(wire.ChangeAdd, jidOf(s.number)); code == "group_full" {
			return wire.Joined{}, wire.Refuse(wire.CodeInviteInvalid, "the group is full")
		}
		n.keepGroup(g)
		return wire.Joined{Group: g.ID}, nil
	}
	return wire.Joined{}, wire.Refuse(wire.CodeInviteInvalid, "this invitation leads nowhere")
}

// mayWrite refuses sends to a group that the session is not in. A group that was not made here takes everything.
func (n *Network) mayWrite(s *session, to string) bool {
	members, ok := n.groups.members(to)
	return !ok || slices.Contains(members, s.number)
}

// showMembers puts a message to a group on its members' phones. Callers hold s.mu.
func (n *Network) showMembers(s *session, group string, m Shown) {
	members, _ := n.groups.members(group)
	m.Group = group
	for _, number := range members {
		if number != s.number {
			n.phones.get(number).show(m)
		}
	}
}

// arriveInGroup delivers a message to the members that are sessions, too.
func (n *Network) arriveInGroup(s *session, from, group string, m *Shown) {
	members, _ := n.groups.members(group)
	for _, number := range members {
		p := n.phones.find(number)
		if p == nil || number == from {
			continue
		}
		if owner := p.owner.Load(); owner != nil && owner != s {
			e := arrival(jidOf(from), m)
			e.Chat = group
			owner.emit(e)
		}
	}
}

// page cuts the page out of a map's keys, as sorted by what id makes of them.
func page[V any](all map[string]V, in wire.Page, id func(string) string) (keys []string, more bool) {
	keys = slices.SortedFunc(maps.Keys(all), func(a, b string) int { return strings.Compare(id(a), id(b)) })
	first, found := slices.BinarySearchFunc(keys, in.After, func(key, after string) int { return cmp.Compare(id(key), after) })
	if found {
		first++
	}
	keys = keys[first:]
	if in.Limit > 0 && len(keys) > in.Limit {
		return keys[:in.Limit], true
	}
	return keys, false
}
