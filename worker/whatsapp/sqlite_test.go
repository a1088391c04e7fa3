package whatsapp

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// program is another program on whatsmeow, with its store in a SQLite file.
type program struct {
	t       *testing.T
	path    string
	db      *sql.DB
	devices *sqlstore.Container
	clients []*whatsmeow.Client
}

func newProgram(t *testing.T, path string, pragmas ...string) *program {
	t.Helper()
	dsn := "file:" + path + "?_txlock=immediate"
	for _, pragma := range append(pragmas, "foreign_keys(1)", "busy_timeout(10000)", "synchronous(OFF)") {
		dsn += "&_pragma=" + pragma
	}
	db, err := sql.Open("sqlite", dsn)
	require.NoError(t, err)
	p := &program{t: t, path: path, db: db, devices: sqlstore.NewWithDB(db, "sqlite3", waLog.Noop)}
	t.Cleanup(p.stop)
	require.NoError(t, p.devices.Upgrade(context.Background()))
	return p
}

// stop ends the program, as it wants to be ended.
func (p *program) stop() {
	for _, c := range p.clients {
		c.Disconnect()
	}
	require.NoError(p.t, p.db.Close())
	require.Eventually(p.t, func() bool { return p.db.Stats().OpenConnections == 0 }, patience, time.Millisecond, "what was being written is written")
}

func (p *program) exec(statement string, args ...any) {
	p.t.Helper()
	_, err := p.db.Exec(statement, args...)
	require.NoError(p.t, err, statement)
}

// linked is a phone's device in the program, which has written to +491 and been answered.
func (p *program) linked(n *network, phone string) types.JID {
	p.t.Helper()
	ctx, ann := context.Background(), n.person(p.t, "+491")
	c := whatsmeow.NewClient(p.devices.NewDevice(), waLog.Noop)
	p.clients = append(p.clients, c)
	n.Configure(c, "another program")
	codes, connected, came := make(chan string, 1), make(chan bool, 10), make(chan string, 10)
	c.AddEventHandler(func(raw any) {
		switch e := raw.(type) {
		case *events.QR:
			codes <- e.Codes[0]
		case *events.Connected:
			connected <- true
		case *events.Message:
			came <- e.Message.GetConversation()
		}
	})
	require.NoError(p.t, c.ConnectContext(ctx))
	_, err := n.Server.Scan(phone, soon(p.t, codes))
	require.NoError(p.t, err)
	soon(p.t, connected)
	_, err = c.SendMessage(ctx, address("+491"), &waE2E.Message{Conversation: proto.String("before")})
	require.NoError(p.t, err)
	_, err = ann.Write(address(phone), "before")
	require.NoError(p.t, err)
	require.Equal(p.t, "before", soon(p.t, came))
	return c.Store.GetJID()
}

func soon[V any](t *testing.T, from <-chan V) (v V) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		require.FailNow(t, "it does not come")
	}
	return v
}

// unlinkedSession is one that a worker has held and that has no device.
func unlinkedSession(t *testing.T, e *Engine) *holder {
	t.Helper()
	h := holderOf(t, e.pool, uuid.NewString(), 1)
	_, err := h.claim(context.Background())
	require.NoError(t, err)
	return h
}

func TestWhichAddressesAreFiles(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"file:storages/whatsapp.db?_foreign_keys=on": "storages/whatsapp.db",
		"file:/srv/my%20store.db#x":                  "/srv/my store.db",
		"file:///srv/store.db":                       "///srv/store.db",
		"file://localhost/srv/store.db":              "/srv/store.db",
		"/srv/dbdata/main.db":                        "/srv/dbdata/main.db",
		"main.db":                                    "main.db",
		"file:a=b.db":                                "a=b.db",
		"file:100%.db":                               "100%.db",
	} {
		path, ok := sqlitePath(address)
		assert.True(t, ok, address)
		assert.Equal(t, want, path, address)
	}
	for _, address := range []string{"postgres://u:p@h/db", "postgresql:///db", "host=/tmp dbname=wuzapi"} {
		_, ok := sqlitePath(address)
		assert.False(t, ok, address)
	}
}

func TestValuesFitOurColumns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value any
		of    string
		want  any
	}{
		{int64(1), "boolean", true}, {int64(0), "boolean", false}, {true, "boolean", true}, {int64(1), "bigint", int64(1)},
		{[]byte(nil), "bytea", []byte{}}, {[]byte{0, 255}, "bytea", []byte{0, 255}}, {nil, "bytea", nil}, {"k", "bytea", []byte("k")},
		{[]byte("a name"), "text", "a name"}, {"Änn \xff\x00", "text", "Änn \uFFFD"}, {nil, "text", nil},
	} {
		assert.Equal(t, c.want, fitting(c.value, c.of), "%v %s", c.value, c.of)
	}
}

// fill puts rows into each of whatsmeow's tables, of what clients put there the odd ones.
func (p *program) fill(jid types.JID) {
	p.t.Helper()
	d := p.devices.NewDevice()
	d.ID, d.LID, d.Account = &jid, types.JID{User: "1" + jid.User, Server: types.HiddenUserServer}, account()
	d.RegistrationID, d.FacebookUUID, d.PushName, d.LIDMigrationTimestamp = 1<<32-1, uuid.New(), "Änn 😀", 1_700_000_000
	require.NoError(p.t, d.Save(context.Background()))
	for _, values := range []string{
		"whatsmeow_identity_keys VALUES (?1, '491:0', randomblob(32))",
		"whatsmeow_pre_keys VALUES (?1, 1, randomblob(32), true), (?1, 16777215, randomblob(32), false)",
		"whatsmeow_sessions VALUES (?1, '491:0', randomblob(3000)), (?1, '492:0', NULL), (?1, '493:0', x'')",
		"whatsmeow_sender_keys VALUES (?1, '1@g.us', '491:0', randomblob(100))",
		"whatsmeow_app_state_sync_keys VALUES (?1, x'0001', randomblob(32), 1700000000000, x'')",
		"whatsmeow_app_state_version VALUES (?1, 'regular', 9223372036854775807, randomblob(128))",
		"whatsmeow_app_state_mutation_macs VALUES (?1, 'regular', 3, randomblob(32), randomblob(32))",
		"whatsmeow_contacts VALUES (?1, '491@s.whatsapp.net', 'Ann', NULL, 'Änn 😀', '', NULL), (?1, '492@s.whatsapp.net', 'a' || char(0) || CAST(x'ff' AS TEXT), '', '', '', '+49∙∙2')",
		"whatsmeow_chat_settings VALUES (?1, '1@g.us', -1, true, false), (?1, '2@g.us', 0, false, true)",
		"whatsmeow_message_secrets VALUES (?1, '1@g.us', '491@s.whatsapp.net', 'ID', randomblob(32))",
		"whatsmeow_privacy_tokens VALUES (?1, '491@s.whatsapp.net', randomblob(11), 1700000000)",
		"whatsmeow_lid_map VALUES ('1' || ?1, ?1)",
		"whatsmeow_event_buffer VALUES (?1, randomblob(32), NULL, 1700000000, 1700000000123), (?1, randomblob(32), x'00', 0, 0)",
	} {
		p.exec("INSERT INTO "+values, jid.String())
	}
}

// plain is a value as either database gives it, as text; what PostgreSQL takes in no text is left out.
func plain(v any) string {
	switch v := v.(type) {
	case bool:
		return map[bool]string{true: "1", false: "0"}[v]
	case []byte:
		return "x" + hex.EncodeToString(v)
	case [16]byte:
		return strconv.Quote(uuid.UUID(v).String())
	case string:
		return strconv.Quote(strings.ReplaceAll(strings.ToValidUTF8(v, "\uFFFD"), "\x00", ""))
	}
	return fmt.Sprint(v)
}

// theirs are the rows of a table that are a device's, as the program has them, and ours all that the engine has.
func (p *program) theirs(table table, jid string) (list []string) {
	p.t.Helper()
	query := "SELECT " + strings.Join(table.columns, ", ") + " FROM " + table.name
	if table.device != "" {
		query += " WHERE " + table.device + " = '" + jid + "'"
	}
	rows, err := p.db.Query(query)
	require.NoError(p.t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		values, into := make([]any, len(table.columns)), []any{}
		for i := range values {
			into = append(into, &values[i])
		}
		require.NoError(p.t, rows.Scan(into...))
		list = append(list, row(values))
	}
	require.NoError(p.t, rows.Err())
	slices.Sort(list)
	return list
}

func ours(t *testing.T, e *Engine, table table) (list []string) {
	t.Helper()
	rows, err := e.pool.Query(context.Background(), "SELECT * FROM "+table.name)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		values, err := rows.Values()
		require.NoError(t, err)
		list = append(list, row(values))
	}
	require.NoError(t, rows.Err())
	slices.Sort(list)
	return list
}

func row(values []any) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, plain(v))
	}
	return strings.Join(texts, " ")
}

// Every value of every table arrives as it was, of the device that is meant alone; and again after it has been logged out.
func TestEveryTableIsAdopted(t *testing.T) {
	t.Parallel()
	ctx, e := context.Background(), newNetwork(t).engine(t)
	ended(t, e)
	p := newProgram(t, filepath.Join(t.TempDir(), "whatsapp.db"))
	one, two := types.NewADJID("62811", 0, 1), types.NewADJID("62822", 0, 7)
	p.fill(one)
	p.fill(two)
	tx, err := e.pool.Begin(ctx)
	require.NoError(t, err)
	tables, err := copied(ctx, tx)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(ctx))
	require.Len(t, tables, 14)

	h := unlinkedSession(t, e)
	for range 2 {
		jid, err := e.Adopt(ctx, Import{From: p.path, Device: one.String(), Session: h.session})
		require.NoError(t, err)
		require.Equal(t, one.String(), jid)
		for _, table := range tables {
			want := p.theirs(table, jid)
			require.NotEmpty(t, want, "a row to copy of %s", table.name)
			require.Equal(t, want, ours(t, e, table), table.name)
		}
		device, err := container(h.db, waLog.Noop, e.lids).GetDevice(ctx, one)
		require.NoError(t, err)
		require.Equal(t, uint32(1<<32-1), device.RegistrationID)
		require.NoError(t, h.forget(ctx))
	}
	_, err = e.Adopt(ctx, Import{From: p.path, Device: two.String(), Session: h.session})
	require.NoError(t, err)
	var left int
	require.NoError(t, e.pool.QueryRow(ctx, "SELECT count(*) FROM whatsmeow_pre_keys WHERE jid = $1", two.String()).Scan(&left))
	require.Equal(t, 2, left)
}

// contents are the files in a folder.
func contents(t *testing.T, folder string) map[string]string {
	t.Helper()
	list, err := os.ReadDir(folder)
	require.NoError(t, err)
	all := map[string]string{}
	for _, entry := range list {
		if !entry.IsDir() {
			content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
			require.NoError(t, err)
			all[entry.Name()] = string(content)
		}
	}
	return all
}

// What is no store, or none that can be had, is refused with the reason, and nothing about it is changed.
func TestFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	ctx, e := context.Background(), newNetwork(t).engine(t)
	ended(t, e)
	session := unlinkedSession(t, e).session
	good := newProgram(t, filepath.Join(t.TempDir(), "good.db"))
	good.fill(types.NewADJID("62811", 0, 1))
	good.stop()
	store, err := os.ReadFile(good.path)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want error
		says string
	}{
		"nothing":      {func(*testing.T, string) {}, fs.ErrNotExist, "no such file"},
		"a folder":     {func(t *testing.T, path string) { require.NoError(t, os.Mkdir(path, 0o700)) }, errNoStore, "is no file"},
		"an empty one": {written(""), errNoStore, "is empty"},
		"a text":       {written("postgres://is.not.here\n"), errNoStore, "no SQLite database"},
		"others' tables": {func(t *testing.T, path string) {
			db, err := sql.Open("sqlite", path)
			require.NoError(t, err)
			_, err = db.Exec("CREATE TABLE users (id INTEGER)")
			require.NoError(t, err)
			require.NoError(t, db.Close())
		}, errNoStore, "whatsmeow_version"},
		"no device":          {func(t *testing.T, path string) { newProgram(t, path).stop() }, errNoDevice, ""},
		"half of it":         {written(string(store[:len(store)/2])), nil, "malformed"},
		"a page overwritten": {written(string(store[:8192]) + strings.Repeat("x", 4096) + string(store[12288:])), errDamaged, ""},
		"another version": {func(t *testing.T, path string) {
			p := newProgram(t, path)
			p.exec("UPDATE whatsmeow_version SET version = version - 1")
			p.stop()
		}, errOtherVersion, "theirs is"},
		"killed in a change": {func(t *testing.T, path string) {
			written(string(store))(t, path)
			written("\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")(t, path+"-journal")
		}, errInterrupted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			c.make(t, filepath.Join(folder, "x.db"))
			before := contents(t, folder)
			_, err := e.Adopt(ctx, Import{From: "file:" + filepath.Join(folder, "x.db"), Session: session})
			require.Error(t, err)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			require.ErrorContains(t, err, c.says)
			require.Equal(t, before, contents(t, folder))
		})
	}
	folder := filepath.Dir(good.path)
	before := contents(t, folder)
	require.Len(t, before, 1)
	_, err = e.Adopt(ctx, Import{From: good.path, Session: session})
	require.NoError(t, err, "the one that they were made of is good")
	require.Equal(t, before, contents(t, folder), "it was only read")
}

func written(content string) func(*testing.T, string) {
	return func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
}

// A program that was killed leaves changes in a -wal: they belong to the store.
func TestAWALIsRead(t *testing.T) {
	t.Parallel()
	ctx, e := context.Background(), newNetwork(t).engine(t)
	ended(t, e)
	session := unlinkedSession(t, e).session
	p := newProgram(t, filepath.Join(t.TempDir(), "x.db"), "journal_mode(WAL)", "wal_autocheckpoint(0)")
	jid := types.NewADJID("62811", 0, 1)
	p.fill(jid)
	folder := t.TempDir()
	copied := filepath.Join(folder, "x.db")
	before := contents(t, filepath.Dir(p.path))
	written(before["x.db"])(t, copied)
	_, err := e.Adopt(ctx, Import{From: copied, Session: session})
	require.ErrorIs(t, err, errNoStore, "without the -wal nothing is there yet")
	require.Greater(t, len(before["x.db-wal"]), 4096)
	written(before["x.db-wal"])(t, copied+"-wal")
	adopted, err := e.Adopt(ctx, Import{From: copied, Session: session})
	require.NoError(t, err)
	require.Equal(t, jid.String(), adopted)
	after := contents(t, folder)
	require.Equal(t, before["x.db"], after["x.db"])
	require.Equal(t, before["x.db-wal"], after["x.db-wal"])
}

// holdVariable makes the test's program one that has a SQLite file open.
const holdVariable = "KURIR_HOLD_SQLITE"

func hold(path string) {
	db, err := sql.Open("sqlite", path)
	if err == nil {
		_, err = db.Exec("SELECT * FROM whatsmeow_version")
	}
	fmt.Println("open", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A file that another process has open is refused, whatever it does with it at the moment.
func TestARunningProgramIsSeen(t *testing.T) {
	t.Parallel()
	ctx, e := context.Background(), newNetwork(t).engine(t)
	ended(t, e)
	session := unlinkedSession(t, e).session
	p := newProgram(t, filepath.Join(t.TempDir(), "x.db"), "journal_mode(WAL)")
	p.fill(types.NewADJID("62811", 0, 1))
	p.stop()
	require.False(t, locked(p.path+"-shm", shmLocks, shmLocksLen))

	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), holdVariable+"="+p.path)
	in, err := child.StdinPipe()
	require.NoError(t, err)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	said := make([]byte, len("open <nil>"))
	_, err = io.ReadFull(out, said)
	require.NoError(t, err)
	require.Equal(t, "open <nil>", string(said))

	require.True(t, locked(p.path+"-shm", shmLocks, shmLocksLen), "as other containers see it")
	_, err = e.Adopt(ctx, Import{From: p.path, Session: session})
	require.ErrorIs(t, err, errRunning)
	if _, none := os.Stat("/proc/self/fd"); none == nil {
		require.ErrorContains(t, err, fmt.Sprintf("process %d ", child.Process.Pid))
	}
	require.NoError(t, in.Close())
	require.NoError(t, child.Wait())
	_, err = e.Adopt(ctx, Import{From: p.path, Session: session})
	require.NoError(t, err)
}

// What is written while a file is read is not missed.
func TestAFileThatChangesMeanwhileIsRefused(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := newProgram(t, filepath.Join(t.TempDir(), "x.db"))
	p.fill(types.NewADJID("62811", 0, 1))
	f, err := openForeign(ctx, Import{From: p.path})
	require.NoError(t, err)
	defer f.close()
	all, err := f.devices(ctx)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.NoError(t, f.unchanged())
	p.fill(types.NewADJID("62822", 0, 1))
	require.ErrorIs(t, f.unchanged(), errRunning)
}
