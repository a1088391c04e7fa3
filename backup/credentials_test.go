package backup_test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/backup"
	"kurir/embedded/embeddedtest"
	"kurir/migrations"
	"kurir/models"
	"kurir/models/modelstest"
)

var roles atomic.Int64

// role makes a user of the tests' server, and returns its name, which is its password too.
func role(t *testing.T, super *models.DB) string {
	t.Helper()
	name := fmt.Sprintf("user_%d_%d", os.Getpid(), roles.Add(1))
	run(t, super, "CREATE ROLE "+name+" LOGIN PASSWORD '"+name+"'")
	return name
}

// as is a database as another user sees it.
func as(t *testing.T, at, user string) string {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	u.User = url.UserPassword(user, user)
	return u.String()
}

func run(t *testing.T, db *models.DB, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := db.Pool.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

// link does what kurir-whatsapp does at its start, with its own tables and one of whatsmeow's, and links a phone.
func link(t *testing.T, db *models.DB, schema string) {
	t.Helper()
	ours, err := os.ReadFile("../worker/whatsapp/schema.sql")
	require.NoError(t, err)
	run(t, db, "CREATE SCHEMA "+schema, "SET search_path = "+schema, "SET kurir.fence = 'upgrade'",
		`CREATE TABLE whatsmeow_device (jid text PRIMARY KEY, noise_key bytea NOT NULL, number bigint GENERATED ALWAYS AS IDENTITY)`, string(ours),
		`INSERT INTO kurir_sessions (session, epoch, jid) VALUES ('s', 7, '62811@s.whatsapp.net')`, `INSERT INTO whatsmeow_device VALUES ('62811@s.whatsapp.net', '\x00ff5c')`,
		`INSERT INTO kurir_polls (session, id, options) VALUES ('s', 'p', ARRAY['yes', E'n\\o'])`, "RESET search_path", "RESET kurir.fence")
}

// single is a database through one connection, so that settings stay.
func single(t *testing.T, at string) *models.DB {
	t.Helper()
	db, err := models.Open(at, 1)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// linked is what a schema has of a phone.
func linked(t *testing.T, db *models.DB, schema string) string {
	t.Helper()
	return modelstest.Scalar[string](t, db, fmt.Sprintf(`SELECT concat_ws(' ', s.epoch, d, p) FROM %[1]s.kurir_sessions s
		JOIN %[1]s.whatsmeow_device d USING (jid) JOIN %[1]s.kurir_polls p USING (session)`, schema))
}

// What phones were linked with comes back with the sessions, fence and all.
func TestCredentialsComeBack(t *testing.T) {
	t.Parallel()
	if !programs(t) {
		return
	}
	from, to := full(t), at(t, embeddedtest.DB(t))
	for _, schema := range []string{"kurir_whatsapp", "more_phones"} {
		link(t, single(t, from.where.URL), schema)
	}
	run(t, from.DB, "CREATE SCHEMA other", "CREATE TABLE other.theirs (x int)")
	file := from.dumped(t)
	_, err := to.restore(t.Context(), bytes.NewReader(file), backup.Options{})
	require.NoError(t, err)
	for _, schema := range []string{"kurir_whatsapp", "more_phones"} {
		require.Equal(t, linked(t, from.DB, schema), linked(t, to.DB, schema))
		_, err = to.Pool.Exec(t.Context(), `SET search_path = `+schema+`; UPDATE whatsmeow_device SET noise_key = ''`)
		require.ErrorContains(t, err, "is not held at this epoch")
	}
	require.Equal(t, from.things(t), to.things(t))
	require.False(t, modelstest.Scalar[bool](t, to.DB, `SELECT to_regnamespace('other') IS NOT NULL`), "it is not Kurir's")

	t.Run("by pg_restore alone", func(t *testing.T) {
		to := at(t, embeddedtest.DB(t))
		_, archive, _ := bytes.Cut(file, []byte("\n"))
		cmd := exec.Command("pg_restore", "--dbname="+to.where.URL, "--no-owner", "--single-transaction", "--exit-on-error")
		cmd.Stdin = bytes.NewReader(archive)
		said, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", said)
		require.Equal(t, linked(t, from.DB, "more_phones"), linked(t, to.DB, "more_phones"))
		require.False(t, modelstest.Scalar[bool](t, to.DB, `SELECT to_regnamespace('other') IS NOT NULL`))
	})
	t.Run("in place of others", func(t *testing.T) {
		run(t, to.DB, `UPDATE more_phones.kurir_sessions SET epoch = 8`, `DROP SCHEMA public CASCADE`, `CREATE SCHEMA public`, "CREATE SCHEMA other", "CREATE TABLE other.theirs (x int)")
		_, err := to.restore(t.Context(), bytes.NewReader(file), backup.Options{})
		var full *backup.NotEmptyError
		require.ErrorAs(t, err, &full, "linked phones are not to be overwritten unasked")
		_, err = to.restore(t.Context(), bytes.NewReader(file[:len(file)-1]), backup.Options{Replace: true})
		require.ErrorContains(t, err, "nothing was changed")
		require.Contains(t, linked(t, to.DB, "more_phones"), "8 ")
		_, err = to.restore(t.Context(), bytes.NewReader(file), backup.Options{Replace: true})
		require.NoError(t, err)
		require.Equal(t, linked(t, from.DB, "more_phones"), linked(t, to.DB, "more_phones"))
		require.True(t, modelstest.Scalar[bool](t, to.DB, `SELECT to_regclass('other.theirs') IS NOT NULL`))
	})
	t.Run("a backup without any leaves those that are there", func(t *testing.T) {
		_, err := to.restore(t.Context(), bytes.NewReader(full(t).dumped(t)), backup.Options{Replace: true})
		require.NoError(t, err)
		require.Equal(t, linked(t, from.DB, "more_phones"), linked(t, to.DB, "more_phones"))
	})
	t.Run("a worker is alive", func(t *testing.T) {
		worker, err := models.OpenAs("kurir-whatsapp", to.where.URL, 1)
		require.NoError(t, err)
		defer func() { _ = worker.Close() }()
		require.NoError(t, worker.Pool.Ping(t.Context()))
		_, err = to.restore(t.Context(), bytes.NewReader(file), backup.Options{Replace: true})
		require.ErrorIs(t, err, models.ErrAlive)
	})
}

// A worker may have a user of its own, to whom its schema belongs before and after.
func TestCredentialsOfAnotherUser(t *testing.T) {
	t.Parallel()
	if !programs(t) {
		return
	}
	super := at(t, embeddedtest.DB(t))
	gateway, worker := role(t, super.DB), role(t, super.DB)
	owned := func(user string) place { // an empty database of a gateway's
		p := at(t, embeddedtest.DB(t))
		name := p.Pool.Config().ConnConfig.Database
		run(t, p.DB, "ALTER DATABASE "+name+" OWNER TO "+user, "GRANT CREATE ON DATABASE "+name+" TO "+worker)
		return at(t, as(t, p.where.URL, user))
	}
	from := owned(gateway)
	_, err := migrations.Up(t.Context(), from.DB.DB)
	require.NoError(t, err)
	link(t, single(t, as(t, from.where.URL, worker)), "kurir_whatsapp")

	var nothing bytes.Buffer
	_, err = backup.Dump(t.Context(), from.DB, from.where, "v", &nothing)
	require.ErrorContains(t, err, `GRANT "`+worker+`" TO "`+gateway+`"`)
	require.Zero(t, nothing.Len())
	reader := role(t, super.DB)
	run(t, super.DB, "GRANT pg_read_all_data TO "+reader)
	at(t, as(t, from.where.URL, reader)).dumped(t)
	run(t, super.DB, "GRANT "+worker+" TO "+gateway)
	file := from.dumped(t)
	require.Contains(t, strings.SplitAfter(string(file), "\n")[0], `"credentials":[{"schema":"kurir_whatsapp","owner":"`+worker+`"}]`)
	to := owned(gateway)
	for _, o := range []backup.Options{{}, {Replace: true}} {
		_, err = to.restore(t.Context(), bytes.NewReader(file), o)
		require.NoError(t, err)
		require.Equal(t, linked(t, from.DB, "kurir_whatsapp"), linked(t, to.DB, "kurir_whatsapp"))
		for _, sql := range []string{
			`SELECT string_agg(DISTINCT pg_get_userbyid(relowner), ',') FROM pg_class WHERE relnamespace = 'kurir_whatsapp'::regnamespace`,
			`SELECT string_agg(DISTINCT pg_get_userbyid(proowner), ',') FROM pg_proc WHERE pronamespace = 'kurir_whatsapp'::regnamespace`,
			`SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'kurir_whatsapp'`,
		} {
			require.Equal(t, worker, modelstest.Scalar[string](t, to.DB, sql), sql)
		}
	}
	ours, err := os.ReadFile("../worker/whatsapp/schema.sql")
	require.NoError(t, err)
	run(t, single(t, as(t, to.where.URL, worker)), "SET search_path = kurir_whatsapp", string(ours)) // as at each start of the worker

	t.Run("to whom it cannot be given", func(t *testing.T) {
		stranger := role(t, super.DB)
		to := owned(stranger)
		_, err := to.restore(t.Context(), bytes.NewReader(file), backup.Options{})
		require.ErrorContains(t, err, `GRANT "`+worker+`" TO "`+stranger+`"`)
		to.unchanged(t, "")
	})
	t.Run("who does not exist", func(t *testing.T) {
		to := owned(gateway)
		elsewhere := bytes.Replace(file, []byte(`"owner":"`+worker+`"`), []byte(`"owner":"nobody"`), 1)
		s, _, err := backup.Restore(t.Context(), to.DB, to.where, bytes.NewReader(elsewhere), backup.Options{})
		require.NoError(t, err)
		require.Empty(t, s.Credentials[0].Owner)
		require.Equal(t, linked(t, from.DB, "kurir_whatsapp"), linked(t, to.DB, "kurir_whatsapp"))
	})
}
