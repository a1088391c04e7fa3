package models

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"kurir/fault"
)

// A month in which nothing waits any more is sealed: a constraint says so. PostgreSQL leaves such a partition out when it plans a statement that
// asks for what waits, so that the way of a message costs the same however many months are kept; and nothing can wait there unseen, whoever
// writes it, since the constraint would refuse it.
const (
	seal     = "messages_settled"
	sealWhen = `CHECK (status <> 'PENDING' AND status <> 'SENDING')`
)

// sealAfter is how long a month is over before it is sealed. A message is stored moments after its ID was made, or, where a client repeats a
// request by its Idempotency-Key, a day.
const sealAfter = 7 * 24 * time.Hour

// sealTime bounds the reading of a month, which stops nobody, when its seal is proved.
const sealTime = 10 * time.Minute

// SealMonths seals the months that are over and in which nothing waits, and returns how many it sealed. A partition has to be free for that for
// a moment; where somebody has it for long it is left for the next call.
func SealMonths(ctx context.Context, db *DB, now time.Time) (sealed int, err error) {
	rows, err := db.Pool.Query(ctx, `SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'messages'::regclass AND (c.relname = 'messages_old' OR c.relname < 'messages_' || $1)
		  AND NOT EXISTS (SELECT 1 FROM pg_constraint s WHERE s.conrelid = c.oid AND s.conname = $2 AND s.convalidated) ORDER BY c.relname`,
		now.Add(-sealAfter).UTC().Format("200601"), seal)
	if err != nil {
		return 0, err
	}
	open, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, err
	}
	for _, month := range open {
		switch done, err := sealMonth(ctx, db, pgx.Identifier{month}.Sanitize()); {
		case IsLockTimeout(err):
		case err != nil:
			return sealed, fmt.Errorf("seal %s: %w", month, err)
		case done:
			sealed++
		}
	}
	return sealed, nil
}

// sealMonth first has new rows checked, with nobody else in the partition, so that what waits there is seen; then, in a transaction of its
// own, it has the old ones read. A seal that was not proved is proved by the next call.
func sealMonth(ctx context.Context, db *DB, month string) (done bool, err error) {
	waits := func(q Querier) (found bool, err error) {
		err = q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM `+month+` WHERE status = 'PENDING') OR EXISTS (SELECT 1 FROM `+month+` WHERE status = 'SENDING')`).Scan(&found)
		return found, err
	}
	if found, err := waits(db.Pool); err != nil || found {
		return false, err
	}
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+dropLock+"'"); err != nil {
			return err
		}
		// Dropped first: an earlier call may have come so far.
		if _, err := tx.Exec(ctx, `ALTER TABLE `+month+` DROP CONSTRAINT IF EXISTS `+seal+`, ADD CONSTRAINT `+seal+` `+sealWhen+` NOT VALID`); err != nil {
			return err
		}
		found, err := waits(tx)
		if err == nil && found {
			err = errWaits
		}
		return err
	})
	if errors.Is(err, errWaits) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sealTime) // longer than the job that asks for it
	defer cancel()
	err = db.InPgxTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', '0', true)", dropLock); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `ALTER TABLE `+month+` VALIDATE CONSTRAINT `+seal)
		return err
	})
	if hasCode(err, codeUndefined) { // opened meanwhile, for a message that is to be tried again
		return false, nil
	}
	return err == nil, err
}

var errWaits = errors.New("a message waits")

var errSealed = fault.New(fault.Unavailable, "database_unavailable", "The message's month could not be opened now. Try again.").After(2 * time.Second)

// unsealMonth opens the month of a message, for a transaction that lets it wait there again.
func unsealMonth(ctx context.Context, tx pgx.Tx, message uuid.UUID) error {
	var month string
	err := tx.QueryRow(ctx, `SELECT tableoid::regclass::text FROM messages WHERE id = $1`, message).Scan(&month)
	if ok, err := Found(err); err != nil || !ok {
		return err
	}
	_, err = tx.Exec(ctx, `SET LOCAL lock_timeout = '`+dropLock+`'; ALTER TABLE `+month+` DROP CONSTRAINT IF EXISTS `+seal)
	return err
}

// isSealed reports whether a statement was refused since a message would wait in a month that is sealed.
func isSealed(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == codeCheck && pg.ConstraintName == seal
}
