package whatsapp

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/wire"
	"kurir/worker"
)

// chatPresence tells who types or records. It is of the moment, and nobody waits for it.
func (l *link) chatPresence(e *events.ChatPresence) {
	what := wire.PresencePaused
	if e.State == types.ChatPresenceComposing {
		what = wire.PresenceComposing
		if e.Media == types.ChatPresenceMediaAudio {
			what = wire.PresenceRecording
		}
	}
	l.seen(e.Chat, e.Sender, e.SenderAlt, what, nil)
}

// presence tells who is there.
func (l *link) presence(e *events.Presence) {
	what := wire.PresenceAvailable
	var last *time.Time
	if e.Unavailable {
		what = wire.PresenceUnavailable
		if !e.LastSeen.IsZero() {
			at := e.LastSeen.UTC()
			last = &at
		}
	}
	l.seen(e.From, e.From, types.EmptyJID, what, last)
}

func (l *link) seen(chat, who, other types.JID, what string, last *time.Time) {
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	now, name := time.Now().UTC(), l.people.name(ctx, chat, other)
	sender := l.people.name(ctx, who, other)
	l.c.sink(worker.Event{
		Type: wire.EventPresence, Kind: wire.EventPresence, Message: fmt.Sprintf("%s/%d", name, now.UnixMilli()), Sender: sender, Timestamp: now,
		Data: wire.PresenceData{Chat: name, Sender: sender, From: l.people.contact(ctx, who, other, ""), Presence: what, LastSeen: last},
	})
}

// video reports whether a call's offer is one with a picture.
func video(offer *waBinary.Node) bool {
	if offer == nil {
		return false
	}
	_, ok := offer.GetOptionalChildByTag("video")
	return ok
}

// call hands over a call, which is refused where the session wants it. whatsmeow takes no account of the answer: a call that the gateway
// does not have when the link ends comes again only if its acknowledgement does not go out any more.
func (l *link) call(meta types.BasicCallMeta, video bool) bool {
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	caller, chat := meta.CallCreator, meta.CallCreator
	if caller.IsEmpty() {
		caller, chat = meta.From, meta.From
	}
	if !meta.GroupJID.IsEmpty() {
		chat = meta.GroupJID
	}
	sender := l.people.name(ctx, caller, meta.CallCreatorAlt)
	d := wire.CallData{
		CallID: meta.CallID, Chat: l.people.name(ctx, chat, meta.CallCreatorAlt), Sender: sender,
		From: l.people.contact(ctx, caller, meta.CallCreatorAlt, ""), Video: video,
	}
	if l.c.session.RejectCalls != nil && l.c.session.RejectCalls() {
		if err := l.client.RejectCall(ctx, meta.From, meta.CallID); err != nil {
			l.c.log.Warn("a call is not refused", "error", redact(err.Error()))
		} else {
			d.Rejected = true
		}
	}
	return l.settled(worker.Event{Type: wire.EventCall, Kind: wire.EventCall, Message: meta.CallID, Sender: sender, Timestamp: meta.Timestamp.UTC(), Data: d})
}

// groupChange hands over what happened to a group, one event for each kind of change.
func (l *link) groupChange(e *events.GroupInfo) bool {
	for _, c := range changesOf(e) {
		if !l.tellGroup(e.JID, e.Sender, e.SenderPN, e.Timestamp, c) {
			return false
		}
	}
	return true
}

// groupStep is one kind of change of a group.
type groupStep struct {
	action      string
	members     []types.JID
	name, topic *string
	version     string
}

func changesOf(e *events.GroupInfo) (list []groupStep) {
	left := wire.GroupRemoved
	if len(e.Leave) == 1 && e.Sender != nil && e.Leave[0].User == e.Sender.User {
		left = wire.GroupLeft
	}
	for _, s := range []groupStep{
		{action: wire.GroupAdded, members: e.Join}, {action: left, members: e.Leave},
		{action: wire.GroupPromoted, members: e.Promote}, {action: wire.GroupDemoted, members: e.Demote},
	} {
		if len(s.members) > 0 {
			s.version = e.ParticipantVersionID
			list = append(list, s)
		}
	}
	if e.Name != nil {
		list = append(list, groupStep{action: wire.GroupChanged, name: &e.Name.Name})
	}
	if e.Topic != nil {
		list = append(list, groupStep{action: wire.GroupChanged, topic: &e.Topic.Topic})
	}
	return list
}

// joined hands over that the session is in a group now.
func (l *link) joined(e *events.JoinedGroup) bool {
	if e.CreateKey != "" {
		ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
		defer cancel()
		if err := l.c.holder.keepGroup(ctx, e.CreateKey, e.JID.String()); err != nil {
			l.c.log.Warn("a group's key is not kept", "error", redact(err.Error()))
		}
	}
	at := time.Now() // whatsmeow does not tell when somebody was put into a group that was there
	if e.Type == "new" {
		at = e.GroupCreated
	}
	version := cmp.Or(e.ParticipantVersionID, e.CreateKey, e.GroupCreated.UTC().String())
	return l.tellGroup(e.JID, e.Sender, e.SenderPN, at, groupStep{action: wire.GroupCreated, name: &e.Name, version: version})
}

func (l *link) tellGroup(group types.JID, by, byNumber *types.JID, at time.Time, s groupStep) bool {
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	d := wire.GroupData{Group: group.String(), Action: s.action, Name: s.name, Description: s.topic}
	if by != nil {
		var other types.JID
		if byNumber != nil {
			other = *byNumber
		}
		who := l.people.contact(ctx, *by, other, "")
		d.Sender, d.By = l.people.name(ctx, *by, other), &who
	}
	for _, m := range s.members {
		d.Members = append(d.Members, wire.Member{JID: l.people.name(ctx, m, types.EmptyJID), Contact: l.people.contact(ctx, m, types.EmptyJID, "")})
	}
	d.ChangeID = changeID(d, s.version, at)
	return l.settled(worker.Event{Type: wire.EventGroup, Kind: wire.EventGroup, Message: d.ChangeID, Sender: d.Sender, Timestamp: at.UTC(), Data: d})
}

// changeID names a change: whatsmeow does not tell WhatsApp's own name of it. Two equal changes in one second are one.
func changeID(d wire.GroupData, version string, at time.Time) string {
	text := fmt.Sprint(d.Group, d.Action, d.Sender, version)
	if version == "" {
		text += fmt.Sprint(at.Unix())
	}
	for _, m := range d.Members {
		text += m.JID
	}
	for _, t := range []*string{d.Name, d.Description} {
		if t != nil {
			text += *t
		}
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}
