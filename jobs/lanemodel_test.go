package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/wire"
)

// TestLaneModel drives one lane of messages after another through random interleavings of everything that may happen to it,
// statement by statement, on the real PostgreSQL and with the real sender, and compares each step with a model in memory.
// KURIR_MODEL_SEED repeats the sequence that failed, `make model` runs many (KURIR_MODEL_SEQUENCES).
func TestLaneModel(t *testing.T) {
	if seed := os.Getenv("KURIR_MODEL_SEED"); seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		require.NoError(t, err)
		newModelBench(t, "w1").sequence(t, n)
		return
	}
	sequences := 40
	if more := os.Getenv("KURIR_MODEL_SEQUENCES"); more != "" {
		var err error
		sequences, err = strconv.Atoi(more)
		require.NoError(t, err)
	}
	base := rand.Uint64() >> 16
	for half := range 2 {
		t.Run(fmt.Sprint("half ", half), func(t *testing.T) {
			t.Parallel()
			bench := newModelBench(t, "w1")
			for i := range sequences / 2 {
				bench.sequence(t, base+uint64(2*i+half))
			}
		})
	}
}

const modelSteps = 60

// modelBench is what the sequences of one goroutine share.
type modelBench struct {
	db       *models.DB
	accepter *models.Accepter
	metrics  *monitoring.Metrics
	sender   *sender
	worker   *models.Worker
	nextSeq  int64       // of the worker's events
	last     *wire.Event // for replays
}

func newModelBench(t *testing.T, worker string) *modelBench {
	db := modelstest.DB(t)
	b := &modelBench{db: db, metrics: monitoring.New("test"), worker: modelstest.Worker(t, db, worker, 100_000), nextSeq: 1}
	b.accepter = models.NewAccepter(db.Pool, quiet, func([]models.Woken, int) {})
	t.Cleanup(b.accepter.Close)
	b.sender = modelSender(t, db, b.metrics)
	return b
}

// modelRow is what the model believes of one message.
type modelRow struct {
	id         uuid.UUID
	seq        int64
	chat       string
	text       string
	whatsappID string
	status     string
	generation int64
	attempts   int
	nextAt     *time.Time
	sendAt     *time.Time
	expiresAt  time.Time
	number     int        // that was linked when it was accepted
	claimedAt  *time.Time // first
	doubted    bool       // some attempt of it ended without an outcome
	ended      bool       // its holder has ended it, and is to write that down
	priority   int16
	waiting    string // why it is held
	unfetched  bool   // names a URL
	noMedium   bool   // which leads nowhere
}

func (r *modelRow) open() bool {
	return r.status == models.MessagePending || r.status == models.MessageSending
}

// modelRunner is one runner process, and how far it has come with the lane.
type modelRunner struct {
	name    string
	id      uuid.UUID
	live    bool // its lease
	hold    *models.Hold
	round   *sendRoundState
	next    int // message of the round
	idle    bool
	pausing bool
}

type laneModel struct {
	*modelBench
	t       *testing.T
	ctx     context.Context
	seed    uint64
	rng     *rand.Rand
	trace   []string
	session *models.Session
	net     *network
	client  *WorkerClient

	rows       []*modelRow // by seq
	shown      int         // of net.shows, how many were judged
	runners    []*modelRunner
	spawned    int
	holder     *modelRunner
	paused     time.Time // until when the last holder gave the lane a rest
	generation int64
	nextSeq    int64
	connected  bool
	epoch      int64
	number     int
	guardModel // see lanemodel_guard_test.go
}

func (b *modelBench) sequence(t *testing.T, seed uint64) {
	m := &laneModel{modelBench: b, t: t, ctx: t.Context(), seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), net: newNetwork(t),
		nextSeq: 1, connected: true, epoch: 1, guardModel: guardModel{begun: map[string]bool{}, heard: map[string]*time.Time{}}}
	m.client = m.net.client()
	m.session = modelstest.Session(t, b.db, modelstest.User(t, b.db), "s"+uuid.NewString())
	modelstest.Connect(t, b.db, m.session)
	m.exec(`UPDATE sessions SET phone_number = '+620' WHERE uid = $1`, m.session.UID)
	hook := addHook(t, b.db, m.session)
	for range 3 {
		m.spawn()
	}
	for range modelSteps {
		m.step()
		m.check()
	}
	m.finish(hook)
}

func (m *laneModel) note(format string, args ...any) {
	m.trace = append(m.trace, fmt.Sprintf(format, args...))
}

func (m *laneModel) failf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("KURIR_MODEL_SEED=%d: %s\nafter\n  %s\nthe model's rows:\n%s", m.seed, fmt.Sprintf(format, args...),
		strings.Join(m.trace, "\n  "), m.dump())
}

func (m *laneModel) dump() string {
	var b strings.Builder
	for _, r := range m.rows {
		fmt.Fprintf(&b, "  %d chat %s priority %d %q unfetched %v %s generation %d attempts %d next %v sendAt %v expires %v %q\n", r.seq, r.chat, r.priority, r.waiting, r.unfetched, r.status, r.generation, r.attempts,
			in(r.nextAt), in(r.sendAt), in(&r.expiresAt), r.text)
	}
	return b.String()
}

func in(t *time.Time) any {
	if t == nil {
		return "-"
	}
	return time.Until(*t).Round(time.Millisecond)
}

func (m *laneModel) ok(err error) {
	m.t.Helper()
	if err != nil {
		m.failf("%v", err)
	}
}

func (m *laneModel) exec(sql string, args ...any) {
	m.t.Helper()
	_, err := m.db.Pool.Exec(m.ctx, sql, args...)
	m.ok(err)
}

func (m *laneModel) step() {
	total := 0
	steps := []struct {
		weight int
		run    func()
	}{
		{14, m.accept}, {10, m.take}, {36, m.act}, {3, m.crash}, {3, m.freeze}, {2, m.thaw}, {3, m.toggleDatabase}, {2, m.toggleWorker},
		{8, m.receipt}, {1, m.replay}, {3, m.cancel}, {2, m.expire}, {7, m.advance}, {3, m.sweep}, {2, m.move}, {1, m.changeNumber}, {3, m.yield},
		{2, m.timeOver}, {4, m.receive}, {3, m.patch}, {3, m.pauseBy}, {4, m.endHolds}, {4, m.fetchEnds},
	}
	for _, s := range steps {
		total += s.weight
	}
	pick := m.rng.IntN(total)
	for _, s := range steps {
		if pick -= s.weight; pick < 0 {
			s.run()
			return
		}
	}
}

// --- what clients do

func (m *laneModel) accept() {
	for range 1 + m.rng.IntN(3) {
		n := &models.NewMessage{ID: models.NewID(), Session: m.session.UID, Chat: string(rune('a' + m.rng.IntN(3))), To: "1@s.whatsapp.net", Type: "TEXT",
			Content: "hi", ExpiresAt: time.Now().Add(time.Hour)}
		if m.rng.IntN(10) == 0 {
			n.Content = refusedText
		}
		if m.rng.IntN(8) == 0 {
			n.ExpiresAt = time.Now().Add(20 * time.Second)
		}
		if m.rng.IntN(5) == 0 {
			at := time.Now().Add(time.Duration(10+m.rng.IntN(100)) * time.Second)
			n.SendAt = &at
		}
		m.ok(m.accepter.Accept(m.ctx, n))
		if m.rng.IntN(6) == 0 { // a client that did not hear the answer
			m.ok(m.accepter.Accept(m.ctx, n))
			m.nextSeq++
		}
		r := &modelRow{id: n.ID, chat: n.Chat, text: n.Content, status: models.MessagePending, sendAt: n.SendAt, expiresAt: n.ExpiresAt, number: m.number}
		m.ok(m.db.Pool.QueryRow(m.ctx, `SELECT seq, whatsapp_id FROM messages WHERE id = $1`, n.ID).Scan(&r.seq, &r.whatsappID))
		m.nextSeq++
		if len(m.rows) > 0 && r.seq <= m.rows[len(m.rows)-1].seq {
			m.failf("seq %d after %d", r.seq, m.rows[len(m.rows)-1].seq)
		}
		m.rows = append(m.rows, r)
		m.special(r)
		m.note("accept %d in chat %s with priority %d, unfetched %v, due in %v", r.seq, r.chat, r.priority, r.unfetched, in(r.sendAt))
	}
}

func (m *laneModel) cancel() {
	if len(m.rows) == 0 {
		return
	}
	r := m.rows[m.rng.IntN(len(m.rows))]
	done, _, err := models.CancelMessage(m.ctx, m.db, &models.Message{ID: r.id, SessionUID: m.session.UID}, m.session.ID)
	m.ok(err)
	m.note("cancel %d: %v", r.seq, done)
	if done != (r.status == models.MessagePending) {
		m.failf("cancel of a message that is %s: %v", r.status, done)
	}
	if done {
		r.status, r.nextAt, r.waiting = models.MessageCancelled, nil, ""
	}
}

// --- what runners do

func (m *laneModel) spawn() *modelRunner {
	r := &modelRunner{name: fmt.Sprint("R", m.spawned), id: uuid.New(), live: true}
	m.spawned++
	m.ok(models.RenewRunner(m.ctx, m.db.Pool, r.id, "test", 1, time.Hour))
	m.runners = append(m.runners, r)
	return r
}

func (m *laneModel) some(where func(*modelRunner) bool) *modelRunner {
	var list []*modelRunner
	for _, r := range m.runners {
		if where(r) {
			list = append(list, r)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[m.rng.IntN(len(list))]
}

func holding(r *modelRunner) bool { return r.hold != nil }

func (m *laneModel) take() {
	r := m.some(func(r *modelRunner) bool { return r.hold == nil && r.live })
	if r == nil {
		return
	}
	m.takeBy(r)
}

func (m *laneModel) takeBy(r *modelRunner) bool {
	h, ok, err := models.TakeLane(m.ctx, m.db.Pool, m.session.UID, r.id)
	m.ok(err)
	m.note("%s takes: %v %+v", r.name, ok, h.Generation)
	if free := m.holder == nil || m.holder == r || !m.holder.live; ok != free {
		m.failf("take: %v while the lane is free: %v", ok, free)
	}
	if !ok {
		return false
	}
	if h.Generation != m.generation+1 || h.NextSeq != m.nextSeq {
		m.failf("take: %+v at generation %d, next seq %d", h, m.generation, m.nextSeq)
	}
	m.generation, m.holder, r.hold = h.Generation, r, &h
	return true
}

func (m *laneModel) act() {
	r := m.some(holding)
	for steps := 1 + m.rng.IntN(4); r != nil && r.hold != nil && steps > 0; steps-- {
		m.check()
		m.advanceRunner(r, []int{1, 2, 5, sendClaim}[m.rng.IntN(4)])
	}
}

// advanceRunner has a runner do its next statement or send.
func (m *laneModel) advanceRunner(r *modelRunner, limit int) {
	switch {
	case r.pausing:
		m.yieldBy(r, sendPause)
	case r.idle:
		m.releaseBy(r)
	case r.round == nil:
		m.claimBy(r, limit)
	case r.next < len(r.round.claim.Messages):
		m.sendBy(r)
	default:
		m.settleBy(r)
	}
}

func (r *modelRunner) drop() { r.hold, r.round, r.next, r.idle, r.pausing = nil, nil, 0, false, false }

func (m *laneModel) claimBy(r *modelRunner, limit int) {
	g := m.gates()
	before, unsure := m.predict(r.hold, g, limit, time.Now())
	former := *r.hold
	claim, err := models.ClaimMessages(m.ctx, m.db.Pool, r.hold, limit)
	m.ok(err)
	after, _ := m.predict(&former, g, limit, time.Now())
	m.note("%s claims up to %d at generation %d: held %v connected %v %v", r.name, limit, r.hold.Generation, claim.Held, claim.Connected, seqs(claim.Messages))
	if held := r.hold.Generation == m.generation; claim.Held != held {
		m.failf("claim says held %v", claim.Held)
	}
	if claim.Held && (claim.Connected != m.connected || claim.Epoch != m.epoch || r.hold.NextSeq != m.nextSeq) {
		m.failf("claim says connected %v, epoch %d, next seq %d (%d)", claim.Connected, claim.Epoch, r.hold.NextSeq, m.nextSeq)
	}
	got := make([]int64, 0, len(claim.Messages))
	for i := range claim.Messages {
		c := &claim.Messages[i]
		row := m.row(c.ID)
		if c.Fresh != (row.status == models.MessagePending) {
			m.failf("claim of %d, which is %s, says fresh %v", row.seq, row.status, c.Fresh)
		}
		if c.WhatsappID != row.whatsappID {
			m.failf("claim of %d under another WhatsApp ID", row.seq)
		}
		if row.status == models.MessageSending && row.nextAt == nil {
			row.attempts++
			row.doubted = true
		}
		if c.Parked != (row.waiting == models.WaitingNewChat) || c.Begun != m.begun[row.chat] || c.Heard != (m.heard[row.chat] != nil) {
			m.failf("claim of %d says parked %v, begun %v, heard %v", row.seq, c.Parked, c.Begun, c.Heard)
		}
		row.status, row.generation, row.nextAt, row.waiting = models.MessageSending, r.hold.Generation, nil, ""
		if row.claimedAt == nil {
			at := claim.Guard.Now // ours is later by however long the answer took
			row.claimedAt = &at
		}
		got = append(got, row.seq)
	}
	if !unsure && slices.Equal(before, after) && !slices.Equal(got, before) {
		m.failf("claim took %v, the model says %v", got, before)
	}
	switch {
	case !claim.Held:
		r.drop()
	case len(claim.Messages) > 0:
		r.round, r.next = m.sender.newRound(*r.hold, claim), 0
		r.round.end = time.Now().Add(time.Hour)
	case !claim.Connected || claim.Paused:
		m.yieldBy(r, time.Millisecond)
	default:
		r.idle = true
	}
}

// claimable says which messages a claim should take, in order; unsure if some time is too near to tell.
func (m *laneModel) claimable(generation int64, limit int, now time.Time) (list []int64, unsure bool) {
	if !m.connected || m.stopped || generation != m.generation {
		return nil, false
	}
	past := func(at *time.Time) bool {
		if at == nil {
			return true
		}
		unsure = unsure || at.Sub(now).Abs() < 2*time.Millisecond && at.After(now)
		return !at.After(now)
	}
	blocked := map[string]int64{} // chat -> lowest seq that backs off
	for _, r := range m.rows {
		if _, known := blocked[r.chat]; r.status == models.MessageSending && !past(r.nextAt) && !known {
			blocked[r.chat] = r.seq
		}
	}
	for _, r := range m.rows {
		first, is := blocked[r.chat]
		due := r.nextAt != nil && past(r.nextAt) || r.nextAt == nil && r.generation < generation
		if r.status == models.MessageSending && due && (!is || r.seq < first) {
			list = append(list, r.seq)
		}
	}
	for _, r := range m.rows {
		if _, is := blocked[r.chat]; r.free() && !is && past(r.sendAt) && !m.heldBefore(r, now) {
			list = append(list, r.seq)
		}
	}
	return list[:min(limit, len(list))], unsure
}

func (m *laneModel) sendBy(r *modelRunner) {
	c := &r.round.claim.Messages[r.next]
	r.next++
	how := allWell
	if m.rng.IntN(3) == 0 {
		how = verdict(m.rng.IntN(int(verdicts)))
	}
	m.net.verdicts, m.net.last = []verdict{how}, nil
	before := len(r.round.outcomes)
	r.round.one(m.ctx, m.client, c)
	m.net.verdicts = nil
	if len(r.round.outcomes) != before+1 {
		m.failf("sending %d gave %d outcomes", c.Seq, len(r.round.outcomes)-before)
	}
	if s := m.net.last; s != nil && (s.Generation != r.hold.Generation || s.Epoch != r.round.claim.Epoch || s.WhatsappID != c.WhatsappID || s.Seq != c.Seq) {
		m.failf("%d was sent as %+v", c.Seq, *s)
	}
	o := r.round.outcomes[before]
	m.decided(r, o)
	m.note("%s sends %d at generation %d (verdict %d): %s, next %v, lost %v, pause %v", r.name, c.Seq, r.hold.Generation, how, o.Status, in(o.NextAttemptAt), r.round.lost, r.round.pause)
	m.judge()
}

func (m *laneModel) decided(r *modelRunner, o models.Outcome) {
	if row := m.row(o.Message.ID); row.generation == r.hold.Generation { // what a former holder decides changes nothing
		row.ended = models.Final(o.Status)
	}
}

// judge looks at what appeared on the phones.
func (m *laneModel) judge() {
	for ; m.shown < len(m.net.shows); m.shown++ {
		s := m.net.shows[m.shown]
		r := m.row(uuid.MustParse(s.MessageID))
		for _, former := range m.net.shows[:m.shown] {
			if former.MessageID == s.MessageID {
				m.failf("message %d is shown twice", r.seq)
			}
			after := m.row(uuid.MustParse(former.MessageID))
			if late := r.sendAt != nil && r.sendAt.After(*after.claimedAt); after.chat == r.chat && after.seq > r.seq && !late {
				m.failf("message %d is shown after %d", r.seq, after.seq)
			}
		}
		if r.unfetched {
			m.failf("message %d is shown without its medium", r.seq)
		}
		if r.number != m.number {
			m.failf("message %d, accepted for another number, is shown", r.seq)
		}
		switch r.status {
		case models.MessageSending, models.MessageUnknown:
		default:
			m.failf("message %d is shown while it is %s", r.seq, r.status)
		}
		for _, p := range m.rows {
			if p.chat == r.chat && p.seq < r.seq && m.owedBefore(p, r) {
				m.failf("message %d is shown before %d", r.seq, p.seq)
			}
		}
	}
}

// owedBefore reports whether p, which has a lower seq, should have been shown before r, which is shown now.
func (m *laneModel) owedBefore(p, r *modelRow) bool {
	late := p.sendAt != nil && p.sendAt.After(*r.claimedAt) // it became due when r was on its way
	return p.open() && !p.ended && !m.isShown(p) && !m.net.dead[p.id.String()] && !late
}

func (m *laneModel) isShown(r *modelRow) bool {
	return slices.ContainsFunc(m.net.shows, func(s wire.Send) bool { return s.MessageID == r.id.String() })
}

func (m *laneModel) settleBy(r *modelRunner) {
	m.ok(r.round.write(m.ctx))
	if r.round.left {
		m.failf("%s leaves something unsettled", r.name)
	}
	m.note("%s settles at generation %d, begun %v, cool-down until %v", r.name, r.hold.Generation, r.round.begun, in(&r.round.cooldown.Until))
	m.settled(r)
	lost := r.round.lost
	r.pausing = r.round.pause > 0
	r.round = nil
	if lost {
		r.drop()
	}
}

func (m *laneModel) releaseBy(r *modelRunner) {
	h := *r.hold
	ok, err := models.ReleaseLane(m.ctx, m.db.Pool, models.LaneMessages, h)
	m.ok(err)
	m.note("%s releases generation %d, next seq %d: %v", r.name, h.Generation, h.NextSeq, ok)
	if free := h.Generation == m.generation && h.NextSeq == m.nextSeq; ok != free {
		m.failf("release: %v, the model says %v", ok, free)
	}
	r.idle = false
	if !ok {
		return // and claims again
	}
	m.holder = nil
	r.drop()
	next := modelstest.Scalar[*time.Time](m.t, m.db, `SELECT next_due_at FROM lanes WHERE id = $1`, m.session.UID)
	earliest := m.earliest()
	guarded := m.gates().guarded
	if (next == nil) != (earliest == nil) && !guarded {
		m.failf("released with next due %v, the model says %v", in(next), in(earliest))
	}
	if now := time.Now(); guarded {
		m.releasedGuarded(h, next, earliest)
	} else if next != nil && maxTime(*next, now).Sub(maxTime(*earliest, now)).Abs() > 50*time.Millisecond {
		m.failf("released with next due %v, the model says %v", in(next), in(earliest))
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earliest is when the lane has work next, nil for never.
func (m *laneModel) earliest() *time.Time {
	var best *time.Time
	now := time.Now()
	g := m.gates()
	firstSending := map[string]*modelRow{}
	for _, r := range m.rows {
		if r.status == models.MessageSending && firstSending[r.chat] == nil {
			firstSending[r.chat] = r
		}
	}
	for _, r := range m.rows {
		var at *time.Time
		first := firstSending[r.chat]
		switch {
		case first == r:
			at = r.nextAt
		case first == nil && r.free() && !(r.due(now) && m.heldBefore(r, now)):
			at = r.sendAt
		case first == nil && r.status == models.MessagePending && r.waiting == models.WaitingNewChat && !m.strangerWaits(r, now):
			at = &g.newChatAt
		default:
			continue
		}
		if at == nil {
			at = &now
		}
		at = g.pass(r, at)
		if best == nil || at.Before(*best) {
			best = at
		}
	}
	return best
}

func (m *laneModel) yield() {
	r := m.some(func(r *modelRunner) bool { return r.hold != nil && r.round == nil })
	if r != nil {
		m.yieldBy(r, 0)
	}
}

func (m *laneModel) yieldBy(r *modelRunner, pause time.Duration) {
	m.ok(models.YieldLane(m.ctx, m.db.Pool, *r.hold, pause))
	m.note("%s yields generation %d", r.name, r.hold.Generation)
	if r.hold.Generation == m.generation {
		m.holder, m.paused = nil, time.Now().Add(pause)
	}
	r.drop()
}

func (m *laneModel) timeOver() {
	r := m.some(func(r *modelRunner) bool { return r.round != nil })
	if r != nil {
		m.note("the round of %s is over", r.name)
		r.round.end = time.Now()
	}
}

func (m *laneModel) lapse(r *modelRunner) {
	m.exec(`UPDATE runners SET expires_at = now() - interval '1 second' WHERE id = $1`, r.id)
	r.live = false
}

func (m *laneModel) crash() {
	r := m.some(func(*modelRunner) bool { return true })
	m.note("%s crashes", r.name)
	m.lapse(r)
	m.runners = slices.DeleteFunc(m.runners, func(other *modelRunner) bool { return other == r })
	m.spawn()
}

// freeze lets a runner's lease lapse without the runner knowing: it goes on some time, with what it holds.
func (m *laneModel) freeze() {
	if r := m.some(func(r *modelRunner) bool { return r.live && r.hold != nil }); r != nil {
		m.note("%s freezes", r.name)
		m.lapse(r)
	}
}

func (m *laneModel) thaw() {
	if r := m.some(func(r *modelRunner) bool { return !r.live }); r != nil {
		m.note("%s is live again", r.name)
		m.ok(models.RenewRunner(m.ctx, m.db.Pool, r.id, "test", 1, time.Hour))
		r.live = true
	}
}

// sweep looks whether the sweep finds the lane exactly when it should.
func (m *laneModel) sweep() {
	due, err := models.DueLanes(m.ctx, m.db.Pool, models.LaneMessages, 1000)
	m.ok(err)
	found := slices.Contains(due, m.session.UID)
	m.note("sweep: %v", found)
	if found && (!m.connected || m.stopped || m.holder != nil && m.holder.live) {
		m.failf("the sweep wakes a lane that is not connected or in hand")
	}
}

// --- what the world does

func (m *laneModel) ingest(events ...wire.Event) {
	for i := range events {
		events[i].SessionID, events[i].Epoch, events[i].Seq = m.session.UID.String(), m.epoch, m.modelBench.nextSeq+int64(i)
		events[i].Timestamp = time.Now()
	}
	in, err := models.IngestEvents(m.ctx, m.db, quiet, m.worker.ID, wire.EventBatch{Term: m.worker.Term, Events: events})
	m.ok(err)
	m.modelBench.nextSeq += int64(len(events))
	if in.Next != m.modelBench.nextSeq {
		m.failf("ingest expects %d next, the model %d", in.Next, m.modelBench.nextSeq)
	}
	m.last = &events[len(events)-1]
}

func event(kind string, data any) wire.Event {
	body, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return wire.Event{EventID: uuid.NewString(), Type: kind, Data: body}
}

var modelRank = map[string]int{models.MessageSent: 1, models.MessageDelivered: 2, models.MessageRead: 3}

func (m *laneModel) receipt() {
	if len(m.net.shows) == 0 {
		return
	}
	var events []wire.Event
	var rows []*modelRow
	var to []string
	for range 1 + m.rng.IntN(3) {
		s := m.net.shows[m.rng.IntN(len(m.net.shows))]
		if i := slices.IndexFunc(m.net.shows, func(s wire.Send) bool { return m.row(uuid.MustParse(s.MessageID)).open() }); i >= 0 && m.rng.IntN(2) == 0 {
			s = m.net.shows[i] // one that overtakes the settle, or ends the doubt
		}
		status := []string{"sent", "delivered", "read"}[m.rng.IntN(3)]
		events = append(events, event(wire.EventMessageReceipt, wire.ReceiptData{WhatsappID: s.WhatsappID, Status: status}))
		rows, to = append(rows, m.row(uuid.MustParse(s.MessageID))), append(to, strings.ToUpper(status))
	}
	m.ingest(events...)
	for i, r := range rows {
		m.note("receipt of %d: %s", r.seq, to[i])
		if modelRank[to[i]] > modelRank[r.status] {
			r.status, r.nextAt, r.waiting = to[i], nil, ""
		}
	}
}

// replay repeats the last batch's end, as a worker that did not hear the answer.
func (m *laneModel) replay() {
	if m.last == nil {
		return
	}
	m.note("replay")
	in, err := models.IngestEvents(m.ctx, m.db, quiet, m.worker.ID, wire.EventBatch{Term: m.worker.Term, Events: []wire.Event{*m.last}})
	m.ok(err)
	if in.Next != m.modelBench.nextSeq {
		m.failf("replay expects %d", in.Next)
	}
}

func (m *laneModel) toggleDatabase() { m.report(!m.connected) }

// report tells the gateway that the session is connected, or isn't.
func (m *laneModel) report(connected bool) {
	data := wire.StatusData{Status: wire.StatusReconnecting}
	if connected {
		data = wire.StatusData{Status: wire.StatusConnected, PhoneNumber: fmt.Sprintf("+62%d", m.number)}
	}
	m.note("reported as connected: %v", connected)
	m.ingest(event(wire.EventSessionStatus, data))
	m.connected = connected
}

func (m *laneModel) toggleWorker() {
	m.net.connected = !m.net.connected
	m.note("the worker is connected: %v", m.net.connected)
}

// move gives the session to a worker that knows nothing.
func (m *laneModel) move() {
	m.epoch++
	m.note("moved, epoch %d", m.epoch)
	m.exec(`UPDATE sessions SET epoch = epoch + 1 WHERE uid = $1`, m.session.UID)
	m.net.restart(m.epoch)
}

// changeNumber links another number while nobody has a message in hand.
func (m *laneModel) changeNumber() {
	if slices.ContainsFunc(m.runners, func(r *modelRunner) bool { return r.round != nil }) {
		return
	}
	m.number++
	m.net.number = m.number
	m.note("number %d is linked", m.number)
	m.report(true)
	for _, r := range m.rows {
		switch r.status {
		case models.MessagePending:
			r.status, r.nextAt, r.waiting = models.MessageCancelled, nil, ""
		case models.MessageSending: // it may have gone out from the former number
			r.status, r.nextAt, r.waiting, r.doubted = models.MessageUnknown, nil, "", true
		}
	}
}

func (m *laneModel) expire() {
	var soon bool
	var late []*modelRow
	abandoned := (!m.connected || m.stopped) && (m.holder == nil || !m.holder.live)
	for _, r := range m.rows {
		switch left := time.Until(r.expiresAt); {
		case r.status != models.MessagePending && (r.status != models.MessageSending || !abandoned):
		case left.Abs() < 100*time.Millisecond:
			soon = true
		case left < 0:
			late = append(late, r)
		}
	}
	if soon {
		return
	}
	var ended int
	m.ok(m.db.InPgxTx(m.ctx, func(tx pgx.Tx) (err error) {
		ended, _, err = models.ExpireMessages(m.ctx, tx, 500)
		return err
	}))
	m.note("expire: %d", ended)
	if ended != len(late) {
		m.failf("%d messages expired, the model says %d", ended, len(late))
	}
	for _, r := range late {
		if r.status == models.MessagePending {
			r.status, r.nextAt, r.waiting = models.MessageExpired, nil, ""
		} else {
			r.status, r.nextAt, r.waiting, r.doubted = models.MessageUnknown, nil, "", true
		}
	}
}

func (m *laneModel) advance() {
	m.shift([]time.Duration{500 * time.Millisecond, 2 * time.Second, 5 * time.Second, 30 * time.Second, 70 * time.Second}[m.rng.IntN(5)])
}

// shift makes it later: all times move back.
func (m *laneModel) shift(by time.Duration) {
	m.note("%v pass", by)
	m.shiftGuard(by)
	m.exec(`WITH moved AS (UPDATE messages SET next_attempt_at = next_attempt_at - $2::interval, send_at = send_at - $2::interval,
			expires_at = expires_at - $2::interval WHERE session_uid = $1)
		UPDATE lanes SET next_due_at = next_due_at - $2::interval WHERE id = $1`, m.session.UID, by)
	back := func(t **time.Time) {
		if *t != nil {
			moved := (*t).Add(-by)
			*t = &moved
		}
	}
	m.paused = m.paused.Add(-by)
	for _, r := range m.rows {
		back(&r.nextAt)
		back(&r.sendAt)
		back(&r.claimedAt)
		r.expiresAt = r.expiresAt.Add(-by)
	}
	for _, r := range m.runners {
		if r.round == nil {
			continue
		}
		for i := range r.round.claim.Messages {
			back(&r.round.claim.Messages[i].ExpiresAt)
		}
		for i := range r.round.outcomes {
			back(&r.round.outcomes[i].NextAttemptAt)
		}
		for chat, until := range r.round.blocked {
			r.round.blocked[chat] = until.Add(-by)
		}
	}
}

// --- what must be true

func (m *laneModel) row(id uuid.UUID) *modelRow {
	for _, r := range m.rows {
		if r.id == id {
			return r
		}
	}
	m.failf("message %s is not known", id)
	return nil
}

// check compares PostgreSQL with the model.
func (m *laneModel) check() {
	type stored struct {
		ID         uuid.UUID
		Status     string
		Generation int64
		Attempts   int
		Next       *time.Time
		WhatsappID string
		Waiting    string
	}
	var lane models.Lane
	var rows []stored
	var b pgx.Batch
	b.Queue(`SELECT generation, next_seq, holder, next_due_at FROM lanes WHERE id = $1`, m.session.UID).QueryRow(func(row pgx.Row) error {
		return row.Scan(&lane.Generation, &lane.NextSeq, &lane.Holder, &lane.NextDueAt)
	})
	b.Queue(`SELECT id, status, generation, attempts, next_attempt_at, whatsapp_id, coalesce(waiting_for, '') FROM messages
		WHERE session_uid = $1 AND seq > 0 ORDER BY seq`, m.session.UID).
		Query(func(r pgx.Rows) (err error) {
			rows, err = pgx.CollectRows(r, pgx.RowToStructByPos[stored])
			return err
		})
	m.ok(m.db.Pool.SendBatch(m.ctx, &b).Close())
	if len(rows) != len(m.rows) {
		m.failf("%d messages, the model has %d", len(rows), len(m.rows))
	}
	for i, got := range rows {
		want := m.rows[i]
		sameNext := (got.Next == nil) == (want.nextAt == nil) && (got.Next == nil || got.Next.Sub(*want.nextAt).Abs() < time.Millisecond)
		if got.ID != want.id || got.Status != want.status || got.Generation != want.generation || got.Attempts != want.attempts || !sameNext || got.Waiting != want.waiting {
			m.failf("message %d is %+v, next %v", want.seq, got, in(got.Next))
		}
	}
	holder := uuid.Nil
	if m.holder != nil {
		holder = m.holder.id
	}
	if lane.Generation != m.generation || lane.NextSeq != m.nextSeq || holder != holderOf(lane) {
		m.failf("lane is %+v, the model has generation %d, next seq %d, holder %v", lane, m.generation, m.nextSeq, holder)
	}
	earliest := m.earliest()
	if earliest == nil {
		return
	}
	if lane.NextDueAt == nil {
		m.failf("the lane has work in %v and is never due", in(earliest))
	}
	if m.holder == nil || !m.holder.live {
		if limit := maxTime(maxTime(*earliest, m.paused), time.Now()); lane.NextDueAt.After(limit.Add(50 * time.Millisecond)) {
			m.failf("the lane has work in %v and is due in %v", in(earliest), in(lane.NextDueAt))
		}
	}
}

func holderOf(lane models.Lane) uuid.UUID {
	if lane.Holder == nil {
		return uuid.Nil
	}
	return *lane.Holder
}

// finish heals everything and drains the lane as the sweep finds it; then every message must have come to its end.
func (m *laneModel) finish(hook uuid.UUID) {
	for _, r := range m.runners {
		m.lapse(r)
	}
	m.runners = nil
	m.report(true)
	m.net.connected = true
	m.healGuard()
	m.note("all is well again")
	for round := 0; m.unsettled(); round++ {
		if round > 50 {
			m.failf("the lane does not come to its end")
		}
		m.shift(31 * time.Second)
		m.endHolds()
		m.fetchAll()
		asked := time.Now()
		due, err := models.DueLanes(m.ctx, m.db.Pool, models.LaneMessages, 1000)
		m.ok(err)
		found := slices.Contains(due, m.session.UID)
		if at := m.earliest(); !found && at != nil && at.Before(asked.Add(-5*time.Millisecond)) {
			m.failf("the sweep does not find the lane, it has work in %v", in(m.earliest()))
		}
		if !found {
			continue
		}
		r := m.spawn()
		if !m.takeBy(r) {
			m.failf("a lane that the sweep found cannot be taken")
		}
		for r.hold != nil {
			m.quietStep(r)
			m.check()
		}
	}
	m.ends(hook)
}

// quietStep is advanceRunner while nothing goes wrong.
func (m *laneModel) quietStep(r *modelRunner) {
	if r.round != nil && r.next < len(r.round.claim.Messages) {
		c := &r.round.claim.Messages[r.next]
		r.next++
		r.round.one(m.ctx, m.client, c)
		o := r.round.outcomes[len(r.round.outcomes)-1]
		m.decided(r, o)
		m.note("%s sends %d: %s", r.name, c.Seq, o.Status)
		m.judge()
		return
	}
	m.advanceRunner(r, sendClaim)
}

// ends looks at how each message ended, and at the events that told of it.
func (m *laneModel) ends(hook uuid.UUID) {
	told := map[string]int{}
	rows, err := m.db.Pool.Query(m.ctx, `SELECT (data->>'id') || ' ' || type, (data->>'status') = substr(type, 9) FROM events WHERE session_uid = $1 AND type LIKE 'message.%' AND type <> 'message.received'`, m.session.UID)
	m.ok(err)
	var key string
	var right bool
	_, err = pgx.ForEachRow(rows, []any{&key, &right}, func() error {
		told[key]++
		if told[key] > 1 || !right {
			m.failf("event %s: told %d times, with its own status: %v", key, told[key], right)
		}
		return nil
	})
	m.ok(err)
	for _, r := range m.rows {
		shown := m.isShown(r)
		switch r.status {
		case models.MessageSent, models.MessageDelivered, models.MessageRead:
			if !shown {
				m.failf("message %d is %s and no phone shows it", r.seq, r.status)
			}
		case models.MessageFailed:
			if shown || r.text != refusedText && !r.noMedium {
				m.failf("message %d failed, shown: %v", r.seq, shown)
			}
		case models.MessageExpired, models.MessageCancelled:
			if shown {
				m.failf("message %d is %s and a phone shows it", r.seq, r.status)
			}
			if r.status == models.MessageExpired && r.expiresAt.After(time.Now()) {
				m.failf("message %d expired early", r.seq)
			}
		case models.MessageUnknown:
			if !r.doubted || r.attempts < sendTries && r.expiresAt.After(time.Now()) && r.number == m.number {
				m.failf("message %d was given up", r.seq)
			}
		default:
			m.failf("message %d is %s at the end", r.seq, r.status)
		}
		for _, status := range []string{models.MessageSent, models.MessageDelivered, models.MessageRead, models.MessageFailed,
			models.MessageExpired, models.MessageCancelled, models.MessageUnknown} {
			key := r.id.String() + " message." + strings.ToLower(status)
			should := r.status == status || modelRank[status] > 0 && modelRank[status] <= modelRank[r.status]
			if should && told[key] != 1 {
				m.failf("event %s was told %d times", key, told[key])
			}
		}
	}
	var events, deliveries, gaps int
	m.ok(m.db.Pool.QueryRow(m.ctx, `SELECT (SELECT count(*) FROM events WHERE session_uid = $1), count(*), count(*) FILTER (WHERE sequence <> n)
		FROM (SELECT sequence, row_number() OVER (ORDER BY sequence) AS n FROM webhook_deliveries WHERE webhook_id = $2) d`,
		m.session.UID, hook).Scan(&events, &deliveries, &gaps))
	if events != deliveries || gaps > 0 {
		m.failf("%d events, %d deliveries, %d out of sequence", events, deliveries, gaps)
	}
	m.ok(m.db.InTx(m.ctx, func(ctx context.Context, tx bun.Tx) error { // what it leaves would slow the others down
		_, err := models.DeleteSession(ctx, tx, m.session.UID)
		return err
	}))
}

func seqs(list []models.Claimed) []int64 {
	out := make([]int64, len(list))
	for i := range list {
		out[i] = list[i].Seq
	}
	return out
}
