package models

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// LogLine is a line of the audit trail as it is read.
type LogLine struct {
	ID        uuid.UUID
	Level     string
	Service   string
	Action    string
	Actor     string
	User      *uuid.UUID
	Key       *uuid.UUID
	Target    *uuid.UUID
	Session   *string
	Worker    *string
	IP        *netip.Addr
	RequestID *string
	Details   json.RawMessage
	At        time.Time
}

// LogFilter chooses lines; what is left out does not restrict.
type LogFilter struct {
	Level, Service, Action, Actor string
	User, Target                  uuid.UUID
	Session, Worker               string
	IP                            netip.Addr
	Since, Until                  time.Time
	Before                        uuid.UUID
	Limit                         int
}

// logWindow is how many lines a page looks through.
const logWindow = 10_000

// conditions are those of the filter, the one that leaves the fewest lines first: its index leads, the others are looked at line by
// line.
func (f LogFilter) conditions() (list []string, args []any) {
	add := func(column string, value any, is bool) {
		if is {
			args = append(args, value)
			list = append(list, fmt.Sprintf("%s = $%d", column, len(args)))
		}
	}
	add("session_id", f.Session, f.Session != "")
	add("worker_id", f.Worker, f.Worker != "")
	add("target_user_id", f.Target, f.Target != uuid.Nil)
	add("user_id", f.User, f.User != uuid.Nil)
	if f.IP.IsValid() {
		args = append(args, f.IP.String())
		list = append(list, fmt.Sprintf("ip = $%d::text::inet", len(args)))
	}
	add("message", f.Action, f.Action != "")
	if f.Level != "" && f.Level != "INFO" {
		add("level <> 'INFO' AND level", f.Level, true)
	}
	leads := len(list) > 0
	add("level", f.Level, f.Level == "INFO")
	add("service", f.Service, f.Service != "")
	add("actor", f.Actor, f.Actor != "")
	if !leads {
		list = append([]string{"true"}, list...)
	}
	return list, args
}

// Logs reads a page of the audit trail, newest first. It looks through a bounded number of lines: next is where the following page
// begins, uuid.Nil after the last one.
func Logs(ctx context.Context, q Querier, f LogFilter) (page []LogLine, next uuid.UUID, err error) {
	conditions, args := f.conditions()
	lead, fits := conditions[0], "true"
	if len(conditions) > 1 {
		fits = strings.Join(conditions[1:], " AND ")
	}
	from, to := uuid.Nil, uuid.Max
	if !f.Since.IsZero() {
		from = IDFrom(f.Since)
	}
	if !f.Until.IsZero() {
		to = IDFrom(f.Until)
	}
	if f.Before != uuid.Nil && strings.Compare(f.Before.String(), to.String()) < 0 {
		to = f.Before
	}
	n := len(args)
	args = append(args, from, to, logWindow, f.Limit+1)
	rows, err := q.Query(ctx, fmt.Sprintf(`WITH seen AS MATERIALIZED (
			SELECT *, %s AS fits FROM system_logs WHERE %s AND id >= $%d AND id < $%d ORDER BY id DESC LIMIT $%d
		), ends AS (SELECT count(*) AS n, (array_agg(id ORDER BY id))[1] AS last FROM seen)
		SELECT ends.n, ends.last, l.id, l.level, l.service, l.message, l.actor, l.user_id, l.api_key_id, l.target_user_id, l.session_id, l.worker_id, l.ip, l.request_id,
			l.details, l.timestamp
		FROM ends LEFT JOIN LATERAL (SELECT * FROM seen WHERE fits ORDER BY id DESC LIMIT $%d) l ON true ORDER BY l.id DESC`,
		fits, lead, n+1, n+2, n+3, n+4), args...)
	if err != nil {
		return nil, uuid.Nil, fmt.Errorf("read audit trail: %w", err)
	}
	return logPage(rows, f.Limit)
}

func logPage(rows pgx.Rows, limit int) (page []LogLine, next uuid.UUID, err error) {
	var seen int
	var last, id *uuid.UUID
	var level, service, action, actor *string
	var at *time.Time
	var l LogLine
	_, err = pgx.ForEachRow(rows, []any{&seen, &last, &id, &level, &service, &action, &actor, &l.User, &l.Key, &l.Target, &l.Session, &l.Worker, &l.IP, &l.RequestID, &l.Details, &at}, func() error {
		if id != nil { // else nothing fits
			l.ID, l.Level, l.Service, l.Action, l.Actor, l.At = *id, *level, *service, *action, *actor, *at
			page = append(page, l)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, uuid.Nil, fmt.Errorf("read audit trail: %w", err)
	case len(page) > limit:
		page = page[:limit]
		next = page[limit-1].ID
	case seen == logWindow && last != nil:
		next = *last
	}
	return page, next, nil
}
