package models

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"kurir/limits"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
)

// KindLetter is the kind of the jobs that mail a letter.
const KindLetter = "mail:letter"

// Letters that there are.
const (
	LetterReset            = "reset"
	LetterVerify           = "verify"
	LetterPasswordChanged  = "password_changed"
	LetterEmailChanged     = "email_changed"
	LetterWebhookDisabled  = "webhook_disabled"
	LetterSessionLoggedOut = "session_logged_out"
	LetterKeyExpiring      = "key_expiring"
	LetterLimitReached     = "limit_reached"
)

// Letter is what the job of a letter knows. What the letter says is read, and its secrets are made, when it is sent.
type Letter struct {
	Letter string          `json:"letter"`
	User   *uuid.UUID      `json:"user,omitempty"`  // nil: whoever has the address To, if anybody has
	To     []byte          `json:"to,omitempty"`    // an address, sealed for LetterAddress; empty: the user's
	About  json.RawMessage `json:"about,omitempty"` // one of the types below
}

// LetterAddress is the purpose for which the addresses of letters are sealed.
const LetterAddress = "address of a letter"

// Pages of ours that letters lead to.
const (
	ResetPage  = "/account/reset"
	VerifyPage = "/account/verify"
)

// What letters are about.
type (
	// AboutPassword is of LetterPasswordChanged.
	AboutPassword struct {
		ByReset   bool `json:"byReset"`
		KeysEnded bool `json:"keysEnded,omitempty"` // with it
	}
	// AboutSession is of LetterSessionLoggedOut.
	AboutSession struct {
		Session uuid.UUID `json:"session"`
	}
	// AboutKey is of LetterKeyExpiring.
	AboutKey struct {
		Key uuid.UUID `json:"key"`
	}
	// AboutLimit is of LetterLimitReached.
	AboutLimit struct {
		Limit string `json:"limit"`
	}
)

// Execer is what statements need that answer nothing: a Querier, or a transaction of bun's by InBun.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// InBun lets such a statement run in a transaction of bun's.
func InBun(tx bun.Tx) Execer { return bunExecer{tx.Tx} }

type bunExecer struct{ tx *sql.Tx }

func (b bunExecer) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	res, err := b.tx.ExecContext(ctx, sql, args...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	n, err := res.RowsAffected()
	return pgconn.NewCommandTag("ROWS " + strconv.FormatInt(n, 10)), err
}

// QueueLetter has a user mailed a letter, in the transaction of what it tells of. The sweep finds it within a second of the
// commit.
func QueueLetter(ctx context.Context, q Execer, user uuid.UUID, letter string, about any) error {
	return queueLetter(ctx, q, Letter{Letter: letter, User: &user}, about)
}

// QueueLetterTo has a letter about a user mailed to another address than his.
func QueueLetterTo(ctx context.Context, q Execer, vault *Vault, address string, user uuid.UUID, letter string, about any) error {
	return queueLetter(ctx, q, Letter{Letter: letter, User: &user, To: vault.Seal(LetterAddress, []byte(address))}, about)
}

func queueLetter(ctx context.Context, q Execer, l Letter, about any) error {
	if about != nil {
		body, err := json.Marshal(about)
		if err != nil {
			return err
		}
		l.About = body
	}
	return AddNotice(ctx, q, NewID(), KindLetter, l)
}

// lettersAsked is how many letters of a kind an address can be sent within an hour on somebody's request, or for what he does.
const lettersAsked = 3

// AskForLetter has a letter mailed to whoever has an address. It does the same whether there is such a user or not: only the
// job finds out. More than lettersAsked an hour are passed over, and nobody is told.
func AskForLetter(ctx context.Context, db *DB, vault *Vault, letter, address string) error {
	return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		q := InBun(tx)
		ok, err := withinQuota(ctx, q, letter+" "+address, lettersAsked)
		if err != nil || !ok {
			return err
		}
		return queueLetter(ctx, q, Letter{Letter: letter, To: vault.Seal(LetterAddress, []byte(address))}, nil)
	})
}

// QueueProof has a user mailed the token that proves an address of his, which is his present or his pending one, unless that
// address has had enough of them.
func QueueProof(ctx context.Context, q Execer, user uuid.UUID, address string) error {
	ok, err := ProofWithinQuota(ctx, q, address)
	if err != nil || !ok {
		return err
	}
	return QueueLetter(ctx, q, user, LetterVerify, nil)
}

// ProofWithinQuota counts one more letter of proof to an address, and says whether it may be sent.
func ProofWithinQuota(ctx context.Context, q Execer, address string) (bool, error) {
	return withinQuota(ctx, q, LetterVerify+" "+address, lettersAsked)
}

// Limits that LetterLimitReached is about.
const (
	LimitMessages = limits.OfMessages
	LimitSessions = limits.OfSessions
)

// TellLimitReached has a user told that he has reached a limit of his tier, once an hour at most. It may be called for every
// request that is refused.
func TellLimitReached(ctx context.Context, db *DB, user uuid.UUID, limit string) error {
	subject := LetterLimitReached + " " + limit + " " + user.String()
	var told bool
	err := db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM letter_quotas WHERE subject = $1 AND since > now() - make_interval(secs => $2))`,
		quotaSubject(subject), quotaWindow.Seconds()).Scan(&told)
	if err != nil || told {
		return err
	}
	return db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		ok, err := withinQuota(ctx, InBun(tx), subject, 1)
		if err != nil || !ok {
			return err
		}
		return QueueLetter(ctx, InBun(tx), user, LetterLimitReached, AboutLimit{Limit: limit})
	})
}

const quotaWindow = time.Hour

func quotaSubject(subject string) []byte {
	sum := sha256.Sum256([]byte(subject))
	return sum[:]
}

// withinQuota counts one more for a subject, and says whether it is among the first most of its hour.
func withinQuota(ctx context.Context, q Execer, subject string, most int) (bool, error) {
	tag, err := q.Exec(ctx, `INSERT INTO letter_quotas AS l (subject, count, since) VALUES ($1, 1, now())
		ON CONFLICT (subject) DO UPDATE SET count = CASE WHEN l.since <= now() - make_interval(secs => $3) THEN 1 ELSE l.count + 1 END,
			since = CASE WHEN l.since <= now() - make_interval(secs => $3) THEN now() ELSE l.since END
		WHERE l.count < $2 OR l.since <= now() - make_interval(secs => $3)`, quotaSubject(subject), most, quotaWindow.Seconds())
	return tag.RowsAffected() == 1, err
}

// EndLetter removes the address from a letter's job that has ended: its row is kept for longer.
func EndLetter(ctx context.Context, q Querier, job uuid.UUID) error {
	_, err := q.Exec(ctx, `UPDATE jobs SET params = params - 'to' WHERE id = $1`, job)
	return err
}

// ForgetLetters drops counts and mailed tokens whose time is over.
func ForgetLetters(ctx context.Context, q Querier) (int64, error) {
	tag, err := q.Exec(ctx, `DELETE FROM letter_quotas WHERE since < now() - make_interval(secs => $1)`, quotaWindow.Seconds())
	if err != nil {
		return 0, err
	}
	tokens, err := q.Exec(ctx, `DELETE FROM account_tokens WHERE expires_at < now()`)
	return tag.RowsAffected() + tokens.RowsAffected(), err
}

// WarnOfExpiry adds letters about API keys that expire within a week, and again within a day, and says how many. A key that was
// made for less than that is not warned of, and one whose end is moved is warned of anew.
func WarnOfExpiry(ctx context.Context, q Querier, limit int) (int64, error) {
	tag, err := q.Exec(ctx, `WITH due AS (
			SELECT k.id, k.user_id, k.expires_at, d.days FROM api_keys k
			CROSS JOIN LATERAL (SELECT CASE WHEN k.expires_at <= now() + interval '1 day' THEN 1 ELSE 7 END AS days) d
			WHERE k.is_active AND k.expires_at > now() AND k.expires_at <= now() + interval '7 days'
				AND (k.warned_expiry IS DISTINCT FROM k.expires_at OR k.warned_days > d.days)
				AND k.created_at <= k.expires_at - make_interval(days => d.days)
			ORDER BY k.expires_at LIMIT $1 FOR NO KEY UPDATE OF k SKIP LOCKED
		), warned AS (
			UPDATE api_keys k SET warned_expiry = due.expires_at, warned_days = due.days FROM due WHERE k.id = due.id RETURNING k.id, k.user_id
		) INSERT INTO jobs (id, kind, params) SELECT kurir_uuid_v7(), $2,
			jsonb_build_object('letter', $3::text, 'user', user_id, 'about', jsonb_build_object('key', id)) FROM warned`, limit, KindLetter, LetterKeyExpiring)
	return tag.RowsAffected(), err
}

// APIKeyByID finds a key, whatever its state.
func APIKeyByID(ctx context.Context, db bun.IDB, id uuid.UUID) (*APIKey, error) {
	k := new(APIKey)
	err := db.NewSelect().Model(k).Where("id = ?", id).Scan(ctx)
	return k, err
}
