package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"kurir/migrations"
	"kurir/models"
)

// database is where PostgreSQL is. With DATABASE_DIRECT_URL, DATABASE_URL leads to a pooler in transaction mode.
func (c *config) database() models.Place {
	return models.Place{URL: c.DatabaseURL, Direct: c.DatabaseDirect}
}

// directURL leads to PostgreSQL itself.
func (c *config) directURL() string { return cmp.Or(c.DatabaseDirect, c.DatabaseURL) }

// advised adds to an error what to do about it, if that is known.
func advised(err error) error {
	if advice := models.Advice(err); advice != "" {
		return fmt.Errorf("%w\n%s", err, advice)
	}
	return err
}

// checkPooler ends a process whose pooler cannot carry it, and warns of one that lacks settings.
func (p *parts) checkPooler(ctx context.Context) error {
	if !p.db.Pooled() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	missing, err := p.db.MissingSettings(ctx)
	switch {
	case models.Advice(err) != "":
		return err
	case err != nil:
		p.log.Warn("the pooler does not say yet whether its connections have their settings", "error", err)
	case len(missing) > 0:
		p.log.Warn("connections through the pooler lack settings", "settings", missing, "advice", poolerAdvice)
	}
	return nil
}

const poolerAdvice = "run `kurir migrate`, which makes them the role's, and have the pooler renew its connections (RECONNECT in PgBouncer)"

// migrate brings the schema up to date, past a pooler, and sees to the pooler's settings.
func (p *parts) migrate(ctx context.Context) error {
	db := p.db
	if db.Pooled() {
		direct, err := models.Open(p.cfg.directURL(), 4)
		if err != nil {
			return err
		}
		defer func() { _ = direct.Close() }()
		db = direct
	}
	if _, err := migrations.Up(ctx, db.DB); err != nil || !p.db.Pooled() {
		return err
	}
	_, _, err := p.db.SetForPooler(ctx)
	return err
}

// setForPooler gives the role of the pooler's connections the settings that these cannot bring along.
func (p *program) setForPooler(ctx context.Context, cfg *config) error {
	if cfg.DatabaseDirect == "" {
		return nil
	}
	db, err := models.OpenAt(cfg.database(), "kurir migrate", 2)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	set, stale, err := db.SetForPooler(ctx)
	if len(set) > 0 {
		fmt.Fprintln(p.stdout, "set for connections that the pooler opens from now on:", strings.Join(set, ", "))
	}
	if err != nil {
		return fmt.Errorf("the settings of connections through the pooler: %w", err)
	}
	if stale {
		fmt.Fprintln(p.stdout, "connections that the pooler has open are without them until they are renewed (RECONNECT in PgBouncer)")
	}
	return nil
}

// pooler looks at what connections through the pooler are like.
func (d *doctor) pooler(ctx context.Context) {
	const check = "pooler"
	if d.cfg.DatabaseDirect == "" {
		return
	}
	db, err := models.OpenAt(d.cfg.database(), "kurir doctor", 2)
	if err != nil {
		d.say(check, failing, "Write it so.", "%v", err)
		return
	}
	defer func() { _ = db.Close() }()
	var missing []string
	err = within(ctx, func(ctx context.Context) (err error) { missing, err = db.MissingSettings(ctx); return err })
	switch {
	case err != nil:
		d.say(check, failing, cmp.Or(models.Advice(err), "Start the pooler, and see that DATABASE_URL, its password and the network are right."), "DATABASE_URL: %v", err)
	case len(missing) > 0:
		d.say(check, failing, "Please "+poolerAdvice+".", "its connections lack settings, without which statements are planned badly: %s", strings.Join(missing, ", "))
	default:
		d.say(check, fine, "", "its connections have Kurir's settings")
	}
}
