package models

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Audit is one line of the audit trail: who or what changed what. It never holds a message, a number in full or a secret.
type Audit struct {
	Level   string // INFO if empty
	Service string // api or runner
	Message string // what happened, such as session.migrated
	Details any
	User    uuid.UUID // who asked, zero if nobody did
	Session string    // public name or uid
	Worker  string
}

// WriteAudit writes lines, in the transaction of the changes that they tell of.
func WriteAudit(ctx context.Context, q Querier, lines ...Audit) error {
	if len(lines) == 0 {
		return nil
	}
	n := len(lines)
	levels, services, messages, details := make([]string, n), make([]string, n), make([]string, n), make([]*string, n)
	users, sessions, workers := make([]*uuid.UUID, n), make([]*string, n), make([]*string, n)
	for i := range lines {
		l := &lines[i]
		levels[i], services[i], messages[i] = l.Level, l.Service, l.Message
		if l.Level == "" {
			levels[i] = "INFO"
		}
		if l.Details != nil {
			body, err := json.Marshal(l.Details)
			if err != nil {
				return err
			}
			text := string(body)
			details[i] = &text
		}
		if l.User != uuid.Nil {
			users[i] = &l.User
		}
		sessions[i], workers[i] = optional(l.Session), optional(l.Worker)
	}
	_, err := q.Exec(ctx, `INSERT INTO system_logs (level, service, message, details, user_id, session_id, worker_id)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::uuid[], $6::text[], $7::text[])`,
		levels, services, messages, details, users, sessions, workers)
	return err
}

// ForgetAudit drops lines older than the given age.
func ForgetAudit(ctx context.Context, q Querier, age time.Duration) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM system_logs WHERE timestamp < now() - make_interval(secs => $1)`, age.Seconds())
	return tag.RowsAffected(), err
}
