package jobs

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/embedded/embeddedtest"
	"kurir/media"
	"kurir/message"
	"kurir/models"
	"kurir/monitoring"
	"kurir/pacing"
	"kurir/wire"
)

// guardModel is the part of the lane model that knows of priorities, holds, paces, caps, cool-downs and pauses.
type guardModel struct {
	stopped bool    // by anybody
	owner   bool    // by the session's owner
	held    [3]bool // by an administrator: the session, its owner, everything
	stored  string  // settings, "" for none
	pace    pacing.Pace
	begun   map[string]bool
	heard   map[string]*time.Time
	told    int // cool-downs of which subscribers were told
}

type noStore struct{}

func (noStore) Fetch(context.Context, uuid.UUID, string, string) (message.Media, error) {
	return message.Media{}, media.ErrStore
}

func modelSender(t *testing.T, db *models.DB, metrics *monitoring.Metrics) *sender {
	client := embeddedtest.RedisClient(t)
	queue := NewQueue(client, quiet)
	waker := NewWaker(queue, quiet, metrics)
	t.Cleanup(waker.Close)
	return &sender{db: db, lanes: NewLanes(db, uuid.New(), quiet), queue: queue, waker: waker, metrics: metrics, log: quiet, media: noStore{}, luck: func() float64 { return 0.5 }}
}

func (r *modelRow) free() bool { return r.status == models.MessagePending && r.nextAt == nil }

func (r *modelRow) due(now time.Time) bool { return r.sendAt == nil || !r.sendAt.After(now) }

func (r *modelRow) parked() bool {
	return r.status == models.MessagePending && r.waiting == models.WaitingNewChat
}

// heldBefore reports whether an earlier message of the chat is due and held.
func (m *laneModel) heldBefore(r *modelRow, now time.Time) bool {
	return slices.ContainsFunc(m.rows, func(b *modelRow) bool {
		return b.chat == r.chat && b.seq < r.seq && b.status == models.MessagePending && b.nextAt != nil && b.due(now)
	})
}

func (m *laneModel) backsOff(chat string, now time.Time) bool {
	return slices.ContainsFunc(m.rows, func(b *modelRow) bool {
		return b.chat == chat && b.status == models.MessageSending && b.nextAt != nil && b.nextAt.After(now)
	})
}

// strangerWaits reports whether something that is not parked goes before a parked message in its chat.
func (m *laneModel) strangerWaits(r *modelRow, now time.Time) bool {
	return m.backsOff(r.chat, now) || slices.ContainsFunc(m.rows, func(b *modelRow) bool {
		return b.chat == r.chat && b.seq < r.seq && b.status == models.MessagePending && !b.parked() && b.due(now)
	})
}

// gates is what PostgreSQL says of the session's pace and pause at this moment.
type gates struct {
	guarded, sessionGuarded             bool
	cooling                             bool
	until, repliesAt, nextAt, newChatAt time.Time
	warm                                map[string]bool
}

func (m *laneModel) gates() *gates {
	g := &gates{warm: map[string]bool{}}
	var until, replies, next, chat *time.Time
	var paces bool
	m.ok(m.db.Pool.QueryRow(m.ctx, `SELECT s.cooldown_until, s.cooldown_replies_at, p.next_send_at, p.new_chat_at, p.session_uid IS NOT NULL
		FROM sessions s LEFT JOIN paces p ON p.session_uid = s.uid WHERE s.uid = $1`, m.session.UID).Scan(&until, &replies, &next, &chat, &paces))
	now := time.Now()
	for to, from := range map[*time.Time]*time.Time{&g.until: until, &g.repliesAt: replies, &g.nextAt: next, &g.newChatAt: chat} {
		if from != nil {
			*to = *from
		}
	}
	g.cooling = g.until.After(now)
	g.sessionGuarded = m.stored != "" || paces || g.until.After(now.Add(-24*time.Hour))
	g.guarded = g.sessionGuarded || slices.ContainsFunc(m.rows, func(r *modelRow) bool { return r.free() && r.priority > 0 })
	for chat, at := range m.heard {
		g.warm[chat] = at != nil && at.After(now.Add(-pacing.WarmFor))
	}
	return g
}

// pass is when a message that could go at some time passes the gates.
func (g *gates) pass(r *modelRow, at *time.Time) *time.Time {
	t := maxTime(*at, g.nextAt)
	if g.cooling {
		t = maxTime(t, g.repliesAt)
		if !g.warm[r.chat] || r.parked() {
			t = maxTime(t, g.until)
		}
	}
	return &t
}

// predict says which messages a claim should take, in order.
func (m *laneModel) predict(h *models.Hold, g *gates, limit int, now time.Time) ([]int64, bool) {
	if !h.Guarded {
		if !g.sessionGuarded {
			return m.claimable(h.Generation, limit, now)
		}
		return m.claimableGuarded(h.Generation, g, m.oneByOne(m.pace.Rate > 0, limit), now)
	}
	return m.claimableGuarded(h.Generation, g, m.oneByOne(h.OneByOne, limit), now)
}

func (m *laneModel) oneByOne(is bool, limit int) int {
	if is {
		return 1
	}
	return limit
}

func (m *laneModel) claimableGuarded(generation int64, g *gates, limit int, now time.Time) (list []int64, unsure bool) {
	for _, at := range []time.Time{g.nextAt, g.newChatAt, g.until, g.repliesAt} {
		unsure = unsure || at.Sub(now).Abs() < 3*time.Millisecond
	}
	if !m.connected || m.stopped || generation != m.generation || g.nextAt.After(now) || g.cooling && g.repliesAt.After(now) {
		return nil, unsure
	}
	near := func(at *time.Time) { unsure = unsure || at != nil && at.Sub(now).Abs() < 3*time.Millisecond }
	type candidate struct {
		class     int
		rank, seq int64
	}
	best := map[int64]candidate{}
	add := func(some []candidate) {
		slices.SortFunc(some, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.seq, b.seq)) })
		for _, c := range some[:min(limit, len(some))] {
			was, is := best[c.seq]
			if !is || c.class < was.class {
				best[c.seq] = c
			}
		}
	}
	cold := func(r *modelRow) bool { return g.cooling && !g.warm[r.chat] }
	var unsettled, urgent, normal []candidate
	top, rank := map[string]int64{}, map[string]int64{}
	for _, r := range m.rows {
		near(r.nextAt)
		near(r.sendAt)
		if r.free() && r.due(now) && r.priority > 0 && !cold(r) {
			if rank[r.chat] == 0 {
				rank[r.chat] = r.seq
			}
			top[r.chat] = r.seq
		}
	}
	for _, r := range m.rows {
		doubtBefore := slices.ContainsFunc(m.rows, func(b *modelRow) bool {
			return b.chat == r.chat && b.seq < r.seq && b.status == models.MessageSending && b.nextAt != nil && b.nextAt.After(now)
		})
		switch {
		case cold(r):
		case r.status == models.MessageSending:
			if due := r.nextAt != nil && !r.nextAt.After(now) || r.nextAt == nil && r.generation < generation; due && !doubtBefore {
				unsettled = append(unsettled, candidate{0, r.seq, r.seq})
			}
		case r.free() && r.due(now) && !m.backsOff(r.chat, now) && !m.heldBefore(r, now):
			normal = append(normal, candidate{2, r.seq, r.seq})
			if r.seq <= top[r.chat] {
				urgent = append(urgent, candidate{1, rank[r.chat], r.seq})
			}
		}
	}
	add(unsettled)
	add(urgent)
	add(normal)
	if first, rush, rank := m.nextStranger(now); first != nil && !g.cooling && !g.newChatAt.After(now) {
		class := 2
		if rush {
			class = 1
		}
		add([]candidate{{class, rank, first.seq}})
	}
	var all []candidate
	for _, c := range best {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.rank, b.rank), cmp.Compare(a.seq, b.seq))
	})
	for _, c := range all[:min(limit, len(all))] {
		list = append(list, c.seq)
	}
	return list, unsure
}

func (m *laneModel) nextStranger(now time.Time) (first *modelRow, rush bool, rank int64) {
	var chosen *modelRow
	for _, r := range m.rows {
		if r.parked() && !m.strangerWaits(r, now) && (chosen == nil || r.priority > chosen.priority) {
			chosen = r
		}
	}
	if chosen == nil {
		return nil, false, 0
	}
	for _, r := range m.rows {
		if r.parked() && r.chat == chosen.chat {
			return r, chosen.priority > 0, chosen.seq
		}
	}
	return nil, false, 0
}

// special makes some of the accepted messages special.
func (m *laneModel) special(r *modelRow) {
	if m.rng.IntN(6) == 0 {
		r.priority = 1
		m.exec(`UPDATE messages SET priority = 1 WHERE id = $1`, r.id)
	}
	if m.rng.IntN(8) == 0 {
		r.unfetched = true
		m.exec(`UPDATE messages SET media_url = 'https://example.com/x.png' WHERE id = $1`, r.id)
	}
}

// settled applies to the model what a round wrote.
func (m *laneModel) settled(r *modelRunner) {
	for _, o := range r.round.outcomes {
		row := m.row(o.Message.ID)
		if row.status != models.MessageSending || row.generation != r.hold.Generation {
			continue
		}
		row.status, row.nextAt, row.waiting = o.Status, o.NextAttemptAt, o.WaitingFor
		if o.Tried {
			row.attempts++
			row.doubted = true
		}
	}
	for _, chat := range r.round.begun {
		m.begun[chat] = true
		m.unpark(chat)
	}
	if r.round.parked && r.hold.Generation == m.generation {
		for _, row := range m.rows {
			if row.free() && row.due(time.Now()) && !m.begun[row.chat] && m.heard[row.chat] == nil {
				until := row.expiresAt
				row.nextAt, row.waiting = &until, models.WaitingNewChat
			}
		}
	}
	for _, o := range r.round.outcomes { // somebody may have written since his message was put back
		if row := m.row(o.Message.ID); o.WaitingFor == models.WaitingNewChat && row.parked() && (m.begun[row.chat] || m.heard[row.chat] != nil) {
			row.nextAt, row.waiting = nil, ""
		}
	}
	g := m.gates()
	if former := r.round.claim.Guard.Cooldown; former != r.round.cooldown && g.until.Equal(r.round.cooldown.Until.Truncate(time.Microsecond)) &&
		former.Begins(r.round.cooldown, r.round.claim.Guard.Now) {
		m.told++
	}
}

func (m *laneModel) unpark(chat string) {
	for _, row := range m.rows {
		if row.chat == chat && row.parked() {
			row.nextAt, row.waiting = nil, ""
		}
	}
}

// receive has somebody write.
func (m *laneModel) receive() {
	chat := string(rune('a' + m.rng.IntN(3)))
	m.note("somebody writes in chat %s", chat)
	m.ingest(event(wire.EventMessageReceived, wire.ReceivedData{WhatsappID: uuid.NewString(), Chat: chat, Sender: chat, Type: "text", Message: "hi"}))
	now := time.Now()
	if was := m.heard[chat]; was == nil || now.Sub(*was) > time.Minute {
		m.heard[chat] = &now
		m.unpark(chat)
	}
}

// settings are changed by the session's owner.
func (m *laneModel) set(patch string) {
	m.ok(models.UpdateSession(m.ctx, m.db, m.session.UID, models.SessionChange{Settings: json.RawMessage(patch)}))
	s, err := models.SessionByUID(m.ctx, m.db, m.session.UID)
	m.ok(err)
	m.stored = ""
	if s.Settings != nil {
		m.stored = patch
	}
	m.owner, m.pace = s.Paused(), s.Pace()
	m.stopped = m.owner || slices.Contains(m.held[:], true)
	m.note("settings %s", patch)
}

// pauseBy has an administrator pause or resume something.
func (m *laneModel) pauseBy() {
	what := m.rng.IntN(len(m.held))
	m.setHeld(what, !m.held[what])
}

func (m *laneModel) setHeld(what int, paused bool) {
	m.ok(m.db.InPgxTx(m.ctx, func(tx pgx.Tx) (err error) {
		switch what {
		case 0:
			_, err = models.PauseSession(m.ctx, tx, m.session.UID, paused)
		case 1:
			_, _, err = models.PauseUser(m.ctx, tx, m.session.UserID, paused)
		default:
			_, err = models.PausePlatform(m.ctx, tx, paused)
		}
		return err
	}))
	m.held[what] = paused
	m.stopped = m.owner || slices.Contains(m.held[:], true)
	m.note("administrator's pause %d: %v", what, paused)
}

func (m *laneModel) patch() {
	choices := []string{`null`, `null`, `{"pacing":{"newChatsPerHour":1}}`, `{"pacing":{"newChatsPerHour":4,"messagesPerMinute":20}}`, `{"pacing":{"messagesPerMinute":600}}`,
		`{"paused":true}`, `{"paused":null}`}
	m.set(choices[m.rng.IntN(len(choices))])
}

func (m *laneModel) endHolds() {
	_, err := models.EndHolds(m.ctx, m.db.Pool, 1000)
	m.ok(err)
	now := time.Now()
	for _, r := range m.rows {
		if r.status == models.MessagePending && r.nextAt != nil && r.nextAt.Before(now) {
			r.nextAt, r.waiting = nil, ""
		}
	}
	m.note("holds end")
}

func (m *laneModel) fetchEnds() {
	var held []*modelRow
	for _, r := range m.rows {
		if r.unfetched && r.open() {
			held = append(held, r)
		}
	}
	if len(held) == 0 {
		return
	}
	r := held[m.rng.IntN(len(held))]
	switch m.rng.IntN(3) {
	case 0: // it failed
		final := m.rng.IntN(2) == 0
		failed, _, err := models.FetchFailed(m.ctx, m.db, m.asMessage(r), "media_unavailable", "gone", func(int) time.Duration {
			if final {
				return 0
			}
			return 10 * time.Second
		})
		m.ok(err)
		m.note("the fetch for %d failed, finally: %v", r.seq, failed)
		is := r.open() && r.waiting == models.WaitingMedia
		if failed != (is && final) {
			m.failf("the fetch for %d failed: %v", r.seq, failed)
		}
		switch next := time.Now().Add(10 * time.Second); {
		case failed:
			r.status, r.nextAt, r.waiting, r.noMedium = models.MessageFailed, nil, "", true
		case is:
			m.ok(m.db.Pool.QueryRow(m.ctx, `SELECT next_attempt_at FROM messages WHERE id = $1`, r.id).Scan(&r.nextAt))
			if r.nextAt.Sub(next).Abs() > time.Second {
				m.failf("held until %v", in(r.nextAt))
			}
		}
	default:
		m.fetched(r)
	}
}

func (m *laneModel) asMessage(r *modelRow) *models.Message {
	return &models.Message{ID: r.id, SessionUID: m.session.UID, SendAt: r.sendAt}
}

func (m *laneModel) fetched(r *modelRow) {
	ok, err := models.Fetched(m.ctx, m.db, m.asMessage(r), uuid.New(), message.Media{MIMEType: "image/png"})
	m.ok(err)
	m.note("the medium of %d is here: %v", r.seq, ok)
	if ok != (r.status == models.MessagePending || r.status == models.MessageSending && r.waiting == models.WaitingMedia) {
		m.failf("fetched %d: %v", r.seq, ok)
	}
	if ok {
		r.unfetched, r.waiting = false, ""
		m.ok(m.db.Pool.QueryRow(m.ctx, `SELECT next_attempt_at FROM messages WHERE id = $1`, r.id).Scan(&r.nextAt))
		if due := r.nextAt != nil && r.nextAt.Before(time.Now().Add(time.Millisecond)); due != (r.status == models.MessageSending) {
			m.failf("fetched %d, next %v", r.seq, in(r.nextAt))
		}
	}
}

func (m *laneModel) fetchAll() {
	for _, r := range m.rows {
		if r.unfetched && (r.status == models.MessagePending || r.waiting == models.WaitingMedia) {
			m.fetched(r)
		}
	}
}

func (m *laneModel) unsettled() bool { return slices.ContainsFunc(m.rows, (*modelRow).open) }

// releasedGuarded: never too late, and not at once for nothing.
func (m *laneModel) releasedGuarded(h models.Hold, next, earliest *time.Time) {
	now := time.Now()
	if earliest != nil && (next == nil || next.After(maxTime(*earliest, now).Add(50*time.Millisecond))) {
		m.failf("released with next due %v, the model says %v", in(next), in(earliest))
	}
	if h.Guarded && next != nil && !next.After(now) {
		h.Generation++ // of who takes it next
		m.generation++
		list, unsure := m.claimableGuarded(h.Generation, m.gates(), 100, time.Now())
		m.generation--
		if len(list) == 0 && !unsure && m.connected && !m.stopped {
			m.failf("released as due at once, for nothing")
		}
	}
}

// shiftGuard makes it later for what the gates hold.
func (m *laneModel) shiftGuard(by time.Duration) {
	m.exec(`UPDATE sessions SET cooldown_until = cooldown_until - $2::interval, cooldown_replies_at = cooldown_replies_at - $2::interval WHERE uid = $1`, m.session.UID, by)
	m.exec(`UPDATE paces SET next_send_at = next_send_at - $2::interval, new_chat_at = new_chat_at - $2::interval,
		hour_tat = hour_tat - $2::interval, day_tat = day_tat - $2::interval WHERE session_uid = $1`, m.session.UID, by)
	m.exec(`UPDATE chats SET last_received_at = last_received_at - $2::interval WHERE session_uid = $1`, m.session.UID, by)
	for chat, at := range m.heard {
		if at != nil {
			moved := at.Add(-by)
			m.heard[chat] = &moved
		}
	}
	back := func(list ...*time.Time) {
		for _, t := range list {
			if !t.IsZero() {
				*t = t.Add(-by)
			}
		}
	}
	for _, r := range m.runners {
		if r.round == nil {
			continue
		}
		s, c, f := &r.round.state, &r.round.cooldown, &r.round.claim.Guard.Cooldown
		back(&s.NextSendAt, &s.NewChatAt, &s.HourTAT, &s.DayTAT, &c.Until, &c.RepliesAt, &f.Until, &f.RepliesAt)
	}
}

func (m *laneModel) healGuard() {
	m.set(`null`)
	for what, held := range m.held {
		if held {
			m.setHeld(what, false)
		}
	}
	m.exec(`UPDATE sessions SET cooldown_until = now(), cooldown_replies_at = NULL WHERE uid = $1`, m.session.UID)
	rows, err := m.db.Pool.Query(m.ctx, `SELECT chat, first_sent_at IS NOT NULL, last_received_at IS NOT NULL FROM chats WHERE session_uid = $1`, m.session.UID)
	m.ok(err)
	var chat string
	var begun, heard bool
	_, err = pgx.ForEachRow(rows, []any{&chat, &begun, &heard}, func() error {
		if begun != m.begun[chat] || heard != (m.heard[chat] != nil) {
			m.failf("chat %s: begun %v, heard %v", chat, begun, heard)
		}
		return nil
	})
	m.ok(err)
	var told int
	m.ok(m.db.Pool.QueryRow(m.ctx, `SELECT count(*) FROM events WHERE session_uid = $1 AND type = 'session.throttled'`, m.session.UID).Scan(&told))
	if told != m.told {
		m.failf("subscribers were told of %d cool-downs, the model says %d", told, m.told)
	}
}
