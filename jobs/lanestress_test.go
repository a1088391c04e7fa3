package jobs

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/wire"
)

// TestLanesUnderStress lets accepts, runners that crash and freeze, a sweep and receipts really run at once. It knows less
// than TestLaneModel of each moment, and asserts the same of the end.
func TestLanesUnderStress(t *testing.T) {
	db := modelstest.DB(t)
	w := modelstest.Worker(t, db, "w1", 100)
	u := modelstest.User(t, db)
	x := &stress{t: t, db: db, metrics: monitoring.New("test"), hints: make(chan uuid.UUID, 100), nets: map[uuid.UUID]*network{}, clients: map[uuid.UUID]*WorkerClient{}}
	for range 3 {
		s := modelstest.Session(t, db, u, "s"+uuid.NewString())
		modelstest.Connect(t, db, s)
		addHook(t, db, s)
		n := newNetwork(t)
		n.luck = func() verdict {
			if rand.IntN(12) == 0 {
				return verdict(rand.IntN(int(verdicts)))
			}
			return allWell
		}
		x.sessions = append(x.sessions, s)
		x.nets[s.UID], x.clients[s.UID] = n, n.client()
	}
	// What runners ask of PostgreSQL at the same time shares statements, even those who hold the same lane one after another.
	x.lanes = NewLanes(db, uuid.New(), quiet)
	x.lanes.groups.claims.Side, x.lanes.groups.settles.Side = 1, 1
	ctx, stop := context.WithCancel(t.Context())
	var accepting, running sync.WaitGroup
	accepter := models.NewAccepter(db.Pool, quiet, func(lanes []models.Woken, _ int) { x.hint(modelstest.Lanes(lanes)) })
	defer accepter.Close()
	until := time.Now().Add(3 * time.Second)
	for range 4 {
		accepting.Go(func() { x.accept(accepter, until) })
	}
	for range 3 {
		running.Go(func() { x.runners(ctx) })
	}
	running.Go(func() { x.sweep(ctx) })
	running.Go(func() { x.receipts(ctx, w) })

	accepting.Wait()
	for _, n := range x.nets {
		n.mu.Lock()
		n.luck = nil
		n.mu.Unlock()
	}
	x.calm.Store(true)
	left := func() int64 {
		_, err := db.Pool.Exec(t.Context(), `UPDATE messages SET next_attempt_at = now() WHERE next_attempt_at > now()`)
		require.NoError(t, err)
		_, err = db.Pool.Exec(t.Context(), `UPDATE lanes SET next_due_at = now() WHERE next_due_at > now()`)
		require.NoError(t, err)
		return modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages WHERE status IN ('PENDING', 'SENDING')`)
	}
	for deadline := time.Now().Add(30 * time.Second); left() > 0; <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("messages are left: %v", modelstest.Scalar[string](t, db, `SELECT json_agg(to_jsonb(m))::text FROM (SELECT seq, chat, status, generation, attempts, next_attempt_at
				FROM messages WHERE status IN ('PENDING', 'SENDING') LIMIT 10) m`))
		}
	}
	stop()
	running.Wait()
	x.judge()
}

type stress struct {
	t        *testing.T
	db       *models.DB
	lanes    *Lanes
	metrics  *monitoring.Metrics
	sessions []*models.Session
	nets     map[uuid.UUID]*network
	clients  map[uuid.UUID]*WorkerClient
	hints    chan uuid.UUID
	calm     atomic.Bool // no more crashes
	accepted sync.Map    // ID -> true
	crashes  atomic.Int64
	frozen   atomic.Int64
}

func (x *stress) hint(lanes []uuid.UUID) {
	for _, lane := range lanes {
		select {
		case x.hints <- lane:
		default: // a hint may get lost
		}
	}
}

func (x *stress) accept(a *models.Accepter, until time.Time) {
	for time.Now().Before(until) {
		s := x.sessions[rand.IntN(len(x.sessions))]
		m := &models.NewMessage{ID: models.NewID(), Session: s.UID, Chat: string(rune('a' + rand.IntN(4))), To: "1@s.whatsapp.net", Type: "TEXT", Content: "hi",
			ExpiresAt: time.Now().Add(time.Hour)}
		if rand.IntN(20) == 0 {
			m.Content = refusedText
		}
		if err := a.Accept(x.t.Context(), m); err != nil {
			x.t.Errorf("accept: %v", err)
			return
		}
		x.accepted.Store(m.ID, true)
	}
}

func (x *stress) sweep(ctx context.Context) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if _, err := models.EndHolds(ctx, x.db.Pool, 100); err != nil && ctx.Err() == nil {
			x.t.Errorf("end holds: %v", err)
		}
		due, err := models.DueLanes(ctx, x.db.Pool, models.LaneMessages, 100)
		if err != nil && ctx.Err() == nil {
			x.t.Errorf("sweep: %v", err)
		}
		x.hint(due)
	}
}

// errCrash ends a runner where it stands.
var errCrash = errors.New("crash")

// runners is one runner after another, each until it crashes.
func (x *stress) runners(ctx context.Context) {
	for ctx.Err() == nil {
		id := uuid.New()
		if err := models.RenewRunner(context.WithoutCancel(ctx), x.db.Pool, id, "test", 1, time.Hour); err != nil {
			x.t.Error(err)
			return
		}
		for {
			var lane uuid.UUID
			select {
			case lane = <-x.hints:
			case <-ctx.Done():
				return
			}
			// The lease of one that was frozen is renewed when it thaws.
			if err := models.RenewRunner(context.WithoutCancel(ctx), x.db.Pool, id, "test", 1, time.Hour); err != nil {
				x.t.Error(err)
				return
			}
			err := x.drain(context.WithoutCancel(ctx), lane, id)
			if errors.Is(err, errCrash) {
				x.lapse(id)
				break
			}
			if err != nil {
				x.t.Errorf("drain: %v", err)
				return
			}
		}
	}
}

func (x *stress) lapse(runner uuid.UUID) {
	if _, err := x.db.Pool.Exec(context.Background(), `UPDATE runners SET expires_at = now() WHERE id = $1`, runner); err != nil {
		x.t.Error(err)
	}
}

// mayBreak is each moment at which a runner can die, or lose its lease without knowing.
func (x *stress) mayBreak(runner uuid.UUID) error {
	if x.calm.Load() {
		return nil
	}
	switch rand.IntN(60) {
	case 0:
		x.crashes.Add(1)
		return errCrash
	case 1:
		x.frozen.Add(1)
		x.lapse(runner)
		x.hint([]uuid.UUID{x.sessions[0].UID, x.sessions[1].UID, x.sessions[2].UID})
	}
	return nil
}

func (x *stress) drain(ctx context.Context, lane, runner uuid.UUID) error {
	h, ok, err := models.TakeLane(ctx, x.db.Pool, lane, runner)
	if err != nil || !ok {
		return err
	}
	var session *models.Session
	for _, s := range x.sessions {
		if s.UID == lane {
			session = s
		}
	}
	for {
		if err := x.mayBreak(runner); err != nil {
			return err
		}
		claim, err := x.lanes.claim(ctx, &h, 1+rand.IntN(8))
		for models.IsDeadlock(err) { // the lane is yielded then, which is tried elsewhere
			claim, err = x.lanes.claim(ctx, &h, 8)
		}
		switch {
		case err != nil:
			return err
		case !claim.Held:
			return nil
		case len(claim.Messages) == 0:
			released, err := x.lanes.release(ctx, models.LaneMessages, models.Release{Hold: h})
			if err != nil || released {
				return err
			}
			continue
		}
		round := (&sender{metrics: x.metrics, log: quiet}).newRound(h, claim)
		for i := range claim.Messages {
			if err := x.mayBreak(runner); err != nil {
				return err
			}
			round.one(ctx, x.clients[lane], &claim.Messages[i])
		}
		done := models.Settlement{Hold: h, SessionID: session.ID, Outcomes: round.outcomes}
		settled, err := x.lanes.settle(ctx, done)
		for models.IsDeadlock(err) {
			settled, err = x.lanes.settle(ctx, done)
		}
		switch {
		case err != nil:
			return err
		case round.lost:
			return nil
		case settled.Left:
			return models.YieldLane(ctx, x.db.Pool, h, 0)
		case round.pause > 0:
			return models.YieldLane(ctx, x.db.Pool, h, 10*time.Millisecond)
		}
	}
}

// receipts come for what is shown, some before the sender has settled it.
func (x *stress) receipts(ctx context.Context, w *models.Worker) {
	seq := int64(1)
	done := map[uuid.UUID]int{}
	for ctx.Err() == nil {
		var batch wire.EventBatch
		batch.Term = w.Term
		for _, s := range x.sessions {
			n := x.nets[s.UID]
			n.mu.Lock()
			shows := n.shows[done[s.UID]:]
			n.mu.Unlock()
			done[s.UID] += len(shows)
			for _, show := range shows {
				if rand.IntN(3) == 0 {
					continue
				}
				e := event(wire.EventMessageReceipt, wire.ReceiptData{WhatsappID: show.WhatsappID, Status: []string{"delivered", "read"}[rand.IntN(2)]})
				e.SessionID, e.Epoch, e.Seq, e.Timestamp = s.UID.String(), 1, seq, time.Now()
				seq++
				batch.Events = append(batch.Events, e)
			}
		}
		if len(batch.Events) == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		in, err := models.IngestEvents(context.WithoutCancel(ctx), x.db, quiet, w.ID, batch)
		if err != nil {
			x.t.Errorf("ingest: %v", err)
			return
		}
		x.hint(modelstest.Lanes(in.Connected))
	}
}

func (x *stress) judge() {
	t, accepted := x.t, int64(0)
	x.accepted.Range(func(any, any) bool { accepted++; return true })
	states := modelstest.Scalar[string](t, x.db, `SELECT json_object_agg(status, n)::text FROM (SELECT status, count(*) n FROM messages GROUP BY status) s`)
	t.Logf("%d accepted: %s; %d crashes, %d frozen", accepted, states, x.crashes.Load(), x.frozen.Load())
	require.Positive(t, x.crashes.Load())
	require.Equal(t, accepted, modelstest.Scalar[int64](t, x.db, `SELECT count(*) FROM messages`))
	for _, s := range x.sessions {
		n := x.nets[s.UID]
		times, last, chats := map[string]int{}, map[string]int64{}, map[string]string{}
		rows, err := x.db.Pool.Query(t.Context(), `SELECT id::text, chat, status FROM messages WHERE session_uid = $1`, s.UID)
		require.NoError(t, err)
		states := map[string]string{}
		var id, chat, status string
		_, err = pgx.ForEachRow(rows, []any{&id, &chat, &status}, func() error {
			chats[id], states[id] = chat, status
			return nil
		})
		require.NoError(t, err)
		for _, show := range n.shows {
			chat := chats[show.MessageID]
			if times[show.MessageID]++; times[show.MessageID] > 1 {
				t.Errorf("message %d is shown twice", show.Seq)
			}
			if show.Seq < last[chat] {
				t.Errorf("message %d is shown after %d in chat %s", show.Seq, last[chat], chat)
			}
			last[chat] = show.Seq
		}
		for id, status := range states {
			shown, dead := times[id] == 1, n.dead[id]
			switch status {
			case models.MessageSent, models.MessageDelivered, models.MessageRead:
				require.True(t, shown, "message %s is %s", id, status)
			case models.MessageFailed:
				require.True(t, dead && !shown, "message %s failed", id)
			default:
				t.Errorf("message %s is %s", id, status)
			}
		}
	}
	require.Zero(t, modelstest.Scalar[int64](t, x.db, `SELECT count(*) FROM (SELECT 1 FROM events GROUP BY data->>'id', type HAVING count(*) > 1) x`), "events told twice")
	require.Zero(t, modelstest.Scalar[int64](t, x.db, `SELECT count(*) FROM (SELECT webhook_id, max(sequence) <> count(*) AS gap FROM webhook_deliveries GROUP BY 1) x WHERE gap`), "gaps in sequences")
	require.Equal(t, modelstest.Scalar[int64](t, x.db, `SELECT count(*) FROM events`), modelstest.Scalar[int64](t, x.db, `SELECT count(*) FROM webhook_deliveries`))
}
