package models

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Window is a stretch of time in equal steps, which lie at whole multiples of Step since the epoch.
type Window struct {
	From, Until time.Time
	Step        time.Duration
}

// WindowUpTo is the window of so many steps of which the last one is under way at the given time.
func WindowUpTo(now time.Time, span, step time.Duration) Window {
	until := now.UTC().Truncate(step).Add(step)
	return Window{From: until.Add(-span), Until: until, Step: step}
}

// Now is PostgreSQL's clock, by which everything in it was written.
func Now(ctx context.Context, q Querier) (now time.Time, err error) {
	err = q.QueryRow(ctx, `SELECT now()`).Scan(&now)
	return now, err
}

// Steps is how many there are.
func (w Window) Steps() int { return int(w.Until.Sub(w.From) / w.Step) }

// Index is the number of the step that begins at the given time.
func (w Window) Index(at time.Time) int { return int(at.Sub(w.From) / w.Step) }

// Start is when a step begins.
func (w Window) Start(i int) time.Time { return w.From.Add(time.Duration(i) * w.Step) }

// MessageCount is how many messages of a type were written in a step and have a status at present.
type MessageCount struct {
	At      time.Time
	Inbound bool
	Type    string // upper case
	Status  string // PENDING for SENDING too; empty for inbound ones
	N       int64
}

// MessageCounts reads how many messages were written in a window, those dropped since too. The last seconds may be missing.
func MessageCounts(ctx context.Context, q Querier, w Window) ([]MessageCount, error) {
	rows, err := q.Query(ctx, `SELECT at, state = '`+stateReceived+`', kind, CASE state WHEN '`+stateReceived+`' THEN '' ELSE state END, n FROM analytics_counts
		WHERE step = $1 AND at >= $2 AND at < $3 AND subject = '`+countedMessages+`' AND n > 0`, int32(w.Step.Seconds()), w.From, w.Until)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[MessageCount])
}

// UserSteps is what happened to users in a window, step by step.
type UserSteps struct {
	New    []int64 // came, closed since or not
	Active []int64 // logged in, each once in a step
}

// UserStepsOf reads it. The last seconds may be missing.
func UserStepsOf(ctx context.Context, q Querier, w Window) (u UserSteps, err error) {
	u.New, u.Active = make([]int64, w.Steps()), make([]int64, w.Steps())
	rows, err := q.Query(ctx, `SELECT at, subject, n FROM analytics_counts WHERE step = $1 AND at >= $2 AND at < $3 AND subject IN ('`+countedNewUsers+`', '`+countedActive+`')`,
		int32(w.Step.Seconds()), w.From, w.Until)
	if err != nil {
		return u, err
	}
	defer rows.Close()
	for rows.Next() {
		var at time.Time
		var subject string
		var n int64
		if err := rows.Scan(&at, &subject, &n); err != nil {
			return u, err
		}
		if subject == countedActive {
			u.Active[w.Index(at)] = n
		} else {
			u.New[w.Index(at)] = n
		}
	}
	return u, rows.Err()
}

// UserTotals is how many users there are.
type UserTotals struct {
	ByTier map[string]int64 // upper case
	Active int64            // logged in since the time asked for
	New    int64            // came since the time asked for
}

// UserTotalsOf reads how many users there are, and of them who logged in last, and who came, since the given whole hours.
func UserTotalsOf(ctx context.Context, q Querier, active, came time.Time) (u UserTotals, err error) {
	u.ByTier = map[string]int64{}
	rows, err := q.Query(ctx, `
		SELECT subject, kind, n FROM analytics_counts WHERE step = 0 AND at = 'epoch' AND subject = '`+countedUsers+`'
		UNION ALL
		SELECT subject, '', coalesce(sum(n), 0)::bigint FROM analytics_counts WHERE step = 3600 AND at >= $1 AND subject = '`+countedLastLogins+`' GROUP BY 1
		UNION ALL
		SELECT subject, '', coalesce(sum(n), 0)::bigint FROM analytics_counts WHERE step = 3600 AND at >= $2 AND subject = '`+countedNewUsers+`' GROUP BY 1`, active, came)
	if err != nil {
		return u, err
	}
	defer rows.Close()
	for rows.Next() {
		var subject, tier string
		var n int64
		if err := rows.Scan(&subject, &tier, &n); err != nil {
			return u, err
		}
		switch subject {
		case countedUsers:
			u.ByTier[tier] = n
		case countedLastLogins:
			u.Active = n
		default:
			u.New = n
		}
	}
	return u, rows.Err()
}

// Overview is how much there is.
type Overview struct {
	Users, Messages   int64 // messages that were ever written, dropped ones too
	Sessions          int64
	Connected         int64
	Online, Offline   int64   // workers
	AvgCPU, AvgMemory float64 // percent, of the workers online
}

// OverviewOf counts what is few, and reads what was counted.
func OverviewOf(ctx context.Context, q Querier) (o Overview, err error) {
	err = q.QueryRow(ctx, `
		WITH ever AS (
			SELECT sum(n) FILTER (WHERE subject = '`+countedUsers+`') AS users, sum(n) FILTER (WHERE subject = '`+countedMessages+`') AS messages
			FROM analytics_counts WHERE step = 0 AND at = 'epoch'
		), of_sessions AS (
			SELECT count(*) AS all, count(*) FILTER (WHERE status = 'CONNECTED') AS connected FROM sessions WHERE deleted_at IS NULL
		), of_workers AS (
			SELECT count(*) FILTER (WHERE lease_expires_at > now()) AS online, count(*) FILTER (WHERE lease_expires_at <= now()) AS offline,
				avg(cpu_usage) FILTER (WHERE lease_expires_at > now()) AS cpu, avg(memory_usage) FILTER (WHERE lease_expires_at > now()) AS memory
			FROM workers WHERE removed_at IS NULL
		)
		SELECT coalesce(e.users, 0)::bigint, coalesce(e.messages, 0)::bigint, s.all, s.connected, w.online, w.offline, coalesce(w.cpu, 0), coalesce(w.memory, 0)
		FROM ever e, of_sessions s, of_workers w`).
		Scan(&o.Users, &o.Messages, &o.Sessions, &o.Connected, &o.Online, &o.Offline, &o.AvgCPU, &o.AvgMemory)
	return o, err
}
