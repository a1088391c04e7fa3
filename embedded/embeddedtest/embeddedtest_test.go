package embeddedtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/embedded"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv("EMBEDDEDTEST_HELPER"); mode != "" {
		helper(mode)
	}
	Main(m)
}

// helper runs a server in a process of its own, tells its folder, and then ends badly.
func helper(mode string) {
	if mode == "process" {
		startFrozen()
	}
	if _, err := server(); err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println(process.folder.path)
	if mode == "panic" {
		panic("as asked")
	}
	select {}
}

// startFrozen starts a process that has our output, and stops it.
func startFrozen() {
	cmd := exec.Command("sleep", "60")
	cmd.Stdout = os.Stdout
	err := Start(cmd, func(error) {})
	if err == nil {
		err = cmd.Process.Signal(syscall.SIGSTOP)
	}
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	fmt.Println("started")
	select {}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestDBIsEmptyAndPrivate(t *testing.T) {
	var dropped string
	t.Run("use", func(t *testing.T) {
		a, b := DB(t), DB(t)
		require.NotEqual(t, a, b)
		_, err := connect(t, a).Exec(t.Context(), "CREATE TABLE things (id int)")
		require.NoError(t, err)
		_, err = connect(t, b).Exec(t.Context(), "CREATE TABLE things (id int)")
		require.NoError(t, err, "the second database should know nothing of the first")
		dropped = a
	})
	_, err := pgx.Connect(t.Context(), dropped)
	require.ErrorContains(t, err, "does not exist")
}

func TestDBFromPreparesOnce(t *testing.T) {
	var calls atomic.Int32
	prepare := func(url string) error {
		calls.Add(1)
		conn, err := pgx.Connect(context.Background(), url)
		if err != nil {
			return err
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), "CREATE TABLE things (id int); INSERT INTO things VALUES (1)")
		return err
	}
	t.Run("all", func(t *testing.T) {
		for i := range 4 {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				conn := connect(t, DBFrom(t, "things", prepare))
				var n int
				require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM things").Scan(&n))
				require.Equal(t, 1, n, "each copy should be as prepared, whatever the others do")
				_, err := conn.Exec(t.Context(), "INSERT INTO things VALUES (2)")
				require.NoError(t, err)
			})
		}
	})
	require.EqualValues(t, 1, calls.Load())
}

func TestRedisGoesAndComesBack(t *testing.T) {
	real := ""
	if _, installed := embedded.Installed(t.Context()); installed != "" {
		real = embedded.RedisServer
	}
	for _, kind := range []string{embedded.Miniredis, real} {
		t.Run("kind "+kind, func(t *testing.T) {
			h := NewRedis(t, kind)
			t.Log("runs on", h.Kind())
			opt, err := redis.ParseURL(h.URL())
			require.NoError(t, err)
			client := redis.NewClient(opt)
			defer client.Close()
			require.NoError(t, client.Set(t.Context(), "a", "1", 0).Err())
			h.FlushAll()
			require.ErrorIs(t, client.Get(t.Context(), "a").Err(), redis.Nil)
			h.Stop()
			require.ErrorContains(t, client.Ping(t.Context()).Err(), "refused")
			h.Start()
			require.NoError(t, client.Set(t.Context(), "a", "1", 0).Err(), "it should be back at the same address")
		})
	}
	require.NotEqual(t, Redis(t), Redis(t))
}

// A test process that panics, or is killed, leaves a folder that the next one deletes.
func TestWhatDiesIsSweptUp(t *testing.T) {
	for _, mode := range []string{"panic", "hang"} {
		t.Run(mode, func(t *testing.T) {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "EMBEDDEDTEST_HELPER="+mode)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line := make([]byte, 4096)
			n, err := out.Read(line)
			require.NoError(t, err)
			left := strings.TrimSpace(string(line[:n]))
			require.DirExists(t, left)
			if mode == "hang" {
				sweep(left)
				require.DirExists(t, left, "a living process should keep its folder")
				require.NoError(t, cmd.Process.Kill())
			}
			require.Error(t, cmd.Wait())
			require.Eventually(t, func() bool {
				sweep(left)
				_, err := os.Stat(left)
				return os.IsNotExist(err)
			}, 30*time.Second, 20*time.Millisecond)
		})
	}
}
