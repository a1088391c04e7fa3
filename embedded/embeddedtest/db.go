package embeddedtest

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// DB returns the URL of a fresh, empty database, dropped at the end of the test. Call it before what uses it is opened,
// so that this is closed first.
func DB(t testing.TB) string {
	t.Helper()
	return create(t, "template1")
}

// DBFrom returns the URL of a fresh copy of a database that prepare has filled, with migrations for example. prepare runs
// once per process and name, and must close its connections. The copy is dropped at the end of the test.
func DBFrom(t testing.TB, name string, prepare func(url string) error) string {
	t.Helper()
	once, _ := process.prepared.LoadOrStore(name, sync.OnceValues(func() (string, error) { return prepareTemplate(name, prepare) }))
	template, err := once.(func() (string, error))()
	if err != nil {
		t.Fatalf("prepare the database %s: %v", name, err)
	}
	return create(t, template)
}

func prepareTemplate(name string, prepare func(url string) error) (string, error) {
	template, err := fresh("prepared_" + name)
	if err != nil {
		return "", err
	}
	if err := execute("CREATE DATABASE " + template); err != nil {
		return "", err
	}
	dsn, err := databaseURL(template)
	if err != nil {
		return "", err
	}
	if err := prepare(dsn); err != nil {
		return "", err
	}
	// A connection that is still about to close would make CREATE DATABASE ... TEMPLATE fail.
	return template, execute("ALTER DATABASE "+template+" ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '"+template+"'")
}

func create(t testing.TB, template string) string {
	t.Helper()
	name, err := fresh(t.Name())
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	if err := execute("CREATE DATABASE " + name + " TEMPLATE " + template); err != nil {
		t.Fatalf("create a database: %v", err)
	}
	t.Cleanup(func() {
		if err := execute("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop the database: %v", err)
		}
	})
	dsn, err := databaseURL(name)
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// fresh returns a name for a database, recognisable in PostgreSQL's log and views.
func fresh(from string) (string, error) {
	_, n, err := next()
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(from))
	return fmt.Sprintf("t%d_%.40s", n, clean), err
}

func databaseURL(name string) (string, error) {
	s, err := server()
	if err != nil {
		return "", err
	}
	u, err := url.Parse(s.DatabaseURL)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

// execute runs statements on the database `postgres`, so that the others are free to be copied and dropped.
func execute(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dsn, err := databaseURL("postgres")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
	}
	return nil
}
