package models

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Kinds of those who change something.
const (
	ActorAnonymous     = "anonymous"     // nobody whom we know
	ActorUser          = "user"          // with a token
	ActorAPIKey        = "api_key"       // of a user or a session
	ActorAdministrator = "administrator" // in that office: on his own things he is a user
	ActorWorker        = "worker"
	ActorSystem        = "system"   // our own jobs
	ActorOperator      = "operator" // at the command line
)

// Audit is one line of the audit trail: who or what did what to what, from where. It never holds a message, a number in full, a
// mail address or a secret: IDs only, so that nobody is named when his account is closed.
type Audit struct {
	Level     string // INFO if empty
	Service   string // api, runner or cli
	Message   string // what happened, such as session.migrated
	Details   any
	Actor     string     // ActorSystem if empty
	User      uuid.UUID  // who did it, zero if no user did
	Key       *uuid.UUID // with which API key
	Target    uuid.UUID  // the account that it concerns
	Session   string     // public name or uid
	Worker    string
	IP        netip.Addr
	RequestID string
}

// WriteAudit writes lines, in the transaction of the changes that they tell of.
func WriteAudit(ctx context.Context, q Querier, lines ...Audit) error {
	if len(lines) == 0 {
		return nil
	}
	args, err := auditArgs(lines)
	if err != nil {
		return err
	}
	_, err = q.Exec(ctx, auditSQL, args...)
	return err
}

// queueAudit is WriteAudit as a part of a batch.
func queueAudit(b *pgx.Batch, line Audit) error {
	args, err := auditArgs([]Audit{line})
	if err == nil {
		b.Queue(auditSQL, args...)
	}
	return err
}

const auditSQL = `INSERT INTO system_logs (level, service, message, details, user_id, session_id, worker_id, actor, api_key_id, target_user_id, ip, request_id)
	SELECT t.level, t.service, t.message, t.details, t.user_id, t.session_id, t.worker_id, t.actor, t.key_id, t.target_id, t.ip::inet, t.request_id
	FROM unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::uuid[], $10::uuid[], $11::text[], $12::text[])
		AS t (level, service, message, details, user_id, session_id, worker_id, actor, key_id, target_id, ip, request_id)`

// auditArgs are the arguments of auditSQL.
func auditArgs(lines []Audit) ([]any, error) {
	n := len(lines)
	levels, services, messages, actors, details := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]*string, n)
	users, keys, targets := make([]*uuid.UUID, n), make([]*uuid.UUID, n), make([]*uuid.UUID, n)
	sessions, workers, ips, requests := make([]*string, n), make([]*string, n), make([]*string, n), make([]*string, n)
	for i := range lines {
		l := &lines[i]
		levels[i], services[i], messages[i], actors[i] = l.Level, l.Service, l.Message, l.Actor
		if l.Level == "" {
			levels[i] = "INFO"
		}
		if l.Actor == "" {
			actors[i] = ActorSystem
		}
		if l.Details != nil {
			body, err := json.Marshal(l.Details)
			if err != nil {
				return nil, err
			}
			text := string(body)
			details[i] = &text
		}
		users[i], keys[i], targets[i] = someID(l.User), l.Key, someID(l.Target)
		sessions[i], workers[i], requests[i] = storable(l.Session), storable(l.Worker), storable(l.RequestID)
		if l.IP.IsValid() {
			ips[i] = optional(l.IP.Unmap().WithZone("").String())
		}
	}
	return []any{levels, services, messages, details, users, sessions, workers, actors, keys, targets, ips, requests}, nil
}

func someID(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// storable is a client's text as PostgreSQL takes it, nil for none.
func storable(text string) *string {
	return optional(strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", ""))
}

// forgetRows is how many rows one statement drops of what may be millions: whoever calls it goes on until there are none.
const forgetRows = 5000

// ForgetAudit drops the oldest of the lines older than the given age, forgetRows at most.
func ForgetAudit(ctx context.Context, q Querier, age time.Duration) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM system_logs WHERE id = ANY (ARRAY (
		SELECT id FROM system_logs WHERE timestamp < now() - make_interval(secs => $1) ORDER BY timestamp LIMIT $2))`, age.Seconds(), forgetRows)
	return tag.RowsAffected(), err
}

// ForgetAddresses takes from up to limit lines of a user the address that he came from, and says of how many: from what he did, and
// from what somebody did to his account whom we did not know, such as a login in vain. The addresses of administrators stay. What is
// left are IDs, which name nobody when his account is gone: closing an account calls it until there are none.
func ForgetAddresses(ctx context.Context, q Querier, user uuid.UUID, limit int) (int64, error) {
	tag, err := q.Exec(ctx, `UPDATE system_logs SET ip = NULL WHERE id IN (
		SELECT id FROM system_logs WHERE user_id = $1 AND ip IS NOT NULL
		UNION ALL
		SELECT id FROM system_logs WHERE target_user_id = $1 AND actor = '`+ActorAnonymous+`' AND ip IS NOT NULL LIMIT $2)`, user, limit)
	return tag.RowsAffected(), err
}
