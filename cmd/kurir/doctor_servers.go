package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"kurir/backup"
	"kurir/jobs"
	"kurir/migrations"
	"kurir/models"
)

const (
	oldestPostgres = 140000
	oldestRedis    = "6.2"
	smallSkew      = 2 * time.Second
	largeSkew      = 30 * time.Second // tokens and schedules are off by it
)

func (d *doctor) database(ctx context.Context) {
	const check = "database"
	if d.cfg.DatabaseURL == "" {
		return
	}
	db, err := models.Open(d.cfg.directURL(), 2)
	if err != nil {
		d.say(check, failing, "Write DATABASE_URL as postgres://user:password@host:5432/name, with special characters of the password as %XX.", "%v", err)
		return
	}
	defer func() { _ = db.Close() }()
	var c models.Condition
	asked := time.Now()
	err = within(ctx, func(ctx context.Context) error {
		if err := db.Pool.Ping(ctx); err != nil {
			return err
		}
		asked = time.Now()
		c, err = models.ConditionOf(ctx, db.Pool)
		return err
	})
	if err != nil {
		d.say(check, failing, cmp.Or(models.Advice(err), "Start PostgreSQL, and see that DATABASE_URL, its password and the network are right."), "PostgreSQL does not answer: %v", err)
		return
	}
	d.clock("PostgreSQL", c.Now, asked)
	if c.Number < oldestPostgres {
		d.say(check, failing, "Upgrade PostgreSQL to 14 or later.", "PostgreSQL %s is too old", c.Version)
	} else {
		d.say(check, fine, "", "PostgreSQL %s answers", c.Version)
	}
	d.connections(c)
	d.pooler(ctx)
	d.credentials(ctx, db)
	if d.schema(ctx, db, c) {
		d.workers(ctx, db)
	}
}

// credentials of linked phones may belong to a user of the worker's own.
func (d *doctor) credentials(ctx context.Context, db *models.DB) {
	const check = "linked phones"
	var list []backup.Credentials
	if err := within(ctx, func(ctx context.Context) (err error) { list, err = backup.CredentialsIn(ctx, db.Pool); return err }); err != nil {
		d.say(check, failing, "Report it, with this line.", "%v", err)
		return
	}
	for _, c := range list {
		if c.Denied {
			d.say(check, warning, "As a superuser: "+c.Grant(), "`kurir backup` fails: the schema %s belongs to %s, and %s must not read all of it", c.Schema, c.Owner, c.User)
		} else {
			d.say(check, fine, "", "`kurir backup` has the schema %s", c.Schema)
		}
	}
}

// connections compares what one process of each kind may open with what the server lets in.
func (d *doctor) connections(c models.Condition) {
	pools := 3*d.cfg.DatabaseMaxConns + controlConns
	if d.cfg.DatabaseDirect != "" {
		pools = 1 + controlConns // besides the pooler's, which are in use already
	}
	switch {
	case c.Connections*10 > c.Most*9:
		d.say("connections", failing, "Raise max_connections, or lower DATABASE_MAX_CONNS.", "%d of %d connections are in use", c.Connections, c.Most)
	case pools > c.Most:
		d.say("connections", warning, "Raise max_connections, or lower DATABASE_MAX_CONNS; each further process takes as many.",
			"one api, runner and scheduler may open %d connections, PostgreSQL lets %d in", pools, c.Most)
	default:
		d.say("connections", fine, "", "%d of %d in use; one api, runner and scheduler may open %d", c.Connections, c.Most, pools)
	}
}

// schema reports whether there is one to look into.
func (d *doctor) schema(ctx context.Context, db *models.DB, c models.Condition) bool {
	var missing, unknown []string
	err := within(ctx, func(ctx context.Context) (err error) {
		missing, unknown, err = migrations.Compare(ctx, db.DB)
		return err
	})
	switch {
	case err != nil:
		d.say("migrations", failing, "Give the user of DATABASE_URL rights to the schema.", "cannot be read: %v", err)
		return false
	case len(missing) > 0:
		d.say("migrations", failing, "Run `kurir migrate`.", "%d are missing, from %s on", len(missing), missing[0])
		return false
	case len(unknown) > 0:
		d.say("migrations", warning, "Upgrade this process; it works with the later schema only until the upgrade is through.", "the schema is of a later version: %s", strings.Join(unknown, ", "))
	default:
		d.say("migrations", fine, "", "the schema is up to date")
	}
	present := time.Now().UTC().Format("200601")
	status := warning
	for _, name := range c.Missing {
		if strings.HasSuffix(name, present) {
			status = failing
		}
	}
	if len(c.Missing) > 0 {
		d.say("partitions", status, "See that a runner and a scheduler run: they make them ahead of time, and `kurir migrate` makes the first ones.", "missing: %s", strings.Join(c.Missing, ", "))
	} else {
		d.say("partitions", fine, "", "those of this month are there, and of the next where it is near")
	}
	return true
}

func (d *doctor) clock(of string, there, asked time.Time) {
	now := time.Now()
	skew := there.Sub(asked.Add(now.Sub(asked) / 2)).Abs()
	known := fmt.Sprintf("that of %s differs from this machine's by %s", of, skew.Round(time.Millisecond))
	const advice = "Have all machines keep time, with chrony or systemd-timesyncd."
	switch doubt := now.Sub(asked) / 2; {
	case skew-doubt > largeSkew:
		d.say("clock", failing, advice, "%s", known)
	case skew-doubt > smallSkew:
		d.say("clock", warning, advice, "%s", known)
	default:
		d.say("clock", fine, "", "%s", known)
	}
}

func (d *doctor) workers(ctx context.Context, db *models.DB) {
	const check = "workers"
	vault, err := models.NewVault(d.cfg.encryptionKeys...)
	if err != nil {
		d.say(check, warning, "Set ENCRYPTION_KEY.", "cannot be asked without it")
		return
	}
	var list []models.WorkerLoad
	if err := within(ctx, func(ctx context.Context) (err error) { list, err = models.Workers(ctx, db); return err }); err != nil {
		d.say(check, failing, "Report it, with this line.", "cannot be listed: %v", err)
		return
	}
	if len(list) == 0 {
		d.say(check, warning, "Start one: `kurir-whatsapp`, or `kurir worker` for simulated phones, with WORKER_AUTH_TOKEN and GATEWAY_URL.", "none has registered")
		return
	}
	known := jobs.NewWorkers(db, vault)
	for i := range list {
		d.worker(ctx, known, &list[i])
	}
}

func (d *doctor) worker(ctx context.Context, known *jobs.Workers, w *models.WorkerLoad) {
	heard := "never"
	if w.Term > 0 {
		heard = time.Since(w.LastHeartbeat).Round(time.Second).String() + " ago"
	}
	if !w.LeaseLive {
		d.say("workers", failing, "Start it again, or remove it: DELETE /api/v1/admin/workers/"+w.ID+".", "%s has no lease; heard of: %s; it had %d sessions", w.ID, heard, w.SessionCount)
		return
	}
	err := within(ctx, func(ctx context.Context) error {
		client, err := known.Of(ctx, w.ID)
		if err == nil {
			_, err = client.Health(ctx)
		}
		return err
	})
	if err != nil {
		d.say("workers", failing, "See that runners and api reach its WORKER_ENDPOINT: firewall, name, port.", "%s cannot be reached at %s: %v", w.ID, w.Endpoint, err)
		return
	}
	d.say("workers", fine, "", "%s answers; heard of: %s; %d of %d sessions", w.ID, heard, w.SessionCount, w.Room())
}

// older compares versions by their first two numbers.
func older(version, than string) bool {
	var a, b, x, y int
	_, _ = fmt.Sscanf(version, "%d.%d", &a, &b) // what is no number is 0
	_, _ = fmt.Sscanf(than, "%d.%d", &x, &y)
	return a < x || a == x && b < y
}
