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

// isFenced reports whether the database refused a change because the session is held at a later epoch.
func isFenced(err error) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == fenceRefused
}

// fenced is the database as one session at one epoch sees it: every connection that it takes from the shared pool says so
// first. It keeps no connection, so it costs nothing while the session is idle.
func fenced(pool *pgxpool.Pool, fence string) *sql.DB {
	db := sql.OpenDB(&connector{stdlib.GetPoolConnector(pool), fence})
	db.SetMaxIdleConns(0)
	db.SetMaxOpenConns(connsPerSession)
	return db
}

// connsPerSession keeps one session from taking the whole pool.
const connsPerSession = 4

type connector struct {
	driver.Connector
	fence string
}

// fenceKey is where a pooled connection remembers whose it was last.
const fenceKey = "kurir.fence"

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
	known := conn.PgConn().CustomData()
	if known[fenceKey] == c.fence {
		return nil
	}
	delete(known, fenceKey)
	if _, err := conn.Exec(ctx, "SELECT set_config('kurir.fence', $1, false)", c.fence); err != nil {
		return fmt.Errorf("set the fence: %w", err)
	}
	known[fenceKey] = c.fence
	return nil
}
