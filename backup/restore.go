package backup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"kurir/migrations"
	"kurir/models"
)

// Options are what an operator decides.
type Options struct {
	Replace bool // what the database holds is dropped
	Hold    bool // nothing is sent until an administrator says so
}

// NotEmptyError refuses a database that holds something.
type NotEmptyError struct{ Held string }

func (e *NotEmptyError) Error() string {
	return "the database is not empty: it holds " + e.Held + ". Nothing was changed. --replace drops all of it, and then brings the backup back"
}

// Restore brings a backup back, in one transaction, and makes it fit to go on as it is. Whatever fails, or ends this process, leaves the
// database as it was. Nobody may work on the database meanwhile, nor may anybody of the installation that the backup is of.
func Restore(ctx context.Context, db *models.DB, to Where, in io.Reader, o Options) (Stamp, models.Recovery, error) {
	r := bufio.NewReaderSize(in, 64<<10)
	s, err := ReadStamp(r)
	if err != nil {
		return s, models.Recovery{}, err
	}
	server, err := fits(ctx, db, s)
	if err != nil {
		return s, models.Recovery{}, err
	}
	tools, err := to.Tools.find(ctx, s.Tool, "pg_restore", "psql")
	if err != nil {
		return s, models.Recovery{}, err
	}
	if err := Quiet(ctx, db); err != nil {
		return s, models.Recovery{}, err
	}
	if err := o.empty(ctx, db, s); err != nil {
		return s, models.Recovery{}, err
	}
	recovery := models.Recovery{From: s.TakenAt, Now: server.Now, Hold: o.Hold, How: "backup"}
	closing := recovery.Statements()
	for i := range s.Credentials {
		if err := s.Credentials[i].allowed(ctx, db.Pool); err != nil {
			return s, models.Recovery{}, err
		}
		closing = append(closing, s.Credentials[i].handOver()...)
	}
	if err := to.replay(ctx, tools, r, s, o.opening(s), server.Number, closing); err != nil {
		return s, recovery, err
	}
	return s, recovery, settle(ctx, db, server.Now)
}

// fits makes sure that this program and this server can go on with what a backup holds.
func fits(ctx context.Context, db *models.DB, s Stamp) (server models.Condition, err error) {
	latest, err := migrations.Latest()
	if err != nil {
		return server, err
	}
	if s.Schema > latest {
		return server, fmt.Errorf("the backup is of a later version of Kurir (%s, schema %s): this one (schema %s) could not work with it. Bring it back with that version or a later one", s.Kurir, s.Schema, latest)
	}
	if server, err = models.ConditionOf(ctx, db.Pool); err != nil {
		return server, fmt.Errorf("look at the database, which has to exist (createdb makes one): %w", err)
	}
	if major(server.Number) < major(s.Postgres) {
		return server, fmt.Errorf("the backup is of PostgreSQL %d, and the server is of %s: bring it back on PostgreSQL %d or later", major(s.Postgres), server.Version, major(s.Postgres))
	}
	return server, nil
}

// Quiet makes sure that nobody works on a database.
func Quiet(ctx context.Context, db *models.DB) error {
	alive, err := models.Alive(ctx, db.Pool)
	if err != nil {
		return fmt.Errorf("look for processes: %w", err)
	}
	if len(alive) > 0 {
		return fmt.Errorf("%w. Nothing was changed. Stop them; a runner that was killed counts for 5 s more:\n  %s", models.ErrAlive, strings.Join(alive, "\n  "))
	}
	return nil
}

// empty makes sure that nothing is dropped that nobody wants to be dropped.
func (o Options) empty(ctx context.Context, db *models.DB, s Stamp) error {
	things, err := models.Occupied(ctx, db.Pool, s.schemas())
	if err != nil {
		return fmt.Errorf("look into the database: %w", err)
	}
	if things == 0 || o.Replace {
		return nil
	}
	held := fmt.Sprintf("%d tables, sequences and functions", things)
	if i, err := models.InventoryOf(ctx, db.Pool); err == nil { // else it is not ours, or older
		held += fmt.Sprintf(", among them %d users and %d sessions of Kurir's", i.Users, i.Sessions)
	}
	return &NotEmptyError{held}
}

// opening begins the one transaction. Nobody changes the schema meanwhile.
func (o Options) opening(s Stamp) []string {
	list := []string{"BEGIN", "SET LOCAL client_min_messages = warning", migrations.LockStatement()}
	for _, schema := range s.schemas() {
		if o.Replace {
			list = append(list, "DROP SCHEMA IF EXISTS "+quoted(schema)+" CASCADE")
		}
		if o.Replace || schema != "public" { // pg_restore makes none of those that it is asked for by name
			list = append(list, "CREATE SCHEMA IF NOT EXISTS "+quoted(schema))
		}
	}
	return list
}

// replay has psql run what pg_restore makes of an archive, between an opening and a closing, as one transaction. The COMMIT is written
// when all before it has gone well: a psql whose input ends earlier has changed nothing.
func (w Where) replay(ctx context.Context, tools toolkit, archive io.Reader, s Stamp, opening []string, server int, closing []string) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p := pipeline{opening: opening, closing: closing, server: server, decide: context.AfterFunc(ctx, stop)}
	var err error
	// Owners and rights are those of whoever brings it back. Of extensions and the like, which only a superuser can make, Kurir has none.
	args := []string{"--no-owner", "--no-privileges", "--file=-"}
	for _, schema := range s.schemas() {
		args = append(args, "--schema="+schema)
	}
	if p.restore, err = w.program(running, tools.path("pg_restore"), args...); err != nil {
		return err
	}
	if p.psql, err = w.program(running, tools.path("psql"), "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null"); err != nil {
		return err
	}
	p.restore.Stdin = archive
	err = p.run(stop)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("broken off, nothing was changed: %w", ctx.Err())
	case err != nil:
		return fmt.Errorf("nothing was changed: %w", err)
	}
	return nil
}

// settle does what needs no transaction: the database is back already.
func settle(ctx context.Context, db *models.DB, now time.Time) error {
	if _, err := models.AddPartitions(ctx, db, now); err != nil {
		return fmt.Errorf("the backup is back, but partitions of this month are missing (start a runner and a scheduler, which make them): %w", err)
	}
	if err := models.Analyze(ctx, db); err != nil {
		return fmt.Errorf("the backup is back, but slow as yet (run ANALYZE in the database): %w", err)
	}
	return AwaitLeases(ctx, db)
}

// AwaitLeases returns when no worker can hold a session any more under a lease that was given out before the database was put back.
func AwaitLeases(ctx context.Context, db *models.DB) error {
	left, err := models.LeasesLeft(ctx, db.Pool)
	if err != nil {
		return fmt.Errorf("the state is back; wait for a lease (LEASE_TTL) before you start anything: %w", err)
	}
	select {
	case <-time.After(left):
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the state is back; wait for %s more before you start anything: %w", left.Round(time.Second), ctx.Err())
	}
}
