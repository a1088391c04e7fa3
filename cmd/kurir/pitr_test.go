package main

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models/modelstest"
)

// TestRecoveryToAPointInTime archives PostgreSQL's log with the scripts of deploy/pitr, loses rows by a mistake, and goes back to the
// moment before it.
func TestRecoveryToAPointInTime(t *testing.T) {
	if !postgresPrograms(t) {
		return
	}
	a := newArchive(t)
	pg := embeddedtest.NewPostgres(t, "archive_mode=on", `archive_command="`+a.path("archive-wal")+`" "%p" "%f" "`+a.path("wal")+`"`, "max_wal_senders=4")
	kurir := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), args, []string{"DATABASE_URL=" + pg.URL(), "PATH=" + os.Getenv("PATH")}, &out, &out))
		return out.String()
	}
	kurir("migrate")
	db := modelstest.Open(t, pg.URL())
	modelstest.Ready(t, db)
	exec := func(sql string) {
		t.Helper()
		_, err := db.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	exec(`UPDATE workers SET lease_expires_at = now(); INSERT INTO intake VALUES (true, now(), now(), '100 ms')`)
	const add = `INSERT INTO messages (id, session_uid, direction, seq, chat, to_number, message_type, whatsapp_id, status)
		SELECT kurir_uuid_v7(), uid, 'OUTBOUND', 1, 'c', 't', 'TEXT', gen_random_uuid()::text, 'SENT' FROM sessions`
	exec(add)
	base := a.script(pg, "base-backup", a.path("base"))
	exec(add)
	exec(`UPDATE intake SET seen = now() - interval '1 minute'`)
	moment := modelstest.Scalar[time.Time](t, db, `SELECT clock_timestamp()`)
	exec(`DELETE FROM messages`)
	last := modelstest.Scalar[string](t, db, `SELECT pg_walfile_name(pg_switch_wal())`)
	require.Eventually(t, func() bool {
		_, err := os.Stat(a.path("wal/" + last))
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "the log is archived")
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT failed_count FROM pg_stat_archiver`))
	pg.Stop()

	a.script(pg, "prepare-recovery", base, a.path("wal"), a.path("recovered"), moment.UTC().Format("2006-01-02 15:04:05.999999+00"))
	pg = embeddedtest.PostgresOn(t, a.home(pg), "max_wal_senders=4")
	db = modelstest.Open(t, pg.URL())
	require.Eventually(t, func() bool { return !modelstest.Scalar[bool](t, db, `SELECT pg_is_in_recovery()`) }, 30*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 2, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM messages`), "those of the base, and those of the log")
	require.Contains(t, kurir("restore", "--recovered"), "The database is as it was at "+moment.Add(-time.Minute).UTC().Format("2006-01-02T15"))
	require.Greater(t, modelstest.Scalar[int64](t, db, `SELECT min(epoch) FROM sessions`), int64(1_000_000))
}

// The archive keeps what it has, and takes the same again.
func TestArchiveOverwritesNothing(t *testing.T) {
	a := newArchive(t)
	for name, content := range map[string]string{"one": "a", "two": "b"} {
		require.NoError(t, os.WriteFile(a.path(name), []byte(content), 0o600))
	}
	archive := func(source string) error {
		return exec.Command(a.path("archive-wal"), a.path(source), "0001", a.path("wal")).Run()
	}
	require.NoError(t, archive("one"))
	require.NoError(t, archive("one"))
	require.Error(t, archive("two"))
	require.Error(t, archive("none"))
	list, err := os.ReadDir(a.path("wal"))
	require.NoError(t, err)
	require.Len(t, list, 1)
	content, err := os.ReadFile(a.path("wal/0001"))
	require.NoError(t, err)
	require.Equal(t, "a", string(content))
}

// archive is a folder with the scripts, where the user that PostgreSQL runs as may write.
type archive struct {
	t      *testing.T
	folder string
}

func newArchive(t *testing.T) archive {
	t.Helper()
	a := archive{t, embeddedtest.NewHome(t) + " archive"} // people have blanks in their paths
	for _, name := range []string{"", "wal", "base"} {
		require.NoError(t, os.Mkdir(a.path(name), 0o700))
		require.NoError(t, os.Chmod(a.path(name), 0o777))
	}
	for _, name := range []string{"archive-wal", "base-backup", "prepare-recovery"} {
		text, err := os.ReadFile(filepath.Join("../../deploy/pitr", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(a.path(name), text, 0o755))
	}
	return a
}

func (a archive) path(name string) string { return filepath.Join(a.folder, name) }

// script runs one as PostgreSQL's user and returns what it printed.
func (a archive) script(pg *embeddedtest.PostgresHandle, name string, args ...string) string {
	a.t.Helper()
	at, err := url.Parse(pg.URL())
	require.NoError(a.t, err)
	password, _ := at.User.Password()
	cmd := exec.Command(a.path(name), args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PGHOST=" + at.Hostname(), "PGPORT=" + at.Port(), "PGUSER=" + at.User.Username(), "PGPASSWORD=" + password}
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		st, err := os.Stat(filepath.Join(pg.Home(), "postgres"))
		require.NoError(a.t, err)
		owner := st.Sys().(*syscall.Stat_t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	require.NoError(a.t, err, "%s: %s", name, &said)
	return strings.TrimSpace(string(out))
}

// home is one for a server on what was recovered, whose password is that of the server before.
func (a archive) home(before *embeddedtest.PostgresHandle) string {
	a.t.Helper()
	home := embeddedtest.NewHome(a.t)
	require.NoError(a.t, os.Mkdir(home, 0o711))
	password, err := os.ReadFile(filepath.Join(before.Home(), "postgres.password"))
	require.NoError(a.t, err)
	require.NoError(a.t, os.WriteFile(filepath.Join(home, "postgres.password"), password, 0o600))
	require.NoError(a.t, os.Rename(a.path("recovered"), filepath.Join(home, "postgres")))
	return home
}
