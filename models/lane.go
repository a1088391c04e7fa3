package models

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
)

// Kinds of lanes.
const (
	LaneMessages = "MESSAGES" // the outgoing messages of a session
	LaneWebhook  = "WEBHOOK"  // the deliveries of a webhook
)

// Lane is an ordered set of rows that one runner at a time drains, see docs/lanes.md.
type Lane struct {
	bun.BaseModel `bun:"table:lanes,alias:l"`

	ID         uuid.UUID `bun:",pk,type:uuid"`
	Kind       string
	Open       bool
	NextSeq    int64
	Generation int64
	Holder     *uuid.UUID
	NextDueAt  *time.Time
}

func insertLane(ctx context.Context, db bun.IDB, id uuid.UUID, kind string, open bool) error {
	_, err := db.NewInsert().Model(&Lane{ID: id, Kind: kind, Open: open, NextSeq: 1}).Exec(ctx)
	return err
}

// A holder is live while the lease of its runner is, by PostgreSQL's clock.
const liveHolder = `EXISTS (SELECT 1 FROM runners r WHERE r.id = l.holder AND r.expires_at > now())`

// Woken is a lane that has work now. Nobody has it, or its holder is to be told; see jobs.Waker.
type Woken struct {
	Lane    uuid.UUID
	Holder  *uuid.UUID // the live runner that has it
	NextSeq int64      // of the lane, with a Holder: one that has read it, and looked after that, has seen the work; 0: it is to look in any case
}

// Unheld are lanes of which it is not known whether somebody has them.
func Unheld(lanes ...uuid.UUID) []Woken {
	list := make([]Woken, len(lanes))
	for i, lane := range lanes {
		list[i] = Woken{Lane: lane}
	}
	return list
}

// holderOf is the live holder of a lane l.
const holderOf = `CASE WHEN ` + liveHolder + ` THEN l.holder END`

// LaneHolder is the live runner that has a lane, nil for none.
func LaneHolder(ctx context.Context, q Querier, lane uuid.UUID) (holder *uuid.UUID, err error) {
	err = q.QueryRow(ctx, `SELECT `+holderOf+` FROM lanes l WHERE l.id = $1`, lane).Scan(&holder)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return holder, err
}

// Hold is a runner's right to a lane: everything that it does there is conditional on the generation.
type Hold struct {
	Lane       uuid.UUID
	Generation int64
	NextSeq    int64  // of the lane, when the holder last looked for work: release is a compare-and-set on it
	Worker     string // of messages: where the session was when the lane was taken, "" for nowhere
	Guarded    bool   // of messages: to be claimed from with care, see claimGuarded
	OneByOne   bool   // of messages: it is paced, so that nothing is claimed which would have to be put back; of deliveries: their subscriber asked for order
}

// TakeLane is TakeLanes for one.
func TakeLane(ctx context.Context, q Batcher, lane, runner uuid.UUID) (Hold, bool, error) {
	holds, err := TakeLanes(ctx, q, []uuid.UUID{lane}, runner)
	if err != nil || holds[0] == nil {
		return Hold{Lane: lane}, false, err
	}
	return *holds[0], true, nil
}

// TakeLanes makes the runner the holder of lanes, unless a live one has them, or its own lease is over, and answers each at its
// place, nil for one that it did not get. The caller makes sure that its own process takes a lane once at a time; a lane that
// is still marked with this runner was given up without release. All of them are of one kind: webhooks' lanes are locked after others.
func TakeLanes(ctx context.Context, q Batcher, lanes []uuid.UUID, runner uuid.UUID) ([]*Hold, error) {
	holds := make([]*Hold, len(lanes))
	var b pgx.Batch
	impatient(&b, len(lanes))
	b.Queue(`WITH locked AS (SELECT id FROM lanes WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE)
		UPDATE lanes l SET holder = $2, generation = generation + 1
		FROM locked WHERE l.id = locked.id AND (l.holder IS NULL OR l.holder = $2 OR NOT `+liveHolder+`)
		  AND EXISTS (SELECT 1 FROM runners r WHERE r.id = $2 AND r.expires_at > now())
		RETURNING l.id, generation, next_seq, coalesce((SELECT s.worker_id FROM sessions s WHERE s.uid = l.id), '')`, lanes, runner).Query(func(rows pgx.Rows) error {
		var h Hold
		_, err := pgx.ForEachRow(rows, []any{&h.Lane, &h.Generation, &h.NextSeq, &h.Worker}, func() error {
			taken := h
			holds[slices.Index(lanes, h.Lane)] = &taken
			return nil
		})
		return err
	})
	if err := q.SendBatch(ctx, &b).Close(); err != nil {
		return nil, err
	}
	return holds, nil
}

// impatient is the beginning of a transaction about several lanes. Somebody may have one of them, or a message of it, in hand for long,
// and one may have much to look through: that is not to hold up the others. It fails after a while, see IsRolledBack, and each lane
// should be asked for by itself.
func impatient(b *pgx.Batch, lanes int) {
	if lanes > 1 {
		b.Queue(`SELECT set_config('lock_timeout', '300ms', true), set_config('statement_timeout', '1s', true)`)
	}
}

// LaneError says which of several lanes is to blame.
type LaneError struct {
	Lane  uuid.UUID
	Cause error
}

func (e *LaneError) Error() string { return "lane " + e.Lane.String() + ": " + e.Cause.Error() }
func (e *LaneError) Unwrap() error { return e.Cause }

// unendedOnes are what a lane is owed, held ones left out. Each part is ordered as the index that fits it: otherwise going through all
// messages of the session may seem as good before the table has grown.
const unendedOnes = `(SELECT chat, seq, status, next_attempt_at, send_at FROM messages
		WHERE session_uid = $1 AND status = 'SENDING' ORDER BY session_uid, seq)
	UNION ALL (SELECT chat, seq, status, next_attempt_at, send_at FROM messages
		WHERE session_uid = $1 AND status = 'PENDING' AND next_attempt_at IS NULL ORDER BY session_uid, seq)`

// dueOf computes when a lane has work next; $1 is the lane. A chat with messages that are not settled waits for the
// first of them; in others each message waits for its own time. A held message, and what is due behind it in its chat, does not count: the
// end of its hold makes the lane due. Guarded lanes have dueGuarded. Each delivery waits for its own time, but where the subscriber asked
// for order all wait for the first.
var dueOf = map[string]string{
	LaneMessages: `(SELECT min(due) FROM (
		SELECT CASE WHEN bool_or(status = 'SENDING')
		       THEN (array_agg(coalesce(next_attempt_at, now()) ORDER BY seq) FILTER (WHERE status = 'SENDING'))[1]
		       ELSE min(coalesce(send_at, now())) FILTER (WHERE NOT (coalesce(send_at <= now(), true) AND ` + blockedMessage + `)) END AS due
		FROM (` + unendedOnes + `) c GROUP BY chat) chats)`,
	LaneWebhook: `(SELECT CASE WHEN w.ordered THEN
			(SELECT coalesce(next_retry, now()) FROM webhook_deliveries WHERE webhook_id = $1 AND sequence = ` + firstUnfinished + `)
		WHEN EXISTS (SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'PENDING') THEN now()
		ELSE (SELECT next_retry FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'RETRYING' ORDER BY next_retry LIMIT 1) END
		FROM webhooks w WHERE w.id = $1 AND w.is_active)`,
}

// ReleaseLane is ReleaseLanes for one.
func ReleaseLane(ctx context.Context, q Batcher, kind string, h Hold) (released bool, err error) {
	all, err := ReleaseLanes(ctx, q, kind, []Release{{Hold: h}})
	return err == nil && all[0], err
}

// Release is a lane that is to be given back.
type Release struct {
	Hold
	UnlessDue bool // not if it has work now, which its holder has not looked for since it worked
}

// ReleaseLanes gives lanes back in which there was nothing to do: a compare-and-set on generation and next_seq, which writes
// when the lane has work next. False: something came meanwhile (drain on), or another runner has the lane (the next claim
// will tell). The lanes are locked by a statement of its own, so that the next due time is computed of what everyone has
// committed who made it due while we waited. All of them are guarded, or none.
func ReleaseLanes(ctx context.Context, q Batcher, kind string, list []Release) (released []bool, err error) {
	due, n := dueOf[kind], len(list)
	if list[0].Guarded {
		due = dueGuarded
	}
	lanes, generations, seqs, unless := make([]uuid.UUID, n), make([]int64, n), make([]int64, n), make([]bool, n)
	for i, r := range list {
		lanes[i], generations[i], seqs[i], unless[i] = r.Lane, r.Generation, r.NextSeq, r.UnlessDue
	}
	const asTheyWere = `unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bool[]) AS back (id, generation, next_seq, unless_due)`
	const unchanged = `k.id = back.id AND k.generation = back.generation AND k.next_seq = back.next_seq`
	released = make([]bool, n)
	var b pgx.Batch
	impatient(&b, n)
	b.Queue(`SELECT 1 FROM `+asTheyWere+` JOIN lanes k ON `+unchanged+` ORDER BY k.id FOR NO KEY UPDATE OF k`, lanes, generations, seqs, unless)
	b.Queue(`UPDATE lanes k SET holder = NULL, next_due_at = back.due
		FROM (SELECT *, `+ofLane(due, "back.id", "back.generation")+` AS due FROM `+asTheyWere+` OFFSET 0) back
		WHERE `+unchanged+` AND NOT (back.unless_due AND coalesce(back.due <= now(), false)) RETURNING k.id`, lanes, generations, seqs, unless).Query(func(rows pgx.Rows) error {
		var lane uuid.UUID
		_, err := pgx.ForEachRow(rows, []any{&lane}, func() error {
			released[slices.Index(lanes, lane)] = true
			return nil
		})
		return err
	})
	if err := q.SendBatch(ctx, &b).Close(); err != nil {
		return nil, err
	}
	return released, nil
}

// YieldLane gives a lane back with work left, to be taken again after a pause: between two slices (0), or because
// what it leads to is not answering.
func YieldLane(ctx context.Context, q Querier, h Hold, pause time.Duration) error {
	_, err := q.Exec(ctx, `UPDATE lanes SET holder = NULL, next_due_at = now() + make_interval(secs => $3)
		WHERE id = $1 AND generation = $2`, h.Lane, h.Generation, pause.Seconds())
	return err
}

// AbandonLane gives a lane back that a runner may have taken without learning the generation.
func AbandonLane(ctx context.Context, q Querier, lane, runner uuid.UUID) error {
	_, err := q.Exec(ctx, `UPDATE lanes SET holder = NULL, next_due_at = now() WHERE id = $1 AND holder = $2`, lane, runner)
	return err
}

// connectedLane is the condition under which a claim or a sweep may touch a lane of messages: its session is connected, and
// nobody has paused it, see pausing.go.
const connectedLane = `EXISTS (SELECT 1 FROM sessions s WHERE s.uid = l.id AND s.status = 'CONNECTED' AND s.desired = 'RUNNING'
	AND NOT ` + pausedByOwner + ` AND NOT ` + pausedByAdministrator + `)`

// dueLane is the condition under which a lane l of a kind has work that could be done now. A parked one stays due, and has none.
func dueLane(kind string) string {
	if kind == LaneMessages {
		return `l.next_due_at <= now() AND ` + connectedLane
	}
	return `l.next_due_at <= now()`
}

// DueLanes lists lanes of a kind that have work now and no live holder: hints that were lost, retries and scheduled rows
// whose time has come, and what a killed runner left.
func DueLanes(ctx context.Context, q Querier, kind string, limit int) ([]uuid.UUID, error) {
	rows, err := q.Query(ctx, `SELECT l.id FROM lanes l
		WHERE l.kind = $1 AND `+dueLane(kind)+` AND NOT coalesce(`+liveHolder+`, false)
		ORDER BY l.next_due_at LIMIT $2`, kind, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
}

// Backlog is the state of all lanes of one kind.
type Backlog struct {
	Rows   int64         // unfinished, due or not
	Lanes  int64         // that have work which could be done now: not those of sessions that are away or paused
	Oldest time.Duration // since the longest-waiting of these became due
}

// BacklogOf measures the lanes of a kind. Rows are counted up to 100,000, which bounds its cost.
func BacklogOf(ctx context.Context, q Querier, kind string) (Backlog, error) {
	from := unsettledOf("1", "true", "")
	if kind == LaneWebhook {
		const kept = ` AND webhook_id NOT IN (SELECT id FROM deleted_webhooks)`
		from = `SELECT 1 FROM webhook_deliveries WHERE status = 'PENDING'` + kept + ` UNION ALL SELECT 1 FROM webhook_deliveries WHERE status = 'RETRYING'` + kept
	}
	var b Backlog
	var seconds float64
	err := q.QueryRow(ctx, `SELECT count(*), coalesce(extract(epoch FROM now() - min(l.next_due_at)), 0)::float8,
		(SELECT count(*) FROM (`+from+` LIMIT 100000) x)
		FROM lanes l WHERE l.kind = $1 AND `+dueLane(kind), kind).Scan(&b.Lanes, &seconds, &b.Rows)
	b.Oldest = time.Duration(seconds * float64(time.Second))
	return b, err
}

// RenewRunner keeps a runner's lease, and with it all lanes that it holds, for ttl from now by PostgreSQL's clock.
func RenewRunner(ctx context.Context, q Querier, id uuid.UUID, hostname string, pid int, ttl time.Duration) error {
	_, err := q.Exec(ctx, `INSERT INTO runners (id, hostname, pid, expires_at) VALUES ($1, $2, $3, now() + make_interval(secs => $4))
		ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at`, id, hostname, pid, ttl.Seconds())
	return err
}

// EndRunner ends a runner's lease at once.
func EndRunner(ctx context.Context, q Querier, id uuid.UUID) error {
	_, err := q.Exec(ctx, `DELETE FROM runners WHERE id = $1`, id)
	return err
}

// ForgetRunners drops runners that have been dead for an hour.
func ForgetRunners(ctx context.Context, q Querier) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM runners WHERE expires_at < now() - interval '1 hour'`)
	return tag.RowsAffected(), err
}

// changed turns the result of a conditional update into whether it changed a row.
func changed(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
