package models

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Recovery is what a database needs that was put back to a state of the past. Others remember what it has forgotten: workers their
// terms and epochs, runners their generations, subscribers sequences, browsers tokens. A number that was given out since that
// state must not be given out again for something else, so all of them are raised by more than can have been given out. No
// process may work on the database until that is done.
type Recovery struct {
	From time.Time // the state
	Now  time.Time // both by the clock of PostgreSQL
	Hold bool      // nothing is sent until an administrator says so
	How  string    // for the audit trail
}

const (
	// numbersPerSecond is more than any one counter is moved on: whoever does so holds its row until he has committed.
	numbersPerSecond = 10_000
	// numbersAtOnce makes the jump visible as one: a sequence goes on at its last number and a million, or several.
	numbersAtOnce = 1_000_000
	// tokenVersions is how many more times nobody can have ended his tokens. The column is an int.
	tokenVersions = 1_000_000
)

// Margin is by how much numbers are raised: the next full million above all that can have been given out since.
func (r Recovery) Margin() int64 {
	since := int64(max(r.Now.Sub(r.From), 0) / time.Second)
	return (since*numbersPerSecond/numbersAtOnce + 1) * numbersAtOnce
}

// Statements are what has to be done, in one transaction: SQL without parameters, for whoever runs a script. They name columns of
// the schema as it was when backups began, so that they do for a backup of an older version too.
func (r Recovery) Statements() []string {
	margin := r.Margin()
	list := []string{
		`SET LOCAL search_path = public`,
		`SET LOCAL statement_timeout = 0`,
		`SET LOCAL enable_seqscan = on`,

		// A worker of the time that was lost may be connected still, for a lease from when the last API process ended, which was
		// before this transaction began: nobody gets its sessions earlier. What it says later is refused, since the terms of all
		// rise: of those that are removed too, and of those that registered since and are not known here, by the column's
		// default, which a new row begins with.
		fmt.Sprintf(`UPDATE workers SET term = term + %d, status = 'OFFLINE', problem = NULL, problem_since = NULL, updated_at = now(),
			lease_expires_at = now() + coalesce((SELECT lease FROM intake), interval '12 seconds')`, margin),
		fmt.Sprintf(`DO $$ BEGIN EXECUTE format('ALTER TABLE workers ALTER COLUMN term SET DEFAULT %%s', %d + greatest(
			(SELECT max(term) FROM workers),
			(SELECT substring(pg_get_expr(d.adbin, d.adrelid) FROM '\d+')::bigint FROM pg_attrdef d
				JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = 'workers'::regclass AND a.attname = 'term'))); END $$`, margin),
		fmt.Sprintf(`UPDATE sessions SET epoch = epoch + %d, held_term = 0, held_at = NULL, updated_at = now()`, margin),

		// The heartbeats that could be taken count anew, and the runners are not there any more.
		`DELETE FROM intake`,
		`DELETE FROM runners`,

		// What was waiting may have gone out since. It goes out again under the same WhatsApp ID, by which phones know it, and what
		// can't ends as UNKNOWN: nobody may say of it that it was never sent. What is not due yet can't have been sent. To strangers
		// caps apply, which count what was never tried: such messages stay as they are.
		`UPDATE messages m SET status = 'SENDING', next_attempt_at = now(), waiting_for = NULL, updated_at = now()
			WHERE m.status = 'PENDING' AND (m.send_at IS NULL OR m.send_at <= now()) AND EXISTS (SELECT 1 FROM chats h
				WHERE h.session_uid = m.session_uid AND h.chat = m.chat AND (h.first_sent_at IS NOT NULL OR h.last_received_at IS NOT NULL))`,
		fmt.Sprintf(`UPDATE lanes l SET next_seq = next_seq + %[1]d, generation = generation + %[1]d, holder = NULL,
			next_due_at = CASE WHEN kind = 'MESSAGES' AND EXISTS (SELECT 1 FROM messages m WHERE m.session_uid = l.id AND m.status IN ('PENDING', 'SENDING'))
				THEN now() ELSE next_due_at END`, margin),

		// Tokens that were ended since would be good again, and codes that were used.
		fmt.Sprintf(`UPDATE users SET token_version = token_version + %d, updated_at = now()`, tokenVersions),
		`DELETE FROM account_tokens`,
		`DELETE FROM stream_tickets`,

		// Streams read events in the order of transactions, whose numbers begin anew on another server: what is there already comes
		// before all of them.
		`DO $$ BEGIN
			IF EXISTS (SELECT 1 FROM events WHERE xid >= pg_current_xact_id()) THEN
				UPDATE events SET xid = '0' WHERE xid <> '0';
			END IF;
		END $$`,
	}
	if r.Hold {
		list = append(list, `UPDATE platform SET sending_paused_at = coalesce(sending_paused_at, now())`)
	}
	return append(list, fmt.Sprintf(`INSERT INTO system_logs (level, service, actor, message, details) VALUES ('WARN', 'cli', 'operator', 'platform.restored',
		jsonb_build_object('how', %s::text, 'from', %s::text, 'margin', %d, 'held', %t))`, Literal(r.How), Literal(r.From.UTC().Format(time.RFC3339)), margin, r.Hold))
}

// Literal is a text in SQL, whatever is in it.
func Literal(text string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", "").Replace(text) + "'"
}

// ErrAlive refuses to put a database back on which somebody works.
var ErrAlive = errors.New("processes are working on this database")

// Recover makes a database fit to go on that PostgreSQL's own means have put back to a state of the past: recovery to a point in time, a
// snapshot of its disk, a replica that lacks the last transactions. It returns from when the state is.
func Recover(ctx context.Context, db *DB, r Recovery) (Recovery, error) {
	err := db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL statement_timeout = 0`); err != nil {
			return err
		}
		// API processes beat each second, workers each few; where neither ever did, there is nothing that anybody remembers.
		if err := tx.QueryRow(ctx, `SELECT now(), coalesce((SELECT seen FROM intake), (SELECT max(last_heartbeat) FROM workers), now())`).Scan(&r.Now, &r.From); err != nil {
			return err
		}
		for _, statement := range r.Statements() {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return fmt.Errorf("make fit what was put back: %w", err)
			}
		}
		return nil
	})
	return r, err
}

// Alive lists the processes that work on a database, or did so seconds ago, for people to read: Kurir's own, and workers that keep the
// credentials of linked phones there. What need not be there is not asked.
func Alive(ctx context.Context, q Querier) (list []string, err error) {
	var api, runners bool
	if err := q.QueryRow(ctx, `SELECT to_regclass('public.intake') IS NOT NULL, to_regclass('public.runners') IS NOT NULL`).Scan(&api, &runners); err != nil {
		return nil, err
	}
	questions := []string{`SELECT DISTINCT application_name || coalesce(' from ' || host(client_addr), '') FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name ~ '^kurir( (up|api|runner|scheduler)|-whatsapp)\M' ORDER BY 1`}
	if api {
		questions = append(questions, `SELECT 'an api process, heard of ' || extract(epoch FROM now() - seen)::numeric(9, 1) || ' s ago' FROM public.intake WHERE seen > now() - interval '5 seconds'`)
	}
	if runners {
		questions = append(questions, `SELECT 'the runner with process ID ' || pid || ' on ' || hostname FROM public.runners WHERE expires_at > now() ORDER BY 1`)
	}
	for _, question := range questions {
		rows, err := q.Query(ctx, question)
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

// Occupied is how many tables, views, sequences and functions a database has in some schemas, those of extensions left out.
func Occupied(ctx context.Context, q Querier, schemas []string) (n int, err error) {
	err = q.QueryRow(ctx, `SELECT coalesce(sum((SELECT count(*) FROM pg_class c WHERE c.relnamespace = s.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
			AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
		+ (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = s.oid
			AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'))), 0)::int
		FROM pg_namespace s WHERE s.nspname = ANY($1)`, schemas).Scan(&n)
	return n, err
}

// Inventory is how much a database holds, for who wants to know whether it is the right one.
type Inventory struct {
	Users, Sessions int
	Waiting         int // messages that are not settled
}

// InventoryOf counts it. The schema has to be there.
func InventoryOf(ctx context.Context, q Querier) (i Inventory, err error) {
	err = q.QueryRow(ctx, `SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM sessions WHERE deleted_at IS NULL),
		(SELECT count(*) FROM (`+unsettledOf("1", "true", "")+`) x)`).Scan(&i.Users, &i.Sessions, &i.Waiting)
	return i, err
}

// LeasesLeft is how long some worker may still hold sessions under a lease that the database knows.
func LeasesLeft(ctx context.Context, q Querier) (time.Duration, error) {
	var seconds float64
	err := q.QueryRow(ctx, `SELECT coalesce(extract(epoch FROM max(lease_expires_at) - clock_timestamp()), 0)::float8 FROM workers
		WHERE lease_expires_at > clock_timestamp()`).Scan(&seconds)
	return time.Duration(max(seconds, 0) * float64(time.Second)), err
}

// Analyze has PostgreSQL look at all tables, so that plans are made for what is in them.
func Analyze(ctx context.Context, db *DB) error {
	conn, err := db.Pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SET statement_timeout = 0`); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `ANALYZE`)
	_, reset := conn.Exec(context.WithoutCancel(ctx), `RESET statement_timeout`)
	return errors.Join(err, reset)
}
