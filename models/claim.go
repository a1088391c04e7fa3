package models

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/pacing"
)

// Claimed is a message that a lane's holder is to send now.
type Claimed struct {
	Message
	Fresh  bool // never tried before; otherwise it may have gone out already
	Parked bool // it waited for the caps on new chats
	Begun  bool // something was sent to its chat before
	Heard  bool // somebody there wrote once
	Warm   bool // and within pacing.WarmFor
	order  [2]int64
}

// Claim is what a holder finds in a lane.
type Claim struct {
	Held      bool // false: another runner has the lane
	Connected bool // false: the session is not connected, nothing is claimed
	Paused    bool // true: its owner or an administrator stopped it, nothing is claimed
	SessionID string
	UserID    uuid.UUID
	Epoch     int64
	WorkerID  string
	Guard     Guard
	Messages  []Claimed
}

// Want is what a holder asks of its lane.
type Want struct {
	Hold  *Hold
	Limit int // messages, at most
}

// ofLane is a part of a statement about one lane, $1, under its holder's generation, $2, where these are columns. The part must not have a
// table by that name.
func ofLane(part, lane, generation string) string {
	return strings.NewReplacer("$1", lane, "$2", generation).Replace(part)
}

// claimPlain marks the next due messages of lanes as SENDING under the holders' generations, in the order in which
// they are to go out: what an earlier generation or attempt left unsettled first, then what was never tried. A chat
// with a message that is backing off or held is passed over; the others go on. It finds nothing in guarded lanes.
var claimPlain = `
WITH lane AS MATERIALIZED (
	SELECT l.id, l.generation, w.size FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS w (id, generation, size)
	JOIN lanes l ON l.id = w.id AND l.generation = w.generation JOIN sessions s ON s.uid = l.id
	WHERE ` + connectedLane + ` AND NOT ` + guardedSession("$4") + `
), pick AS MATERIALIZED (
	SELECT lane.id AS lane, lane.generation, d.id, d.chat, d.seq, d.class, d.seq AS rank, false AS parked FROM lane CROSS JOIN LATERAL (
		SELECT * FROM (
			(SELECT c.id, c.chat, c.seq, 0 AS class FROM messages c
			 WHERE ` + ofLane(unsettledMessage, "lane.id", "lane.generation") + ` ORDER BY c.seq LIMIT lane.size)
			UNION ALL
			(SELECT c.id, c.chat, c.seq, 1 FROM messages c
			 WHERE ` + ofLane(freeMessage+` AND NOT `+blockedMessage, "lane.id", "lane.generation") + ` ORDER BY c.seq LIMIT lane.size)) due
		ORDER BY class, seq LIMIT lane.size) d
)` + ofLane(claimPicked, "p.lane", "p.generation")

// claimPicked ends both claims. A claim may have waited for one of an earlier generation: what it then gets was claimed
// before, and so has an attempt; one that comes too late gets nothing. A message that was held meanwhile is claimed all the same, and held anew by whoever
// sees why: what is behind it in its chat is claimed with it, and must not pass it.
const claimPicked = `
UPDATE messages m SET status = 'SENDING', generation = $2, next_attempt_at = NULL, waiting_for = NULL, updated_at = now(),
	attempts = m.attempts + CASE WHEN m.status = 'SENDING' AND m.next_attempt_at IS NULL THEN 1 ELSE 0 END,
	from_number = s.phone_number
FROM pick p JOIN sessions s ON s.uid = $1 LEFT JOIN chats h ON h.session_uid = $1 AND h.chat = p.chat
WHERE m.id = ANY(ARRAY[p.id])
  AND (m.status = 'PENDING' AND m.generation <= $2
    OR m.status = 'SENDING' AND (m.generation < $2 OR m.next_attempt_at <= now()))
RETURNING p.class > 0 AND m.attempts = 0, p.parked, h.first_sent_at IS NOT NULL, h.last_received_at IS NOT NULL,
	coalesce(h.last_received_at > now() - interval '24 hours', false), p.class, p.rank, ` + messageColumns + `
`

// messageColumns and scanMessage go together.
const messageColumns = `m.id, m.session_uid, m.direction, m.seq, m.chat, m.from_number, m.from_lid, m.from_name, m.from_me,
	m.to_number, m.message_type, m.content, m.media_url, m.filename, m.caption,
	m.media_id, m.media, m.details, m.target_id, m.priority, m.waiting_for, m.edited_at, m.deleted_at, m.reactions, m.status, m.error_code, m.error_message, m.whatsapp_id,
	m.generation, m.attempts, m.next_attempt_at, m.send_at, m.expires_at, m.metadata, m.sent_at, m.delivered_at, m.read_at,
	m.finished_at, m.trace, m.created_at, m.updated_at`

func scanMessage(m *Message, before ...any) []any {
	return append(before, &m.ID, &m.SessionUID, &m.Direction, &m.Seq, &m.Chat, &m.FromNumber, &m.FromLID, &m.FromName, &m.FromMe,
		&m.ToNumber, &m.MessageType, &m.Content, &m.MediaURL, &m.Filename, &m.Caption,
		&m.MediaID, &m.Media, &m.Details, &m.TargetID, &m.Priority, &m.WaitingFor, &m.EditedAt, &m.DeletedAt, &m.Reactions, &m.Status, &m.ErrorCode, &m.ErrorMessage, &m.WhatsappID,
		&m.Generation, &m.Attempts, &m.NextAttemptAt, &m.SendAt, &m.ExpiresAt, &m.Metadata, &m.SentAt, &m.DeliveredAt, &m.ReadAt,
		&m.FinishedAt, &m.Trace, &m.CreatedAt, &m.UpdatedAt)
}

// ClaimMessages claims up to limit messages of a lane, as ClaimPlain does. Whether the lane is guarded is learned with the first
// claim, which then is made anew, and kept in the hold.
func ClaimMessages(ctx context.Context, q Batcher, h *Hold, limit int) (*Claim, error) {
	if !h.Guarded {
		claims, err := ClaimPlain(ctx, q, []Want{{h, limit}})
		if err != nil {
			return nil, err
		}
		if c := claims[0]; !c.Anew(h) {
			return c, nil
		}
	}
	if h.OneByOne {
		limit = min(limit, 1)
	}
	claims, err := claimMessages(ctx, q, []Want{{h, limit}}, claimGuarded, h.Lane, h.Generation, limit)
	if err != nil {
		return nil, err
	}
	return claims[0], nil
}

// Anew reports whether a plain claim found nothing for the reason that its lane is guarded.
func (c *Claim) Anew(h *Hold) bool {
	return h.Guarded && len(c.Messages) == 0 && c.Held && c.Connected
}

// ClaimPlain claims messages of several lanes that are not known to be guarded, each of another holder, and answers each at its
// place. Where a lane turns out to be guarded, its hold says so, and mostly nothing is claimed.
func ClaimPlain(ctx context.Context, q Batcher, wants []Want) (claims []*Claim, err error) {
	lanes, generations := holdsOf(wants)
	limits := make([]int, len(wants))
	for i := range wants {
		limits[i] = wants[i].Limit
	}
	err = retryDeadlock(func() error {
		claims, err = claimMessages(ctx, q, wants, claimPlain, lanes, generations, limits, pacing.GentleEngines())
		return err
	})
	return claims, err
}

// term is a lane under one of its holders.
type term struct {
	lane       uuid.UUID
	generation int64
}

func holdsOf(wants []Want) (lanes []uuid.UUID, generations []int64) {
	lanes, generations = make([]uuid.UUID, len(wants)), make([]int64, len(wants))
	for i := range wants {
		lanes[i], generations[i] = wants[i].Hold.Lane, wants[i].Hold.Generation
	}
	return lanes, generations
}

// claimMessages claims by a statement. The statements run in one transaction and one round trip, without locking
// the lanes, so that accepts are not held up. The order makes that safe: next_seq is read before the claim, so that the
// release notices whatever the claim did not see, and the generation once more after it: if that is still ours, no
// other runner had taken the lane when we claimed, and whoever takes it later finds our claims.
func claimMessages(ctx context.Context, q Batcher, wants []Want, claim string, args ...any) ([]*Claim, error) {
	lanes, generations := holdsOf(wants)
	claims, guarded, nextSeqs := make([]*Claim, len(wants)), make([]bool, len(wants)), make([]int64, len(wants))
	place := make(map[term]int, len(wants))
	for i := range wants {
		claims[i], place[term{lanes[i], generations[i]}] = &Claim{}, i
	}
	var b pgx.Batch
	impatient(&b, len(wants))
	b.Queue(`SELECT l.id, l.generation, l.next_seq FROM unnest($1::uuid[], $2::bigint[]) AS w (id, generation)
		JOIN lanes l ON l.id = w.id AND l.generation = w.generation`, lanes, generations).Query(func(rows pgx.Rows) error {
		var t term
		var next int64
		_, err := pgx.ForEachRow(rows, []any{&t.lane, &t.generation, &next}, func() error {
			nextSeqs[place[t]] = next
			return nil
		})
		return err
	})
	b.Queue(claim, args...).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var m Claimed
			if err := rows.Scan(scanMessage(&m.Message, &m.Fresh, &m.Parked, &m.Begun, &m.Heard, &m.Warm, &m.order[0], &m.order[1])...); err != nil {
				return &LaneError{m.SessionUID, err}
			}
			c := claims[place[term{m.SessionUID, m.Generation}]]
			c.Messages = append(c.Messages, m)
		}
		return rows.Err()
	})
	b.Queue(lookSQL, lanes, generations, pacing.GentleEngines()).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			if err := look(rows, func(t term, isGuarded bool) *Claim {
				guarded[place[t]] = isGuarded
				return claims[place[t]]
			}); err != nil {
				return err
			}
		}
		return rows.Err()
	})
	if err := q.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("claim messages of %s: %w", lanes, err)
	}
	for i, w := range wants {
		sortClaimed(claims[i].Messages)
		w.Hold.NextSeq, w.Hold.Guarded, w.Hold.OneByOne = nextSeqs[i], guarded[i], claims[i].Guard.Pace.Rate > 0
	}
	return claims, nil
}

// sortClaimed restores the order of the claim, which RETURNING does not keep.
func sortClaimed(list []Claimed) {
	slices.SortFunc(list, func(a, b Claimed) int {
		return cmp.Or(cmp.Compare(a.order[0], b.order[0]), cmp.Compare(a.order[1], b.order[1]), cmp.Compare(a.Seq, b.Seq))
	})
}
