// Package models is Kurir's memory: the rows, their states, which state may follow which, and every query. It is
// PostgreSQL alone; Redis is not known here, and nothing calls a worker or a webhook. Plain queries are bun's and take a
// bun.IDB, so that each works inside a transaction. Hot statements (accept, claim, settle, ingest) are SQL with
// parameters on pgx and take a pgx transaction or the pool.
package models

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	pgxuuid "github.com/vgarvardt/pgx-google-uuid/v5"
)

// DB is one pool of connections with two faces: bun's for plain queries, pgx's for hot ones.
type DB struct {
	*bun.DB
	Pool *pgxpool.Pool

	direct *pgx.ConnConfig // for connections that have to be PostgreSQL's own; nil: like those of the pool
	pooled bool            // those of the pool go through a pooler
}

// Querier is what the hot statements need: a pgx transaction or a pool.
type Querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Batcher runs statements in one transaction and one round trip: a pgx transaction or a pool.
type Batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Tx is a transaction, by a name that packages which know no bun can use.
type Tx = bun.Tx

// settings are what each connection runs with. They tell PostgreSQL that every statement of Kurir's is a bounded look-up by
// index. Planning a hot one over all partitions takes ten times as long as running it, so the plan is made once; and made
// while a table or the month's partition was still small, it would scan the whole, and go on to do so when it has grown. A
// report that reads much sets these back for its transaction.
//
// A join is written so that its plan cannot depend on how many rows there were when it was made: as LATERAL with a LIMIT or an OFFSET 0, which keep it
// from being made a plain join, as NOT EXISTS (… OFFSET 0), or, where rows are changed that another statement found, as id = ANY(ARRAY[found.id]), which
// nothing but a look-up for each of them fits. With id = found.id, or with a range of IDs, which counts as one row of a small table, going through all
// seems as cheap. A status with an empty text behind it is an expression, which keeps PostgreSQL from a partial index that is small today.
var settings = map[string]string{
	"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off",
	// A statement that takes longer has lost its caller: requests and jobs are shorter than this. In milliseconds.
	"statement_timeout": "60000", "idle_in_transaction_session_timeout": "30000",
}

// Open makes the pool. Columns that this version does not know are passed over: the schema is migrated before the last process
// of the version before has ended. It does not connect: a database that is down at start is waited for by whoever needs it.
func Open(url string, maxConns int) (*DB, error) { return OpenAs("kurir", url, maxConns) }

// OpenAs is Open under a name that PostgreSQL shows of the connections. Tracers are told of what the pool does.
func OpenAs(name, url string, maxConns int, tracers ...pgx.QueryTracer) (*DB, error) {
	return OpenAt(Place{URL: url}, name, maxConns, tracers...)
}

// OpenAt is OpenAs for a database that may be behind a pooler.
func OpenAt(at Place, name string, maxConns int, tracers ...pgx.QueryTracer) (*DB, error) {
	cfg, err := configOf("DATABASE_URL", at.URL)
	if err != nil {
		return nil, err
	}
	db := &DB{pooled: at.Direct != ""}
	if db.pooled {
		direct, err := configOf("DATABASE_DIRECT_URL", at.Direct)
		if err != nil {
			return nil, err
		}
		db.direct = direct.ConnConfig
		equip(db.direct, name)
		cfg.ConnConfig.RuntimeParams["application_name"] = pooledName
	} else {
		equip(cfg.ConnConfig, name)
		db.direct = cfg.ConnConfig.Copy()
	}
	cfg.MaxConns = int32(min(max(maxConns, 2), 10_000))
	cfg.HealthCheckPeriod = 5 * time.Second
	cfg.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		pgxuuid.Register(conn.TypeMap()) // without it each UUID goes by way of its text
		return nil
	}
	if len(tracers) > 0 {
		cfg.ConnConfig.Tracer = multitracer.New(tracers...)
	}
	if db.Pool, err = pgxpool.NewWithConfig(context.Background(), cfg); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	plain := sql.OpenDB(unprepared{stdlib.GetPoolConnector(db.Pool)})
	plain.SetMaxIdleConns(0) // the pool keeps them
	db.DB = bun.NewDB(plain, pgdialect.New(), bun.WithDiscardUnknownColumns())
	return db, nil
}

// unprepared has bun's queries run without preparing them first. bun writes values into their text, so each is another statement, of which
// pgx would keep hundreds on each connection, here and in PostgreSQL.
type unprepared struct{ driver.Connector }

func (u unprepared) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := u.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return unpreparedConn{conn.(*stdlib.Conn)}, nil
}

type unpreparedConn struct{ *stdlib.Conn }

func (c unpreparedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if len(args) == 0 {
		args = []driver.NamedValue{{Ordinal: 1, Value: pgx.QueryExecModeExec}}
	}
	return c.Conn.QueryContext(ctx, query, args)
}

// configOf reads a variable that says where a database is. Its error does not tell the password.
func configOf(variable, url string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		return nil, fmt.Errorf("%s names a file that cannot be read: %w", variable, file)
	}
	if err != nil && strings.Contains(err.Error(), "add CA to cert pool") {
		return nil, errors.New(variable + ": there is no certificate in the file that sslrootcert names")
	}
	if err != nil {
		return nil, errors.New(variable + " cannot be read: expected postgres://user:password@host:5432/name, with special characters of the password as %XX") // the cause holds the URL
	}
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	return cfg, nil
}

// equip has each connection begin with what all statements of Kurir's run under.
func equip(cfg *pgx.ConnConfig, name string) {
	maps.Copy(cfg.RuntimeParams, settings)
	cfg.RuntimeParams["application_name"] = name
}

// Close returns the connections.
func (db *DB) Close() error {
	err := db.DB.Close()
	db.Pool.Close()
	return err
}

// InTx runs fn in a bun transaction, and again (up to three times) when PostgreSQL chose it as a deadlock's victim. The
// context's trail, if there is one, is told in it.
func (db *DB) InTx(ctx context.Context, fn func(ctx context.Context, tx bun.Tx) error) error {
	trail, told := TrailOf(ctx), false
	err := retryDeadlock(func() error {
		return db.RunInTx(ctx, &sql.TxOptions{}, func(ctx context.Context, tx bun.Tx) (err error) {
			if err = fn(ctx, tx); err == nil {
				told, err = trail.write(bunExec(ctx, tx))
			}
			return err
		})
	})
	if told && err == nil {
		trail.Tell()
	}
	return err
}

// InPgxTx is InTx for hot statements.
func (db *DB) InPgxTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	return db.InPgxTxLast(ctx, func(tx pgx.Tx, _ *pgx.Batch) error { return fn(tx) })
}

// InPgxTxLast is InPgxTx for transactions that end with rows which many wait for, the lane of an account's webhook above all:
// the statements that fn leaves in last run after it and are committed in the same round trip, so that nobody waits for
// this process to be given a processor. What they answer is there when InPgxTxLast returns without an error. The trail's line
// comes after them, since they may be all that is written. Whoever reads an answer can't take the transaction back by an error of
// his own: it is committed then.
func (db *DB) InPgxTxLast(ctx context.Context, fn func(tx pgx.Tx, last *pgx.Batch) error) error {
	trail, told := TrailOf(ctx), false
	err := retryDeadlock(func() error {
		told = false
		return db.commitLast(ctx, func(tx pgx.Tx, last *pgx.Batch) (err error) {
			if err = fn(tx, last); err == nil {
				err = trail.queue(last, &told)
			}
			return err
		})
	})
	if told && err == nil {
		trail.Tell()
	}
	return err
}

// commitLast takes a connection of its own: pgx's transactions commit in a round trip of their own. A connection that
// comes back within a transaction, after a panic for example, is closed by the pool.
func (db *DB) commitLast(ctx context.Context, fn func(tx pgx.Tx, last *pgx.Batch) error) error {
	conn, err := db.Pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	var last pgx.Batch
	if err = fn(tx, &last); err == nil {
		last.Queue("commit").Exec(func(tag pgconn.CommandTag) error {
			if tag.String() == "ROLLBACK" { // a statement had failed and fn did not say so
				return pgx.ErrTxCommitRollback
			}
			return nil
		})
		err = conn.SendBatch(ctx, &last).Close()
	}
	if err != nil && conn.Conn().PgConn().TxStatus() != 'I' {
		_ = tx.Rollback(ctx) // there is an error to return already; what cannot be rolled back is closed
	}
	return err
}

func retryDeadlock(f func() error) error {
	err := f()
	for try := 0; try < 3 && IsDeadlock(err); try++ {
		err = f()
	}
	return err
}

// SQLSTATE classes that callers ask for.
const (
	codeUnique        = "23505"
	codeCheck         = "23514" // without a constraint's name: no partition takes the row
	codeDeadlock      = "40P01"
	codeSerialization = "40001"
	codeLockTimeout   = "55P03"
	codeUndefined     = "42704"
)

// IsUnique reports whether err is a breach of the named unique constraint or index.
func IsUnique(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == codeUnique && pg.ConstraintName == constraint
}

// IsDeadlock reports whether the transaction was ended for the sake of another one and can be run again.
func IsDeadlock(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == codeDeadlock || pg.Code == codeSerialization)
}

// IsRolledBack reports whether PostgreSQL answered a transaction with an error, and so did nothing of it.
func IsRolledBack(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "57P") // it is ending
}

// IsLockTimeout reports whether a statement gave up waiting for a lock.
func IsLockTimeout(err error) bool { return hasCode(err, codeLockTimeout) }

func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

// refused reports whether PostgreSQL itself turned the statement down for what it contains: to try it again unchanged is in
// vain. Connection troubles, shutdowns (57P..) and resources (53...) are not of that kind, nor are faults of our own that
// somebody will mend: a schema that does not fit (42...), a partition that is missing.
func refused(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code[:2] {
	case "22":
		return true
	case "23":
		return pg.Code != codeCheck || pg.ConstraintName != ""
	}
	return false
}

// Found turns "no rows" into false.
func Found(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// IsBroken reports whether PostgreSQL refused a statement for what it says: a fault in Kurir, not an outage.
func IsBroken(err error) bool { return refused(err) }
