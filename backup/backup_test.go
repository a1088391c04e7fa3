package backup_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/backup"
	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// programs reports whether PostgreSQL's are installed. Where the tests' server was downloaded there are none, and the test says so; CI
// has to have them.
func programs(t *testing.T) bool {
	t.Helper()
	if _, err := exec.LookPath("pg_dump"); err == nil {
		return true
	}
	require.Empty(t, os.Getenv("CI"), "pg_dump is not installed")
	t.Log("NOT RUN: pg_dump is not installed (Debian: apt-get install postgresql-client).")
	return false
}

// place is a database and the way to it from outside.
type place struct {
	*models.DB
	where backup.Where
}

func at(t *testing.T, url string) place {
	t.Helper()
	return place{modelstest.Open(t, url), backup.Where{URL: url, Environ: os.Environ(), Tools: backup.StandardTools(os.Getenv("PATH"))}}
}

// full is a database with something in many tables.
func full(t *testing.T) place {
	t.Helper()
	p := at(t, modelstest.URL(t))
	modelstest.Ready(t, p.DB)
	require.NoError(t, models.Beat(t.Context(), p.Pool, 100*time.Millisecond))
	for _, sql := range []string{
		`INSERT INTO chats (session_uid, chat, name, first_sent_at) SELECT uid, 'c', E'\\. \\N "quoted" ''and''	more', now() FROM sessions`,
		`INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, content, whatsapp_id, status, media)
			SELECT kurir_uuid_v7(), uid, 'OUTBOUND', n, 'c', 't', 'TEXT', repeat('x', 500) || E'\n\\.\n;COMMIT;' || n, 'w' || n, 'PENDING', '{"a": "\\b"}' FROM sessions, generate_series(1, 200) n`,
		`INSERT INTO webhooks (id, user_id, url, events, secret) SELECT gen_random_uuid(), id, 'http://x', '{*}', '\x00ff' FROM users`,
		`INSERT INTO lanes (id, kind, next_seq) SELECT id, 'WEBHOOK', 8 FROM webhooks`,
		`UPDATE sessions SET proxy = '\x02ff00'`,
		`INSERT INTO events (id, user_id, type, data, xid) SELECT kurir_uuid_v7(), id, 'webhook.test', '{}', '123456789012' FROM users`,
		`INSERT INTO api_keys (id, key_hash, prefix, user_id, name) SELECT gen_random_uuid(), sha256('x'), 'kur_', id, 'k' FROM users`,
		`INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at) SELECT user_id, uid, 'OUTBOUND', 'TEXT', 'SENT', now() FROM sessions`,
	} {
		_, err := p.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	return p
}

// dumped is a backup of a database.
func (p place) dumped(t *testing.T) []byte {
	t.Helper()
	var file bytes.Buffer
	_, err := backup.Dump(t.Context(), p.DB, p.where, "v1.2.3", &file)
	require.NoError(t, err)
	return file.Bytes()
}

func (p place) restore(ctx context.Context, file io.Reader, o backup.Options) (models.Recovery, error) {
	_, r, err := backup.Restore(ctx, p.DB, p.where, file, o)
	return r, err
}

// things are all that a schema has, as text. Brackets are left out: PostgreSQL writes fewer of them when it has read its own words.
func (p place) things(t *testing.T) string {
	t.Helper()
	return modelstest.Scalar[string](t, p.DB, `SELECT coalesce(string_agg(translate(line, '()', ''), E'\n' ORDER BY line), '') FROM (
		SELECT concat_ws(' ', 'column', table_name, column_name, data_type, is_nullable, is_identity, CASE WHEN (table_name, column_name) <> ('workers', 'term') THEN column_default END) AS line
			FROM information_schema.columns WHERE table_schema = 'public'
		UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
		UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
		UNION ALL SELECT concat_ws(' ', 'partition', inhrelid::regclass, inhparent::regclass, pg_get_expr(c.relpartbound, c.oid)) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
		UNION ALL SELECT concat_ws(' ', 'settings', c.oid::regclass, c.reloptions::text) FROM pg_class c WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal) lines`)
}

// raised are the tables that a restore changes.
var raised = map[string]bool{"workers": true, "sessions": true, "lanes": true, "users": true, "messages": true, "intake": true, "runners": true,
	"events": true, "account_tokens": true, "stream_tickets": true, "system_logs": true}

// contents are the rows of the other tables.
func (p place) contents(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, table := range strings.Split(modelstest.Scalar[string](t, p.DB, `SELECT string_agg(relname, ',') FROM pg_class
		WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition`), ",") {
		if !raised[table] {
			all[table] = modelstest.Scalar[string](t, p.DB, `SELECT coalesce(string_agg(t::text, E'\n' ORDER BY t::text), '') FROM `+table+` t`)
		}
	}
	return all
}

func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	if !programs(t) {
		return
	}
	from, to := full(t), at(t, embeddedtest.DB(t))
	path := filepath.Join(t.TempDir(), "kurir.backup")
	require.NoError(t, os.WriteFile(path, []byte("the one before"), 0o644))
	require.NoError(t, backup.ToFile(path, func(w io.Writer) error {
		s, err := backup.Dump(t.Context(), from.DB, from.where, "v1.2.3", w)
		require.Equal(t, "v1.2.3", s.Kurir)
		return err
	}))
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, st.Mode().Perm())
	beside, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, beside, 1, "nothing is left beside it")

	file, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	s, err := backup.ReadStamp(bufio.NewReader(file))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), s.TakenAt, time.Minute)
	require.GreaterOrEqual(t, s.Schema, "0027")
	_, err = file.Seek(0, io.SeekStart)
	require.NoError(t, err)
	r, err := to.restore(t.Context(), file, backup.Options{})
	require.NoError(t, err)

	require.Equal(t, from.things(t), to.things(t))
	require.Equal(t, from.contents(t), to.contents(t))
	const texts = `SELECT string_agg(content || media::text || whatsapp_id || seq, '' ORDER BY seq) FROM messages`
	require.Equal(t, modelstest.Scalar[string](t, from.DB, texts), modelstest.Scalar[string](t, to.DB, texts))
	const identity = `INSERT INTO message_tallies (user_id, session_uid, direction, message_type, status, at) SELECT user_id, session_uid, direction, message_type, status, at FROM message_tallies RETURNING id`
	require.Equal(t, modelstest.Scalar[int64](t, from.DB, identity), modelstest.Scalar[int64](t, to.DB, identity), "sequences go on")

	require.Equal(t, "02ff00", modelstest.Scalar[string](t, to.DB, `SELECT encode(proxy, 'hex') FROM sessions`))

	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	_, archive, _ := bytes.Cut(whole, []byte("\n"))
	list := exec.Command("pg_restore", "--list")
	list.Stdin = bytes.NewReader(archive)
	listed, err := list.Output()
	require.NoError(t, err, "what stands behind the first line is for any pg_restore")
	require.Contains(t, string(listed), "TABLE DATA public sessions")

	require.EqualValues(t, 8+r.Margin(), modelstest.Scalar[int64](t, to.DB, `SELECT next_seq FROM lanes WHERE kind = 'WEBHOOK'`))
	require.Equal(t, "0", modelstest.Scalar[string](t, to.DB, `SELECT xid::text FROM events`))
	require.EqualValues(t, 200, modelstest.Scalar[int64](t, to.DB, `SELECT count(*) FROM messages WHERE status = 'SENDING'`))
	require.False(t, modelstest.Scalar[bool](t, to.DB, `SELECT sending_paused_at IS NOT NULL FROM platform`))
	require.True(t, modelstest.Scalar[bool](t, to.DB, `SELECT bool_and(last_analyze IS NOT NULL) FROM pg_stat_user_tables WHERE relname IN ('users', 'sessions')`))

	t.Run("a second time", func(t *testing.T) {
		_, err = file.Seek(0, io.SeekStart)
		require.NoError(t, err)
		_, err := to.restore(t.Context(), file, backup.Options{})
		var full *backup.NotEmptyError
		require.ErrorAs(t, err, &full)
		require.ErrorContains(t, err, "1 users and 1 sessions")
		_, err = file.Seek(0, io.SeekStart)
		require.NoError(t, err)
		_, err = to.restore(t.Context(), file, backup.Options{Replace: true, Hold: true})
		require.NoError(t, err)
		require.Equal(t, from.things(t), to.things(t))
		require.True(t, modelstest.Scalar[bool](t, to.DB, `SELECT sending_paused_at IS NOT NULL FROM platform`))
	})
}

// unchanged checks that a restore that was refused or failed has left a database as it was.
func (p place) unchanged(t *testing.T, before string) {
	t.Helper()
	require.Equal(t, before, p.things(t))
}

func TestWhatRestoreRefuses(t *testing.T) {
	t.Parallel()
	if !programs(t) {
		return
	}
	from, to := full(t), at(t, embeddedtest.DB(t))
	whole := from.dumped(t)
	stamped := func(old, new string) []byte {
		line, rest, _ := bytes.Cut(whole, []byte("\n"))
		changed := bytes.Replace(line, []byte(old), []byte(new), 1)
		require.NotEqual(t, line, changed)
		return append(append(changed, '\n'), rest...)
	}
	_, archive, _ := bytes.Cut(whole, []byte("\n"))
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"nothing":           {nil, "no backup of Kurir's"},
		"something else":    {[]byte("SELECT 1;\n"), "no backup of Kurir's"},
		"a line without":    {[]byte("kurir backup 1 {}\n"), "schema and time"},
		"an endless line":   {append([]byte("kurir backup 1 "), bytes.Repeat([]byte("x"), 1<<20)...), "a line that can be read"},
		"a plain archive":   {archive, "kurir restore --recovered"},
		"no archive":        {[]byte(strings.SplitAfter(string(whole), "\n")[0]), "pg_restore"},
		"a later schema":    {stamped(`"schema":"00`, `"schema":"90`), "a later version"},
		"a later server":    {stamped(`"postgres":`, `"postgres":9`), "PostgreSQL"},
		"later tools":       {stamped(`"pgDump":`, `"pgDump":9`), "apt-get install postgresql-client-9"},
		"cut in the middle": {whole[:len(whole)/2], "nothing was changed"},
		"cut at its end":    {whole[:len(whole)-1], "nothing was changed"},
		"cut in its list":   {whole[:2000], "nothing was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := to.restore(t.Context(), bytes.NewReader(c.file), backup.Options{})
			require.ErrorContains(t, err, c.says)
			to.unchanged(t, "")
		})
	}
	t.Run("damaged", func(t *testing.T) {
		damaged := bytes.Clone(whole)
		for i := len(damaged) - 200; i < len(damaged)-100; i++ {
			damaged[i] ^= 0x55
		}
		_, err := to.restore(t.Context(), bytes.NewReader(damaged), backup.Options{})
		require.Error(t, err)
		to.unchanged(t, "")
	})
	t.Run("cut, in place of what is there", func(t *testing.T) {
		before := from.things(t)
		_, err := from.Pool.Exec(t.Context(), `UPDATE intake SET seen = seen - interval '5 seconds'`) // else its API process counts as alive
		require.NoError(t, err)
		_, err = from.restore(t.Context(), bytes.NewReader(whole[:len(whole)-1]), backup.Options{Replace: true})
		require.ErrorContains(t, err, "nothing was changed")
		from.unchanged(t, before)
		require.EqualValues(t, 200, modelstest.Scalar[int64](t, from.DB, `SELECT count(*) FROM messages WHERE status = 'PENDING'`))
	})
	t.Run("processes are alive", func(t *testing.T) {
		api, err := models.OpenAs("kurir api key 1234", to.where.URL, 2)
		require.NoError(t, err)
		defer func() { _ = api.Close() }()
		require.NoError(t, api.Pool.Ping(t.Context()))
		for _, o := range []backup.Options{{}, {Replace: true}} {
			_, err = to.restore(t.Context(), bytes.NewReader(whole), o)
			require.ErrorIs(t, err, models.ErrAlive)
			require.ErrorContains(t, err, "kurir api key 1234")
		}
		to.unchanged(t, "")
	})
	t.Run("there is nothing to back up", func(t *testing.T) {
		_, err := backup.Dump(t.Context(), to.DB, to.where, "v", io.Discard)
		require.ErrorContains(t, err, "nothing of Kurir's")
	})
}

// onWrite calls f once, when so many bytes have been written.
type onWrite struct {
	after int
	f     func()
}

func (w *onWrite) Write(b []byte) (int, error) {
	if w.after -= len(b); w.after < 0 && w.f != nil {
		w.f()
		w.f = nil
	}
	return len(b), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

func TestBrokenOffHalfWay(t *testing.T) {
	t.Parallel()
	if !programs(t) {
		return
	}
	from, to := full(t), at(t, embeddedtest.DB(t))
	folder := t.TempDir()
	for name, half := range map[string]func(cancel func()) io.Writer{
		"cancelled":        func(cancel func()) io.Writer { return &onWrite{3000, cancel} },
		"the disk is full": func(func()) io.Writer { return fullDisk{} },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := backup.ToFile(filepath.Join(folder, "kurir.backup"), func(w io.Writer) error {
			_, err := backup.Dump(ctx, from.DB, from.where, "v", io.MultiWriter(w, half(cancel)))
			return err
		})
		cancel()
		require.Error(t, err, name)
		left, err := os.ReadDir(folder)
		require.NoError(t, err)
		require.Empty(t, left, name)
	}
	require.ErrorContains(t, backup.ToFile("/dev/null", nil), "no ordinary file")
	require.ErrorIs(t, backup.ToFile(filepath.Join(folder, "none", "x"), nil), os.ErrNotExist)

	whole := from.dumped(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := to.restore(ctx, io.MultiReader(bytes.NewReader(whole[:len(whole)-1]), readerFunc(func([]byte) (int, error) {
		cancel()
		<-ctx.Done()
		return 0, io.EOF
	})), backup.Options{})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "nothing was changed")
	to.unchanged(t, "")
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// The programs that are there may be none, too old, or say what they were given.
func TestPrograms(t *testing.T) {
	t.Parallel()
	p := at(t, modelstest.URL(t))
	folder := t.TempDir()
	tool := func(text string) {
		t.Helper()
		require.NoError(t, os.WriteFile(filepath.Join(folder, "pg_dump"), []byte("#!/bin/sh\n"+text), 0o755))
	}
	p.where.Tools = backup.Tools{Path: []string{folder}}
	dump := func() error {
		_, err := backup.Dump(t.Context(), p.DB, p.where, "v", io.Discard)
		return err
	}
	require.ErrorContains(t, dump(), "apt-get install postgresql-client-")
	tool(`echo "pg_dump (PostgreSQL) 9.6.24"`)
	err := dump()
	require.ErrorContains(t, err, "there is only "+folder+"/pg_dump of version 9")
	require.ErrorContains(t, err, "apt-get install")

	said := filepath.Join(folder, "said")
	tool(`[ "$1" = --version ] && { echo "pg_dump (PostgreSQL) 99.1"; exit; }
		{ echo "$@"; echo ---; env; } >` + said + `; echo "it went wrong" >&2; exit 1`)
	p.where.URL = strings.Replace(p.where.URL, "sslmode=disable", "sslmode=disable&pool_max_conns=3&connect_timeout=7", 1)
	p.where.Environ = []string{"PATH=" + os.Getenv("PATH"), "JWT_SECRET=hush", "PGSSLROOTCERT=/ca.pem", "PGHOST=elsewhere"}
	require.ErrorContains(t, dump(), "it went wrong")
	text, err := os.ReadFile(said)
	require.NoError(t, err)
	arguments, environment, _ := strings.Cut(string(text), "---\n")
	require.Contains(t, arguments, "--format=custom")
	password := p.Pool.Config().ConnConfig.Password
	require.NotEmpty(t, password)
	require.NotContains(t, arguments, password)
	require.NotContains(t, arguments, "postgres://")
	for _, want := range []string{"PGPASSWORD=" + password + "\n", "PGHOST=127.0.0.1\n", "PGSSLMODE=disable\n", "PGCONNECT_TIMEOUT=7\n", "PGSSLROOTCERT=/ca.pem\n"} {
		require.Contains(t, environment, want)
	}
	require.NotContains(t, environment, "hush")
	p.where.URL = "host=127.0.0.1 user=x"
	require.ErrorContains(t, dump(), "has to be a URL")
}
