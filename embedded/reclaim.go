package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Reclaim stops what a killed process left running on a home. Start does that too; this is for a home that is to be
// deleted. It returns ErrInUse if the home is in use.
func Reclaim(ctx context.Context, path string) error {
	h, err := openHome(path)
	if err != nil {
		return err
	}
	defer h.lock.Close()
	var errs []error
	if data, err := filepath.EvalSymlinks(h.file("postgres")); err == nil {
		errs = append(errs, reclaimPostgres(ctx, data))
	}
	return errors.Join(append(errs, reclaimRedis(ctx, h.file("redis.pid")))...)
}

// reclaimPostgres ends a postmaster that runs on the data folder, and removes the pid file of one that does not. That
// the folder is ours alone is known from the lock. PostgreSQL would judge a pid file by the number only, and refuse to
// start when another process of the same user has it by now.
func reclaimPostgres(ctx context.Context, data string) error {
	file := filepath.Join(data, "postmaster.pid")
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err == nil && pid > 1 {
		ours := func() bool { return isPostmaster(commandLine(pid), data) }
		if err := endProcess(ctx, pid, ours, fastShutdown, immediateShutdown, syscall.SIGKILL); err != nil {
			return fmt.Errorf("stop the PostgreSQL that an earlier kurir left on %s: %w", data, err)
		}
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// isPostmaster knows a postmaster on the data folder from its command line, which we gave it. Its children write theirs
// anew.
func isPostmaster(line, data string) bool {
	program, args, _ := strings.Cut(line, " -D ")
	return filepath.Base(program) == "postgres" && strings.HasPrefix(args+" ", data+" ")
}

// endProcess sends the signals, each when the one before did not help in time, as long as it is still our process.
func endProcess(ctx context.Context, pid int, ours func() bool, signals ...syscall.Signal) error {
	grace := stopGrace
	for _, sig := range signals {
		if !ours() {
			return nil
		}
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		for end := time.Now().Add(grace); ours() && time.Now().Before(end); {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
		grace = insistGrace
	}
	if ours() {
		return fmt.Errorf("process %d cannot be stopped", pid)
	}
	return nil
}

// reclaimRedis ends the Redis noted in the file. It is ours if the noted process calls itself a server on the noted port,
// as Redis does in its title; asking it would give our password to whoever listens there by now.
func reclaimRedis(ctx context.Context, file string) error {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var pid, port int
	if _, err := fmt.Sscan(string(b), &pid, &port); err == nil && pid > 1 {
		ours := func() bool { return isRedis(commandLine(pid), port) }
		if err := endProcess(ctx, pid, ours, redisShutdown, syscall.SIGKILL); err != nil {
			return fmt.Errorf("stop the Redis that an earlier kurir left: %w", err)
		}
	}
	return os.Remove(file)
}

func isRedis(line string, port int) bool {
	program, args, _ := strings.Cut(line, " 127.0.0.1:")
	name := filepath.Base(program)
	return (name == "redis-server" || name == "valkey-server") && strings.HasPrefix(args+" ", strconv.Itoa(port)+" ")
}
