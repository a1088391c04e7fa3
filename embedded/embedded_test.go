package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

const deadline = 60 * time.Second

func TestMain(m *testing.M) {
	if home := os.Getenv("EMBEDDED_HELPER_HOME"); home != "" {
		helper(home, os.Getenv("EMBEDDED_HELPER_ORPHAN") != "")
	}
	os.Exit(m.Run())
}

// helper is a process that starts the servers on home and waits to be killed.
func helper(home string, orphan bool) {
	s, err := Start(context.Background(), Config{Home: home, Postgres: true, Redis: true, orphan: orphan})
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(s.DatabaseURL, s.RedisURL)
	select {}
}

// newHome returns a home that does not exist yet, which PostgreSQL's user can reach: t.TempDir is closed to others.
func newHome(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o711))
	return filepath.Join(dir, "home")
}

func start(t *testing.T, cfg Config) *Servers {
	t.Helper()
	cfg.NoFsync = true
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	s, err := Start(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Servers) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func exec1(t *testing.T, dsn, sql string) {
	t.Helper()
	_, err := connect(t, dsn).Exec(t.Context(), sql)
	require.NoError(t, err)
}

func redisAt(t *testing.T, address string) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(address)
	require.NoError(t, err)
	client := redis.NewClient(opt)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestDataSurviveARestart(t *testing.T) {
	home := newHome(t)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	s, err := Start(ctx, Config{Home: home, Postgres: true, Redis: true}) // with fsync, as `up` does
	require.NoError(t, err)
	conn := connect(t, s.DatabaseURL)
	for setting, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "max_connections": "200",
		"password_encryption": "scram-sha-256", "listen_addresses": "127.0.0.1", "unix_socket_directories": ""} {
		var got string
		require.NoError(t, conn.QueryRow(ctx, "SELECT current_setting($1)", setting).Scan(&got))
		require.Equal(t, want, got, setting)
	}
	exec1(t, s.DatabaseURL, "CREATE TABLE kept (id int)")
	require.NoError(t, redisAt(t, s.RedisURL).Ping(ctx).Err())
	stop(t, s)
	stop(t, s)
	_, open := <-s.Done()
	require.False(t, open, "Done should be closed, without an error")
	_, err = pgx.Connect(ctx, s.DatabaseURL)
	require.ErrorContains(t, err, "refused")

	again := start(t, Config{Home: home, Postgres: true})
	require.NotEmpty(t, again.PostgresVersion)
	exec1(t, again.DatabaseURL, "INSERT INTO kept VALUES (1)")
	log, err := os.ReadFile(filepath.Join(home, "postgres.log"))
	require.NoError(t, err)
	require.NotContains(t, string(log), "was not properly shut down")
}

func TestOnlyThePasswordOpens(t *testing.T) {
	home := newHome(t)
	s := start(t, Config{Home: home, Postgres: true, Redis: true})
	for _, address := range []string{s.DatabaseURL, s.RedisURL} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		require.Equal(t, "127.0.0.1", u.Hostname())
		require.NotContains(t, []string{"5432", "6379"}, u.Port())
		u.User = url.UserPassword(u.User.Username(), "guessed")
		if strings.HasPrefix(address, "redis") {
			require.ErrorContains(t, redisAt(t, u.String()).Ping(t.Context()).Err(), "WRONGPASS")
			u.User = nil
			require.ErrorContains(t, redisAt(t, u.String()).Ping(t.Context()).Err(), "NOAUTH")
		} else {
			_, err = pgx.Connect(t.Context(), u.String())
			require.ErrorContains(t, err, "password authentication failed")
		}
	}
	for _, name := range []string{"postgres.password", "redis.password", "kurir.lock"} {
		st, err := os.Stat(filepath.Join(home, name))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), st.Mode().Perm(), name)
	}
	st, err := os.Stat(home)
	require.NoError(t, err)
	require.Zero(t, st.Mode().Perm()&0o027, "others may not look into the home, nor its group change it")
}

func TestOneHomeOneProcess(t *testing.T) {
	home := newHome(t)
	start(t, Config{Home: home, Redis: true, RedisKind: Miniredis})
	_, err := Start(t.Context(), Config{Home: home, Redis: true})
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, fmt.Sprintf("(pid %d)", os.Getpid()))
	require.ErrorIs(t, Reclaim(t.Context(), home), ErrInUse)

	other := start(t, Config{Home: newHome(t), Redis: true, RedisKind: Miniredis})
	require.NoError(t, redisAt(t, other.RedisURL).Ping(t.Context()).Err())
}

func TestTwoHomesAtOnce(t *testing.T) {
	one := start(t, Config{Home: newHome(t), Postgres: true})
	two := start(t, Config{Home: newHome(t), Postgres: true})
	exec1(t, one.DatabaseURL, "CREATE TABLE things (id int)")
	exec1(t, two.DatabaseURL, "CREATE TABLE things (id int)")
}

// killed starts the servers in a process of its own, writes a row, and kills that process.
func killed(t *testing.T, home string, orphan bool) (database, redis string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "EMBEDDED_HELPER_HOME="+home)
	if orphan {
		cmd.Env = append(cmd.Env, "EMBEDDED_HELPER_ORPHAN=1")
	}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = fmt.Fscan(out, &database, &redis)
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err, "the helper said %s %s", database, redis)
	_, err = conn.Exec(t.Context(), "CREATE TABLE IF NOT EXISTS kept (id int)")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	return database, redis
}

func TestOrphansOfAKilledProcessAreStopped(t *testing.T) {
	home := newHome(t)
	database, _ := killed(t, home, true)
	conn := connect(t, database) // it outlived its parent
	before := postmaster(t, home)
	orphanRedis, _ := os.ReadFile(filepath.Join(home, "redis.pid"))

	s := start(t, Config{Home: home, Postgres: true, Redis: true})
	require.NotEqual(t, before, postmaster(t, home))
	require.Error(t, conn.Ping(t.Context()), "the orphan should be gone")
	exec1(t, s.DatabaseURL, "INSERT INTO kept VALUES (1)")
	var pid, port int
	if _, err := fmt.Sscan(string(orphanRedis), &pid, &port); err == nil {
		require.Empty(t, commandLine(pid), "the orphaned redis should be gone")
	}
}

func TestRecoveryFromAKill(t *testing.T) {
	home := newHome(t)
	killed(t, home, false)
	s := start(t, Config{Home: home, Postgres: true, Redis: true})
	exec1(t, s.DatabaseURL, "INSERT INTO kept VALUES (1)")
	stop(t, s)

	t.Run("the pid file names another process", func(t *testing.T) {
		data := filepath.Join(home, "postgres")
		require.NoError(t, os.WriteFile(filepath.Join(data, "postmaster.pid"), fmt.Appendf(nil, "%d\n%s\n", os.Getppid(), data), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(home, "redis.pid"), fmt.Appendf(nil, "%d 1\n", os.Getppid()), 0o600))
		s := start(t, Config{Home: home, Postgres: true, Redis: true})
		exec1(t, s.DatabaseURL, "INSERT INTO kept VALUES (2)")
		require.NoError(t, syscall.Kill(os.Getppid(), 0), "that process should be left alone")
	})
}

// Where the kernel offers it, children end with the process that started them.
func TestChildrenEndWithTheirParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system cannot tie the life of a child to its parent's")
	}
	home := newHome(t)
	database, redisURL := killed(t, home, false)
	for _, address := range []string{database, redisURL} {
		u, err := url.Parse(address)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return refused(u.Host) }, deadline, 10*time.Millisecond, "%s should be gone", u.Host)
	}
}

func TestADeadServerIsReported(t *testing.T) {
	home := newHome(t)
	s := start(t, Config{Home: home, Postgres: true})
	require.NoError(t, syscall.Kill(postmaster(t, home), syscall.SIGKILL))
	select {
	case err := <-s.Done():
		require.ErrorContains(t, err, "postgres ended (signal: killed)")
	case <-time.After(deadline):
		t.Fatal("nothing was reported")
	}
	stop(t, s)
	// Its children notice a little later; the start waits for them.
	exec1(t, start(t, Config{Home: home, Postgres: true}).DatabaseURL, "SELECT 1")
}

func TestAFailedStartShowsTheLog(t *testing.T) {
	home := newHome(t)
	stop(t, start(t, Config{Home: home, Postgres: true}))
	f, err := os.OpenFile(filepath.Join(home, "postgres", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("no_such_setting = 1\n")
	require.NoError(t, errors.Join(err, f.Close()))
	_, err = Start(t.Context(), Config{Home: home, Postgres: true})
	require.ErrorContains(t, err, "no_such_setting")
	require.ErrorContains(t, err, "postgres.log")

	require.NoError(t, os.Remove(filepath.Join(home, "postgres.password")))
	_, err = Start(t.Context(), Config{Home: home, Postgres: true})
	require.ErrorContains(t, err, "postgres.password is missing")
}

func TestStartIsLimitedByItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	home := newHome(t)
	_, err := Start(ctx, Config{Home: home, Postgres: true, Redis: true})
	require.ErrorIs(t, err, context.Canceled)
	exec1(t, start(t, Config{Home: home, Postgres: true}).DatabaseURL, "SELECT 1") // nothing in its way, the lock least
}

func postmaster(t *testing.T, home string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(home, "postgres", "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	return pid
}
