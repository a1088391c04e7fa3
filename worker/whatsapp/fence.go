package whatsapp

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// fenceRefused is the SQLSTATE with which schema.sql refuses a holder that is none any more.
const fenceRefused = "KF001"

// fenceUpgrade is the fence of who changes the schema.
const fenceUpgrade = "upgrade"

// fenceOf names a session at an epoch, as schema.sql reads it.
func fenceOf(session string, epoch int64) string { return fmt.Sprintf("%d/%s", epoch, session) }

// isFenced reports whether the database refused a change because the session is held at a later epoch, or has lost its device.
func isFenced(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == fenceRefused
}

// fenced is the database as one session at one epoch, with the device that it is now, sees it: every connection that it takes from the
// shared pool says so first. It keeps no connection, so it costs nothing while the session is idle.
func fenced(pool *pgxpool.Pool, fence string, device func() string) *sql.DB {
	db := sql.OpenDB(&connector{stdlib.GetPoolConnector(pool), fence, device})
	db.SetMaxIdleConns(0)
	db.SetMaxOpenConns(connsPerSession)
	return db
}

// connsPerSession keeps one session from taking the whole pool.
const connsPerSession = 4

type connector struct {
	driver.Connector
	fence  string
	device func() string
}

// anyDevice is the device of who changes more than one device's credentials, and noDevice that of a session that is not linked.
const (
	anyDevice = ""
	noDevice  = "none"
)

func everyDevice() string { return anyDevice }

// fenceKey is where a pooled connection remembers whose it was last.
const fenceKey = "kurir.fence"

// identity is what it remembers.
type identity struct{ fence, device string }

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.say(ctx, conn.(*stdlib.Conn).Conn()); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func (c *connector) say(ctx context.Context, conn *pgx.Conn) error {
	known, now := conn.PgConn().CustomData(), identity{c.fence, c.device()}
	if known[fenceKey] == now {
		return nil
	}
	delete(known, fenceKey)
	if _, err := conn.Exec(ctx, "SELECT set_config('kurir.fence', $1, false), set_config('kurir.device', $2, false)", now.fence, now.device); err != nil {
		return fmt.Errorf("set the fence: %w", err)
	}
	known[fenceKey] = now
	return nil
}
