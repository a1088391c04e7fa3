package jobs

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/media"
	"kurir/models"
	"kurir/models/modelstest"
)

// leaver is a user with something of everything, who closes his account, beside one who stays.
type leaver struct {
	*privacy
	stays *models.User
	job   uuid.UUID
}

func newLeaver(t *testing.T) *leaver {
	p := newPrivacy(t)
	l := &leaver{privacy: p}
	past := time.Now().Add(-time.Hour)
	hook := addHook(t, p.db, p.a)
	for _, s := range []*models.Session{p.a, p.b, p.x} {
		for range 5 {
			p.message(s, "INBOUND", sari, "+6281234567890", "DELIVERED", past)
		}
		p.exec(`INSERT INTO chats (session_uid, chat) VALUES ($1, $2)`, s.UID, sari)
		p.exec(`INSERT INTO idempotency_keys (owner, route, key, request_hash, resource_id, locked_until, expires_at) VALUES ($1, 'r', 'k', 'x', $1, now(), now() + interval '1 day')`, s.UID)
	}
	p.message(p.a, "OUTBOUND", sari, "", "PENDING", past)
	p.exec(`INSERT INTO webhook_attempts (delivery_id, attempt, duration_ms) SELECT id, 1, 1 FROM webhook_deliveries WHERE webhook_id = $1`, hook)
	former := models.NewID() // a webhook that was deleted a moment ago
	p.exec(`INSERT INTO webhooks (id, user_id, url, events, secret) VALUES ($1, $2, 'http://x', '{*}', 'x')`, former, p.user.ID)
	p.exec(`INSERT INTO webhook_deliveries (webhook_id, event_id, event, sequence) VALUES ($1, $1, 'message.read', 1)`, former)
	p.exec(`DELETE FROM webhooks WHERE id = $1`, former)
	p.exec(`INSERT INTO lanes (id, kind, open) VALUES ($1, 'WEBHOOK', true)`, p.user.ID) // an ID like any other
	p.exec(`INSERT INTO webhooks (id, user_id, url, events, secret) VALUES ($1, $1, 'http://x', '{*}', 'x')`, p.user.ID)
	for _, s := range []*models.Session{p.a, p.x} {
		_, key := models.NewAPIKey(s.UserID, &s.UID, "till", time.Now())
		require.NoError(t, models.InsertAPIKey(t.Context(), p.db, key))
		p.exec(`INSERT INTO usage_records (user_id, session_id, usage_count, billing_date) VALUES ($1, $2, 7, date_trunc('month', now()))`, s.UserID, s.UID)
		p.exec(`INSERT INTO system_logs (level, service, message, user_id) VALUES ('INFO', 'api', 'something', $1)`, s.UserID)
		p.exec(`INSERT INTO jobs (id, kind, user_id, status, finished_at) VALUES ($1, 'contact:forget', $2, 'SUCCEEDED', now())`, models.NewID(), s.UserID)
	}
	store, err := media.Open(t.Context(), media.Config{URL: t.TempDir()}, p.db, quiet)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	p.r.cfg.Media = store
	for _, user := range []uuid.UUID{p.user.ID, p.x.UserID} {
		_, err := store.Put(t.Context(), user, "", strings.NewReader("a text"))
		require.NoError(t, err)
	}
	l.stays, err = models.UserByID(t.Context(), p.db, p.x.UserID)
	require.NoError(t, err)
	return l
}

func (l *leaver) close() {
	l.Helper()
	require.NoError(l, l.db.InPgxTx(l.Context(), func(tx pgx.Tx) (err error) {
		l.job, err = models.CloseAccount(l.Context(), tx, l.user.ID)
		return err
	}))
}

// attempt runs the job once, and says whether it has ended well.
func (l *leaver) attempt(ctx context.Context) bool {
	l.Helper()
	d := &durables{db: l.db, runner: l.r.id, log: quiet}
	for _, k := range l.r.durables() {
		if k.kind == KindCloseAccount {
			attempts := modelstest.Scalar[int](l, l.db, `SELECT attempts FROM jobs WHERE id = $1`, l.job)
			_ = d.attempt(ctx, k, durableTask{Kind: k.kind, JobID: l.job, Attempt: attempts + 1}) // the row tells
		}
	}
	return modelstest.Scalar[string](l, l.db, `SELECT status FROM jobs WHERE id = $1`, l.job) == models.JobSucceeded
}

// released is what the jobs of the sessions and the upkeep of media do meanwhile.
func (l *leaver) released() {
	l.Helper()
	l.exec(`UPDATE sessions SET released_at = now(), worker_id = NULL WHERE deleted_at IS NOT NULL`)
	_, err := l.r.cfg.Media.Upkeep(l.Context())
	require.NoError(l, err)
}

// gone demands that nothing of the account is left, and all of the other one.
func (l *leaver) gone() {
	l.Helper()
	for _, table := range []string{"users WHERE id", "sessions WHERE user_id", "api_keys WHERE user_id", "events WHERE user_id", "webhooks WHERE user_id", "media WHERE user_id", "jobs WHERE user_id"} {
		require.Zero(l, l.count(table+` = $1`, l.user.ID), table)
		require.NotZero(l, l.count(table+` = $1`, l.stays.ID)+map[bool]int64{true: 1}[table == "webhooks WHERE user_id"], table)
	}
	for _, table := range []string{"messages", "message_index", "chats"} {
		require.Zero(l, l.count(table+` WHERE session_uid <> $1`, l.x.UID), table)
		require.NotZero(l, l.count(table+` WHERE session_uid = $1`, l.x.UID), table)
	}
	require.Zero(l, l.count(`webhook_deliveries`)+l.count(`webhook_attempts`))
	require.EqualValues(l, 1, l.count(`lanes`), "of the session that stays")
	require.EqualValues(l, 1, l.count(`idempotency_keys`))
	require.EqualValues(l, 1, l.count(`usage_records WHERE user_id = $1`, l.user.ID), "what was counted stays")
	require.EqualValues(l, 2, l.count(`system_logs WHERE user_id = $1`, l.user.ID), "the audit trail stays")
	require.Zero(l, l.count(`system_logs s WHERE s::text LIKE '%'||$1||'%'`, l.user.Email))
	require.Zero(l, l.count(`jobs j WHERE j::text LIKE '%'||$1||'%'`, l.user.Email))
}

func TestCloseAccount(t *testing.T) {
	l := newLeaver(t)
	l.close()
	require.Equal(t, "false Closed account", modelstest.Scalar[string](t, l.db, `SELECT is_active || ' ' || name FROM users WHERE id = $1`, l.user.ID))
	require.Zero(t, l.count(`users WHERE email = $1`, l.user.Email), "the address is free at once")
	require.Zero(t, l.count(`api_keys WHERE user_id = $1 AND is_active`, l.user.ID))
	require.False(t, l.attempt(t.Context()), "its sessions are with a worker still")
	require.EqualValues(t, 2, l.count(`jobs WHERE kind = 'session:delete' AND status = 'QUEUED'`))
	require.Zero(t, l.count(`messages WHERE status = 'PENDING'`), "nothing is sent any more")
	require.False(t, l.attempt(t.Context()))
	require.EqualValues(t, 2, l.count(`jobs WHERE kind = 'session:delete'`), "one each")
	l.exec(`UPDATE jobs SET status = 'FAILED' WHERE kind = 'session:delete'`)
	require.False(t, l.attempt(t.Context()))
	require.EqualValues(t, 4, l.count(`jobs WHERE kind = 'session:delete'`), "one that was given up is begun anew")
	l.released()
	require.False(t, l.attempt(t.Context()), "media are dropped by upkeep")
	l.released()
	require.True(t, l.attempt(t.Context()))
	l.gone()

	// Once more, as after a kill before the end was written down.
	l.exec(`UPDATE jobs SET status = 'QUEUED' WHERE id = $1`, l.job)
	require.True(t, l.attempt(t.Context()))
	l.gone()
}

// Killed after any step, or within one, it ends as if nothing had happened.
func TestCloseAccountKilled(t *testing.T) {
	l := newLeaver(t)
	l.close()
	for attempt := 1; l.count(`users WHERE id = $1`, l.user.ID) == 1; attempt++ {
		require.Less(t, attempt, 100)
		j, ok, err := models.StartJob(t.Context(), l.db, l.job, attempt, l.r.id)
		require.NoError(t, err)
		require.True(t, ok)
		// It lasts for one statement of each step, and dies after that or the next step, before anybody notes how it ended.
		c := &closer{r: l.r, user: l.user.ID, deadline: time.Now().Add(-time.Second)}
		for _, step := range c.steps()[:min(1+attempt/2, len(c.steps()))] {
			if err := step(t.Context()); err != nil {
				require.ErrorAs(t, err, new(later))
				break
			}
		}
		require.NoError(t, models.RetryJob(t.Context(), l.db, j, 0, ""))
		if attempt%3 == 0 {
			l.released()
		}
	}
	l.attempt(t.Context())
	l.gone()
}

// An account that is open loses nothing by the job, and a session that is made in the last moment is waited for.
func TestCloseAccountLooks(t *testing.T) {
	l := newLeaver(t)
	l.close()
	l.exec(`UPDATE jobs SET params = jsonb_build_object('user', $2::uuid) WHERE id = $1`, l.job, l.stays.ID)
	require.True(t, l.attempt(t.Context()))
	require.EqualValues(t, 5, l.count(`messages WHERE session_uid = $1`, l.x.UID))
	l.exec(`UPDATE sessions SET deleted_at = now(), desired = 'DELETED', released_at = now(), worker_id = NULL WHERE user_id = $1 AND uid <> $2`, l.user.ID, l.a.UID)
	require.NoError(t, l.db.InPgxTx(t.Context(), func(tx pgx.Tx) error {
		removed, err := models.RemoveAccount(t.Context(), tx, l.user.ID)
		require.False(t, removed)
		return err
	}))
	require.EqualValues(t, 1, l.count(`users WHERE id = $1`, l.user.ID))
	l.exec(`UPDATE jobs SET status = 'QUEUED', params = '{}' WHERE id = $1`, l.job)
	require.False(t, l.attempt(t.Context()))
	require.EqualValues(t, 1, l.count(`jobs WHERE id = $1 AND status = 'FAILED'`, l.job))
}
