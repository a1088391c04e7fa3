package embedded

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func refused(host string) bool {
	conn, err := net.Dial("tcp", host)
	if err == nil {
		conn.Close()
	}
	return err != nil
}

func TestNothingInstalledAndNothingToDownload(t *testing.T) {
	mirror := httptest.NewServer(http.NotFoundHandler())
	defer mirror.Close()
	p := &places{cache: filepath.Join(t.TempDir(), "cache"), repository: mirror.URL}
	_, err := Start(t.Context(), Config{Home: newHome(t), Postgres: true, places: p})
	want := "apt-get install postgresql`"
	if runtime.GOOS == "darwin" {
		want = "brew install postgresql@17`"
	}
	require.ErrorContains(t, err, want)
	require.ErrorContains(t, err, "DATABASE_URL")

	_, err = Start(t.Context(), Config{Home: newHome(t), Redis: true, RedisKind: RedisServer, places: p})
	require.ErrorContains(t, err, "redis-server")

	s := start(t, Config{Home: newHome(t), Redis: true, places: p})
	require.Equal(t, Miniredis, s.RedisKind)
}

// Data are opened by the major version that made them, or not at all.
func TestVersionOfTheDataDecides(t *testing.T) {
	mirror := httptest.NewServer(http.NotFoundHandler())
	defer mirror.Close()
	p := standardPlaces()
	p.cache, p.repository = filepath.Join(t.TempDir(), "cache"), mirror.URL
	home := newHome(t)
	stop(t, start(t, Config{Home: home, Postgres: true}))
	require.NoError(t, os.WriteFile(filepath.Join(home, "postgres", "PG_VERSION"), []byte("9\n"), 0o600))
	_, err := Start(t.Context(), Config{Home: home, Postgres: true, places: p})
	require.ErrorContains(t, err, "PostgreSQL 9, which made the data")
}

func TestProgramsAreFoundBehindLinks(t *testing.T) {
	std := standardPlaces()
	acct, err := chooseAccount("")
	require.NoError(t, err)
	in, err := std.findPostgres(t.Context(), acct, "")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(in.bin, "postgres"), filepath.Join(dir, "postgres")))
	linked, err := (&places{path: []string{dir}}).findPostgres(t.Context(), acct, "")
	require.NoError(t, err)
	require.Equal(t, in, linked)
	globbed, err := (&places{postgres: []string{dir + "*"}}).findPostgres(t.Context(), acct, in.major)
	require.NoError(t, err)
	require.Equal(t, in, globbed)
}

// PostgreSQL never runs as root; an ordinary user runs it himself.
func TestAccount(t *testing.T) {
	home := newHome(t)
	start(t, Config{Home: home, Postgres: true})
	acct, err := chooseAccount(filepath.Join(home, "postgres"))
	require.NoError(t, err)
	if os.Getuid() == 0 {
		require.True(t, acct.drop)
	} else {
		require.Equal(t, os.Getuid(), acct.uid)
	}
	require.NotZero(t, acct.uid)
	require.Equal(t, acct.uid, owner(t, filepath.Join(home, "postgres")))
	require.Equal(t, os.Getuid(), owner(t, filepath.Join(home, "postgres.password")))
	require.Equal(t, acct.uid, owner(t, filepath.Join(home, "postgres", "postmaster.pid")), "its own file tells who it runs as")
}

// A home in a folder that only its owner may enter, as /root is.
func TestHomeInAClosedFolder(t *testing.T) {
	closed := filepath.Join(filepath.Dir(newHome(t)), "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	home, elsewhere := filepath.Join(closed, "home"), filepath.Join(filepath.Dir(newHome(t)), "elsewhere")
	require.NoError(t, os.Mkdir(elsewhere, 0o755))
	p := standardPlaces()
	p.elsewhere = []string{elsewhere}
	s := start(t, Config{Home: home, Postgres: true, places: p})
	exec1(t, s.DatabaseURL, "CREATE TABLE kept (id int)")
	if os.Getuid() == 0 {
		link, err := os.Readlink(filepath.Join(home, "postgres"))
		require.NoError(t, err)
		require.Equal(t, elsewhere, filepath.Dir(filepath.Dir(link)))
		copied := newHome(t)
		require.NoError(t, os.Mkdir(copied, 0o700))
		require.NoError(t, os.Symlink(link, filepath.Join(copied, "postgres")))
		_, err = Start(t.Context(), Config{Home: copied, Postgres: true, places: p})
		require.ErrorIs(t, err, ErrInUse, "a copy of the home should not touch the data")
	}
	stop(t, s)
	s = start(t, Config{Home: home, Postgres: true, places: p})
	exec1(t, s.DatabaseURL, "INSERT INTO kept VALUES (1)")
	stop(t, s)

	// The folder is opened, and the data are still found.
	require.NoError(t, os.Chmod(closed, 0o755))
	s = start(t, Config{Home: home, Postgres: true, places: p})
	exec1(t, s.DatabaseURL, "INSERT INTO kept VALUES (2)")
}

func owner(t *testing.T, path string) int {
	t.Helper()
	st, err := os.Stat(path)
	require.NoError(t, err)
	return int(st.Sys().(*syscall.Stat_t).Uid)
}
