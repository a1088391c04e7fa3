package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
)

const (
	sari  = "6281234567890@s.whatsapp.net"
	other = "6289999999999@s.whatsapp.net"
	group = "120363012345678901@g.us"
)

// privacy is two sessions of a user with messages of Sari and others, and a session of another user's.
type privacy struct {
	testing.TB
	r        *Runner
	db       *models.DB
	user     *models.User
	a, b, x  *models.Session
	messages int
}

func newPrivacy(t *testing.T) *privacy {
	db := modelstest.DB(t)
	user, a := modelstest.Ready(t, db)
	p := &privacy{TB: t, db: db, user: user, a: a, b: modelstest.Session(t, db, user, "second"), x: modelstest.Session(t, db, modelstest.User(t, db), "foreign")}
	queue := NewQueue(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1}), quiet)
	p.r = &Runner{db: db, id: models.NewID(), queue: queue, waker: NewWaker(queue, quiet, monitoring.New("test")), log: quiet}
	t.Cleanup(p.r.waker.Close)
	p.exec(`ALTER TABLE messages_old DROP CONSTRAINT messages_settled`) // what waits here may be of any day
	return p
}

func (p *privacy) exec(sql string, args ...any) {
	p.Helper()
	_, err := p.db.Pool.Exec(p.Context(), sql, args...)
	require.NoError(p, err)
}

// message adds one with an event and a delivery of it, and returns its ID.
func (p *privacy) message(s *models.Session, direction, chat, from, status string, at time.Time) uuid.UUID {
	p.Helper()
	p.messages++
	id := models.InboundID(s.UID, chat, from, fmt.Sprint(p.messages), at, time.Now())
	p.exec(`INSERT INTO messages (id, session_uid, direction, seq, chat, from_number, to_number, message_type, content, status, whatsapp_id)
		VALUES ($1, $2, $3, $7, $4, nullif($5, ''), $4, 'TEXT', 'secret ' || coalesce($5::text, ''), $6, 'w' || $7::bigint)`, id, s.UID, direction, chat, from, status, p.messages)
	err := p.db.InPgxTx(p.Context(), func(tx pgx.Tx) error {
		m, _, err := models.MessageOf(p.Context(), p.db, s.UserID, nil, id)
		if err != nil {
			return err
		}
		_, err = models.Emit(p.Context(), tx, []models.Event{{Session: s.UID, Type: "message.received", Data: m.Resource(s.ID), At: time.Now()}})
		return err
	})
	require.NoError(p, err)
	return id
}

func (p *privacy) start(session *uuid.UUID, before time.Time) uuid.UUID {
	p.Helper()
	params, err := ForgetContactParams(sari, before)
	require.NoError(p, err)
	j := &models.Job{ID: models.NewID(), Kind: KindForgetContact, UserID: &p.user.ID, SessionUID: session, Params: params}
	require.NoError(p, models.InsertJob(p.Context(), p.db, j))
	return j.ID
}

// attempt runs a job once, as the server would, and says whether it wants to look again.
func (p *privacy) attempt(ctx context.Context, job uuid.UUID) bool {
	p.Helper()
	d := &durables{db: p.db, runner: p.r.id, log: quiet}
	k := p.r.durables()
	for i := range k {
		if k[i].kind != KindForgetContact {
			continue
		}
		attempts := modelstest.Scalar[int](p, p.db, `SELECT attempts FROM jobs WHERE id = $1`, job)
		require.NoError(p, d.attempt(ctx, k[i], durableTask{Kind: KindForgetContact, JobID: job, Attempt: attempts + 1}))
	}
	return modelstest.Scalar[string](p, p.db, `SELECT status FROM jobs WHERE id = $1`, job) == models.JobQueued
}

func (p *privacy) finish(job uuid.UUID) forgotten {
	p.Helper()
	for range 50 {
		if !p.attempt(p.Context(), job) {
			break
		}
	}
	require.Equal(p, models.JobSucceeded, modelstest.Scalar[string](p, p.db, `SELECT status FROM jobs WHERE id = $1`, job))
	var f forgotten
	require.NoError(p, json.Unmarshal(modelstest.Scalar[json.RawMessage](p, p.db, `SELECT result FROM jobs WHERE id = $1`, job), &f))
	return f
}

func (p *privacy) count(from string, args ...any) int64 {
	p.Helper()
	return modelstest.Scalar[int64](p, p.db, "SELECT count(*) FROM "+from, args...)
}

func TestForgetContact(t *testing.T) {
	p := newPrivacy(t)
	hook := addHook(t, p.db, p.a)
	now := time.Now().Truncate(time.Millisecond)
	past := now.Add(-time.Hour)
	var stay, gone []uuid.UUID
	gone = append(gone,
		p.message(p.a, "OUTBOUND", sari, "", "READ", past), p.message(p.a, "OUTBOUND", sari, "", "FAILED", past), p.message(p.a, "INBOUND", sari, "+6281234567890", "DELIVERED", past),
		p.message(p.a, "INBOUND", group, "+6281234567890", "DELIVERED", past), p.message(p.a, "OUTBOUND", sari, "", "PENDING", past))
	stay = append(stay,
		p.message(p.a, "INBOUND", group, "+6289999999999", "DELIVERED", past), p.message(p.a, "OUTBOUND", other, "+6281234567890", "SENT", past), // from her, if she were us
		p.message(p.a, "OUTBOUND", group, "", "PENDING", past), p.message(p.a, "INBOUND", sari, "+6281234567890", "DELIVERED", now.Add(time.Minute)),
		p.message(p.b, "INBOUND", sari, "+6281234567890", "DELIVERED", past), p.message(p.x, "INBOUND", sari, "+6281234567890", "DELIVERED", past))
	p.exec(`UPDATE messages SET reactions = $2 WHERE id = $1`, stay[0], `[{"from":"`+sari+`","emoji":"x"},{"from":"`+other+`","emoji":"y"}]`)
	p.exec(`INSERT INTO chats (session_uid, chat, name) VALUES ($1, $2, 'Sari'), ($1, $3, 'Other')`, p.a.UID, sari, other)
	p.exec(`UPDATE webhook_deliveries SET status = 'DELIVERED', response_body = 'thanks for secret'`)
	p.exec(`INSERT INTO webhook_attempts (delivery_id, attempt, response_body, duration_ms) SELECT id, 1, response_body, 1 FROM webhook_deliveries`)

	job := p.start(&p.a.UID, now)
	sum := p.finish(job)
	require.Equal(t, forgotten{Sessions: 1, Cancelled: 1, Messages: 5, Events: 6}, sum, "the cancellation was an event too")
	require.Zero(t, p.count(`messages WHERE id = ANY($1)`, gone))
	require.Zero(t, p.count(`message_index WHERE id = ANY($1)`, gone), "search finds nothing")
	require.Zero(t, p.count(`events WHERE (data->>'id')::uuid = ANY($1)`, gone))
	require.EqualValues(t, len(stay), p.count(`messages WHERE id = ANY($1)`, stay))
	require.EqualValues(t, len(stay), p.count(`events WHERE (data->>'id')::uuid = ANY($1)`, stay))
	require.Equal(t, `[{"from": "`+other+`", "emoji": "y"}]`, modelstest.Scalar[string](t, p.db, `SELECT reactions::text FROM messages WHERE id = $1`, stay[0]))
	require.Equal(t, "Other", modelstest.Scalar[string](t, p.db, `SELECT string_agg(name, ',') FROM chats`))
	// The subscriber's sequence has no gap, and what it answered is gone with what it was about.
	require.EqualValues(t, 10, p.count(`webhook_deliveries WHERE webhook_id = $1`, hook))
	require.EqualValues(t, 10, modelstest.Scalar[int64](t, p.db, `SELECT max(sequence) FROM webhook_deliveries WHERE webhook_id = $1`, hook))
	for column, from := range map[string]string{"d": "webhook_deliveries d", "a": "webhook_attempts a JOIN webhook_deliveries d ON d.id = a.delivery_id"} {
		from += ` WHERE ` + column + `.response_body IS NOT NULL`
		require.EqualValues(t, 4, p.count(from), from)
		require.Zero(t, p.count(from+` AND NOT EXISTS (SELECT 1 FROM events e WHERE e.id = d.event_id)`), from)
	}
	// Neither the job nor the audit trail keeps the number.
	require.Zero(t, p.count(`jobs j WHERE j::text LIKE '%81234567%'`))
	require.Zero(t, p.count(`system_logs l WHERE l::text LIKE '%81234567%'`))
	require.EqualValues(t, 1, p.count(`system_logs WHERE message = 'contact.forgotten'`))

	again := p.finish(p.start(&p.a.UID, now))
	require.Equal(t, forgotten{Sessions: 1}, again, "twice is once")
}

func TestForgetContactEverywhere(t *testing.T) {
	p := newPrivacy(t)
	past := time.Now().Add(-time.Hour)
	for _, s := range []*models.Session{p.a, p.b, p.x} {
		p.message(s, "INBOUND", "777@lid", "", "DELIVERED", past)
		p.message(s, "OUTBOUND", sari, "", "SENT", past)
	}
	p.exec(`INSERT INTO chats (session_uid, chat, phone, lid) VALUES ($1, '777@lid', '+6281234567890', '777@lid')`, p.a.UID)
	p.exec(`UPDATE sessions SET desired = 'DELETED', deleted_at = now() WHERE uid = $1`, p.b.UID)
	sum := p.finish(p.start(nil, time.Now()))
	require.Equal(t, forgotten{Sessions: 2, Messages: 3, Events: 3}, sum, "under the other name too, where that is known")
	require.EqualValues(t, 2, p.count(`messages WHERE session_uid = $1`, p.x.UID))
	require.EqualValues(t, 1, p.count(`messages WHERE session_uid = $1`, p.b.UID))
}

// A message that is on its way is neither taken away from its lane nor left behind.
func TestForgetContactWaitsForWhatIsOnItsWay(t *testing.T) {
	p := newPrivacy(t)
	past := time.Now().Add(-time.Hour)
	id := p.message(p.a, "OUTBOUND", sari, "", "SENDING", past)
	p.message(p.a, "OUTBOUND", sari, "", "SENT", past)
	job := p.start(nil, time.Now())
	for range 3 {
		require.True(t, p.attempt(t.Context(), job))
	}
	require.EqualValues(t, 1, p.count(`messages`), "the rest is gone already")
	p.exec(`UPDATE messages SET status = 'PENDING' WHERE id = $1`, id) // put back: it is cancelled now
	require.Equal(t, forgotten{Sessions: 2, Cancelled: 1, Messages: 2, Events: 3}, p.finish(job))
	require.Zero(t, p.count(`messages`))
}

// Killed after any statement, it goes on where it was, and ends as if nothing had happened.
func TestForgetContactKilled(t *testing.T) {
	p := newPrivacy(t)
	past := time.Now().Add(-time.Hour)
	for i := range 30 {
		p.message(p.a, "INBOUND", sari, "+6281234567890", "DELIVERED", past.Add(time.Duration(i)*time.Second))
		p.message(p.a, "INBOUND", group, "+6281234567890", "DELIVERED", past.Add(time.Duration(i)*time.Second))
		p.message(p.a, "INBOUND", other, "+6289999999999", "DELIVERED", past.Add(time.Duration(i)*time.Second))
	}
	job := p.start(nil, time.Now())
	for steps := 0; ; steps++ {
		require.Less(t, steps, 100)
		f := &forgetter{r: p.r, job: &models.Job{}}
		j, ok, err := models.StartJob(t.Context(), p.db, job, steps+1, p.r.id)
		require.NoError(t, err)
		require.True(t, ok)
		f.job = j
		_ = json.Unmarshal(j.Progress, &f.sum)
		require.NoError(t, json.Unmarshal(j.Params, &f.at))
		f.until = models.LowestID(f.at.Before)
		more, err := f.nextSession(t.Context())
		require.NoError(t, err)
		if more {
			_, err = f.step(t.Context())
			require.NoError(t, err)
			if steps%2 == 0 { // the other half of them dies before it has noted what it did
				require.NoError(t, models.SaveStep(t.Context(), p.db.Pool, j, f.at, f.sum))
			}
		}
		require.NoError(t, models.RetryJob(t.Context(), p.db, j, 0, ""))
		if !more {
			break
		}
	}
	require.EqualValues(t, 2, p.finish(job).Sessions)
	require.EqualValues(t, 30, p.count(`messages`))
	require.EqualValues(t, 30, p.count(`events`))
}

// PostgreSQL's being away is no end, and when it is given up the number is not kept.
func TestForgetContactGivenUp(t *testing.T) {
	p := newPrivacy(t)
	job := p.start(nil, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	j, ok, err := models.StartJob(t.Context(), p.db, job, 1, p.r.id)
	require.NoError(t, err)
	require.True(t, ok)
	_, err = p.r.forgetContact(ctx, j)
	require.True(t, errors.Is(err, context.Canceled), "%v", err)
	require.False(t, permanent(err))
	p.r.forgetFailed(t.Context(), j, err)
	require.Zero(t, p.count(`jobs j WHERE j::text LIKE '%81234567%'`))
}
