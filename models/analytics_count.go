package models

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// What is counted for analytics. Which changes there are to count, the triggers of messages and users say.
const (
	countedMessages   = "MESSAGE"
	countedUsers      = "USER"
	countedNewUsers   = "NEW_USER"
	countedLastLogins = "LAST_LOGIN"  // users by when they were here last: who comes again moves on
	countedActive     = "ACTIVE_USER" // users that were here in a step, each once
	stateReceived     = "RECEIVED"    // of all messages that came in
)

// AnalyticsStep is a stretch of time that is counted, and for how long it is kept: as long as the range that is shown in
// such steps, and some more, so that what is dropped is nowhere on show. Step 0 is all time.
type analyticsStep struct {
	step, kept time.Duration
}

var analyticsSteps = []analyticsStep{
	{0, 0}, {time.Minute, 2 * time.Hour}, {15 * time.Minute, 26 * time.Hour}, {time.Hour, 8 * 24 * time.Hour}, {6 * time.Hour, 32 * 24 * time.Hour},
}

// AnalyticsBatch is how many changes CountAnalytics counts at a time.
const AnalyticsBatch = 5000

// Who counts holds analyticsLock: changes are then counted in the order of their IDs, so a message is never taken from a
// status before it has been counted there. Those to count are looked for once, as in countMessages.
const (
	analyticsLock = `SELECT pg_try_advisory_xact_lock(hashtext('kurir_analytics'))`

	countAnalytics = `
WITH taken AS (
	DELETE FROM analytics_changes WHERE id = ANY (ARRAY (SELECT id FROM analytics_changes ORDER BY id LIMIT $1)) RETURNING subject, kind, state, at, former, n
), counted AS (
	SELECT s.step, CASE s.step WHEN 0 THEN 'epoch' ELSE date_bin(make_interval(secs => s.step), t.at, 'epoch') END AS at, t.subject, t.kind, t.state, sum(t.n)::bigint AS n
	FROM taken t CROSS JOIN unnest($2::int[], $3::int[]) AS s (step, kept)
	WHERE CASE s.step WHEN 0 THEN t.former IS NULL
		ELSE t.at >= now() - make_interval(secs => s.kept) AND t.at < now() + interval '1 day'
			AND (t.former IS NULL OR t.former < date_bin(make_interval(secs => s.step), t.at, 'epoch')) END
	GROUP BY 1, 2, 3, 4, 5 HAVING sum(t.n) <> 0
), added AS (
	INSERT INTO analytics_counts AS o (step, at, subject, kind, state, n) SELECT * FROM counted ORDER BY 1, 2, 3, 4, 5
	ON CONFLICT (step, at, subject, kind, state) DO UPDATE SET n = o.n + excluded.n
) SELECT count(*) FROM taken`
)

// CountAnalytics counts the oldest changes of messages and users that wait for it, and says how many it took, up to
// AnalyticsBatch; none if somebody else is counting.
func CountAnalytics(ctx context.Context, db *DB) (taken int, err error) {
	steps, kept := make([]int32, len(analyticsSteps)), make([]int32, len(analyticsSteps))
	for i, s := range analyticsSteps {
		steps[i], kept[i] = int32(s.step.Seconds()), int32(s.kept.Seconds())
	}
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		var ours bool
		if err := tx.QueryRow(ctx, analyticsLock).Scan(&ours); err != nil || !ours {
			return err
		}
		return tx.QueryRow(ctx, countAnalytics, AnalyticsBatch, steps, kept).Scan(&taken)
	})
	if err != nil {
		return 0, fmt.Errorf("count for analytics: %w", err)
	}
	return taken, nil
}

// analyticsSlack is how much longer steps are kept than they are counted: a count under way adds to none that is dropped.
const analyticsSlack = time.Hour

// ForgetAnalytics drops steps that no range shows any more.
func ForgetAnalytics(ctx context.Context, q Querier) (dropped int64, err error) {
	for _, s := range analyticsSteps {
		if s.step == 0 {
			continue
		}
		tag, err := q.Exec(ctx, `DELETE FROM analytics_counts WHERE step = $1 AND at < now() - make_interval(secs => $2)`, int32(s.step.Seconds()), (s.kept + s.step + analyticsSlack).Seconds())
		if err != nil {
			return dropped, err
		}
		dropped += tag.RowsAffected()
	}
	return dropped, nil
}
