package models

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/message"
)

// keptMarks bounds the reactions that a message remembers: each event about it carries them. The oldest go first.
const keptMarks = 200

// longestEmoji, in bytes, is more than any: families of four with skin tones take 41.
const longestEmoji = 64

// applyTargets has messages that are about others (reactions, edits, deletions, votes) take effect on those: to be called
// once for each of them, when it is a fact: it came in, or the network took it (an outcome says so, or a receipt that
// raises it from a lower status). It fills in the TargetID and
// Details.Target.MessageID of those whose target is known, in the rows too, and returns the events that tell of the
// changed targets, in order. What has no target that we know, or no right to change it, changes nothing.
//
// Targets are locked by ID, so call it before whatever locks lanes, and emit the events with those of the messages
// themselves. Whoever holds other messages by then may be a deadlock's victim and is run again: see InPgxTx.
func applyTargets(ctx context.Context, tx pgx.Tx, about []*Message) ([]Event, error) {
	t, err := lockTargets(ctx, tx, about)
	if err != nil {
		return nil, err
	}
	return t.apply(ctx, tx, about)
}

// target is a message that others are about, locked.
type target struct {
	Message
	session string // public name
	changed bool
}

// targets are the locked candidates, in the order of their IDs.
type targets []*target

// lockTargets finds targets by our ID where it is known, else by WhatsApp's: ours tell a range of IDs, the others have an
// index. One WhatsApp ID may have several rows, of which apply chooses.
func lockTargets(ctx context.Context, tx pgx.Tx, about []*Message) (targets, error) {
	var sessions []uuid.UUID
	var ids, lowest, highest []*uuid.UUID
	var names []string
	for _, m := range about {
		ref := targetRef(m)
		if m.TargetID == nil && ref.WhatsappID == "" {
			continue
		}
		var lo, hi *uuid.UUID
		if l, h, ok := idRange(ref.WhatsappID); ok && m.TargetID == nil {
			lo, hi = &l, &h
		}
		sessions, ids, names = append(sessions, m.SessionUID), append(ids, m.TargetID), append(names, ref.WhatsappID)
		lowest, highest = append(lowest, lo), append(highest, hi)
	}
	if len(sessions) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, `WITH found AS (
			SELECT DISTINCT x.id, w.session_uid
			FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[]) AS w (session_uid, target_id, whatsapp_id, lowest, highest)
			CROSS JOIN LATERAL (
				SELECT m.id FROM messages m WHERE m.id = w.target_id AND m.session_uid = w.session_uid
				UNION ALL
				SELECT m.id FROM messages m WHERE m.id >= w.lowest AND m.id <= w.highest AND m.session_uid = w.session_uid AND m.whatsapp_id = w.whatsapp_id
				UNION ALL
				(SELECT m.id FROM messages m WHERE w.target_id IS NULL AND m.seq = 0 AND m.session_uid = w.session_uid AND m.whatsapp_id = w.whatsapp_id LIMIT 8)
			) x)
		SELECT s.id, `+messageColumns+` FROM found f JOIN messages m ON m.session_uid = f.session_uid AND m.id = f.id
			JOIN sessions s ON s.uid = m.session_uid ORDER BY m.id FOR NO KEY UPDATE OF m`, sessions, ids, names, lowest, highest)
	if err != nil {
		return nil, fmt.Errorf("lock targets: %w", err)
	}
	defer rows.Close()
	var list targets
	for rows.Next() {
		t := new(target)
		if err := rows.Scan(scanMessage(&t.Message, &t.session)...); err != nil {
			return nil, fmt.Errorf("lock targets: %w", err)
		}
		list = append(list, t)
	}
	return list, rows.Err()
}

// apply changes the targets, in memory first, so that several messages may be about one.
func (list targets) apply(ctx context.Context, tx pgx.Tx, about []*Message) ([]Event, error) {
	var events []Event
	var tied []*Message
	for _, m := range about {
		t := list.of(m)
		if t == nil {
			continue
		}
		if tie(m, &t.Message) {
			tied = append(tied, m)
		}
		at := happened(m)
		event, changed := "", false
		switch strings.ToLower(m.MessageType) {
		case message.Edit:
			event, changed = "message.edited", t.edit(m.Content, at)
		case message.Delete:
			event, changed = "message.deleted", t.delete(at)
		case message.Reaction:
			event, changed = "message.reaction", t.react(m, at)
		}
		if changed {
			t.changed = true
			var data any = t.Resource(t.session)
			if event == "message.reaction" {
				data = m.reacted(t.Resource(t.session))
			}
			events = append(events, Event{Session: t.SessionUID, Type: event, Data: data, At: at, Trace: m.Trace})
		}
	}
	if err := list.write(ctx, tx); err != nil {
		return nil, err
	}
	return events, writeTies(ctx, tx, tied)
}

// of chooses the target of a message among those that were found.
func (list targets) of(m *Message) *target {
	ref := targetRef(m)
	for _, t := range list {
		named := m.TargetID == nil && t.WhatsappID == ref.WhatsappID || m.TargetID != nil && t.ID == *m.TargetID
		if named && t.SessionUID == m.SessionUID && t.ID != m.ID && mayChange(m, &t.Message) {
			return t
		}
	}
	return nil
}

// mayChange reports whether a message can be about another one. Only the author of a message edits it. Its author
// deletes it, or in a group an administrator, of which WhatsApp's servers make sure.
func mayChange(m, t *Message) bool {
	kind := strings.ToLower(m.MessageType)
	if message.About(strings.ToLower(t.MessageType)) || !maySameChat(m.Chat, t.Chat) {
		return false
	}
	switch kind {
	case message.Edit:
		return sameAuthor(m, t)
	case message.Delete:
		return sameAuthor(m, t) || m.Direction == Inbound && isGroup(m.Chat) && m.Chat == t.Chat
	}
	return message.About(kind)
}

func isGroup(chat string) bool { return strings.HasSuffix(chat, "@g.us") }

// maySameChat compares conversations by their addresses alone. A person's may go by number or by LID, and which of the two may change.
func maySameChat(a, b string) bool {
	personal := func(chat string) bool {
		return strings.HasSuffix(chat, "@lid") || strings.HasSuffix(chat, "@s.whatsapp.net")
	}
	_, serverA, _ := strings.Cut(a, "@")
	_, serverB, _ := strings.Cut(b, "@")
	return a == b || personal(a) && personal(b) && serverA != serverB
}

// sameAuthor compares the authors of two messages. In a chat of two, both not ours means the same one.
func sameAuthor(a, b *Message) bool {
	switch {
	case a.Direction != b.Direction:
		return false
	case a.Direction == Outbound:
		return true
	case a.FromNumber != nil && b.FromNumber != nil:
		return *a.FromNumber == *b.FromNumber
	case a.FromLID != nil && b.FromLID != nil:
		return *a.FromLID == *b.FromLID
	}
	return !isGroup(a.Chat)
}

func targetRef(m *Message) message.Ref {
	if m.Details == nil || m.Details.Target == nil {
		return message.Ref{}
	}
	return *m.Details.Target
}

// happened is when a message took effect.
func happened(m *Message) time.Time {
	if m.SentAt != nil {
		return *m.SentAt
	}
	return m.CreatedAt
}

// edit replaces the text, which of a medium is its caption. An edit that was overtaken by a later one changes nothing;
// the network's times are seconds, so of two at one time the second counts.
func (t *target) edit(text string, at time.Time) bool {
	content, caption := text, t.Caption
	if message.HasMedia(strings.ToLower(t.MessageType)) {
		content, caption = t.Content, optional(text)
	}
	if t.DeletedAt != nil || t.EditedAt != nil && (at.Before(*t.EditedAt) || at.Equal(*t.EditedAt) && content == t.Content && equal(caption, t.Caption)) {
		return false
	}
	t.Content, t.Caption, t.EditedAt = content, caption, &at
	return true
}

// delete marks the message as taken back. Its content stays: the tenant has seen it.
func (t *target) delete(at time.Time) bool {
	if t.DeletedAt != nil {
		return false
	}
	t.DeletedAt = &at
	return true
}

// react keeps the latest reaction of each person; an empty one takes theirs back.
func (t *target) react(m *Message, at time.Time) bool {
	if len(m.Content) > longestEmoji {
		return false
	}
	mine, names := m.Direction == Outbound, markNames(m)
	for i, former := range t.Reactions {
		if former.FromMe != mine || !mine && !slices.Contains(names, former.From) {
			continue
		}
		if at.Before(former.At) || former.Emoji == m.Content {
			return false
		}
		t.Reactions = slices.Delete(slices.Clone(t.Reactions), i, i+1)
		t.addMark(m, names, at)
		return true
	}
	return t.addMark(m, names, at)
}

func (t *target) addMark(m *Message, names []string, at time.Time) bool {
	if m.Content == "" {
		return false
	}
	mark := message.Mark{FromMe: m.Direction == Outbound, Emoji: m.Content, At: at}
	if len(names) > 0 {
		mark.From = names[0]
	}
	if m.FromLID != nil {
		mark.LID = *m.FromLID
	}
	if m.FromName != nil {
		mark.Name = *m.FromName
	}
	kept := t.Reactions[max(0, len(t.Reactions)-keptMarks+1):]
	t.Reactions = append(slices.Clone(kept), mark)
	return true
}

// markNames are the JIDs by which the author of a message may be known, the best one first.
func markNames(m *Message) []string {
	var names []string
	if m.FromNumber != nil {
		names = append(names, strings.TrimPrefix(*m.FromNumber, "+")+"@s.whatsapp.net")
	}
	if m.FromLID != nil {
		user, _, _ := strings.Cut(*m.FromLID, "@")
		names = append(names, user+"@lid")
	}
	return names
}

// tie notes in a message which one it is about. It reports whether that was news.
func tie(m, t *Message) bool {
	details := message.Details{}
	if m.Details != nil {
		details = *m.Details
	}
	ref := targetRef(m)
	if m.TargetID != nil && ref.MessageID != "" {
		return false
	}
	ref.MessageID, ref.WhatsappID, ref.FromMe = t.ID.String(), t.WhatsappID, t.Direction == Outbound
	details.Target = &ref
	id := t.ID
	m.TargetID, m.Details = &id, &details
	return true
}

// write writes the changed targets back.
func (list targets) write(ctx context.Context, tx pgx.Tx) error {
	var ids, sessions []uuid.UUID
	var contents []string
	var captions, reactions []*string
	var edited, deleted []*time.Time
	for _, t := range list {
		if !t.changed {
			continue
		}
		var marks *string
		if len(t.Reactions) > 0 {
			text, err := json.Marshal(t.Reactions)
			if err != nil {
				return err
			}
			s := string(text)
			marks = &s
		}
		ids, sessions, contents, captions = append(ids, t.ID), append(sessions, t.SessionUID), append(contents, t.Content), append(captions, t.Caption)
		edited, deleted, reactions = append(edited, t.EditedAt), append(deleted, t.DeletedAt), append(reactions, marks)
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE messages m SET content = t.content, caption = t.caption, edited_at = t.edited_at, deleted_at = t.deleted_at,
			reactions = t.reactions::jsonb, updated_at = now()
		FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::text[])
			AS t (id, session_uid, content, caption, edited_at, deleted_at, reactions)
		WHERE m.session_uid = t.session_uid AND m.id = t.id`, ids, sessions, contents, captions, edited, deleted, reactions)
	if err != nil {
		return fmt.Errorf("change targets: %w", err)
	}
	return nil
}

func writeTies(ctx context.Context, tx pgx.Tx, tied []*Message) error {
	if len(tied) == 0 {
		return nil
	}
	ids, sessions, targetIDs, details := make([]uuid.UUID, len(tied)), make([]uuid.UUID, len(tied)), make([]uuid.UUID, len(tied)), make([]string, len(tied))
	for i, m := range tied {
		text, err := json.Marshal(m.Details)
		if err != nil {
			return err
		}
		ids[i], sessions[i], targetIDs[i], details[i] = m.ID, m.SessionUID, *m.TargetID, string(text)
	}
	_, err := tx.Exec(ctx, `UPDATE messages m SET target_id = t.target_id, details = t.details::jsonb
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]) AS t (id, session_uid, target_id, details)
		WHERE m.session_uid = t.session_uid AND m.id = t.id`, ids, sessions, targetIDs, details)
	if err != nil {
		return fmt.Errorf("tie messages to targets: %w", err)
	}
	return nil
}
