package whatsapp

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	_ "modernc.org/sqlite" // the driver "sqlite", in Go alone
)

// Errors of a SQLite file that the operator can do something about.
var (
	errRunning     = errors.New("the other program still runs: stop it, for good")
	errInterrupted = errors.New("the other program was killed in the middle of a change: start it once more, stop it as it wants to be stopped, and try again")
	errDamaged     = errors.New("the file is damaged, or a copy that was taken while the other program wrote to it")
)

// sqlitePath tells whether an address is a SQLite file's, file:PATH or plainly its path, and which. What follows a question mark is for the
// other program's driver.
func sqlitePath(address string) (path string, ok bool) {
	path, isURI := strings.CutPrefix(address, "file:")
	if !isURI {
		return address, !strings.Contains(address, "://") && !strings.Contains(address, "=") // host=… is PostgreSQL's
	}
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	path = strings.TrimPrefix(path, "//localhost")
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	return path, true
}

// sqliteFile is a database of another program's, with what it leaves beside it.
type sqliteFile struct {
	path string
	seen [2]stamp // of the file and its -wal, before they were read
}

// stamp tells whether a file has changed; it is zero where there is none.
type stamp struct{ size, changed int64 }

func (f *sqliteFile) stamps() (now [2]stamp) {
	for i, path := range []string{f.path, f.path + "-wal"} {
		if info, err := os.Stat(path); err == nil {
			now[i] = stamp{info.Size(), info.ModTime().UnixNano()}
		}
	}
	return now
}

func (f *sqliteFile) unchanged() error {
	if f.stamps() != f.seen {
		return fmt.Errorf("%w (it has changed %s meanwhile)", errRunning, f.path)
	}
	return nil
}

// openSQLite opens a file for reading. Nothing of it is changed; where changes are in a -wal still, SQLite makes a -shm beside it.
func openSQLite(ctx context.Context, path string) (*sqliteFile, *sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	f := &sqliteFile{path: path}
	if err := errors.Join(f.inspect(), f.unused()); err != nil {
		return nil, nil, err
	}
	f.seen = f.stamps()
	how := "mode=ro"
	if f.seen[1].size == 0 {
		how += "&immutable=1" // takes no locks, so its folder may be one that is only to be read
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: how}).String())
	if err != nil {
		return nil, nil, err
	}
	var found string
	if err = db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&found); err != nil {
		err = fmt.Errorf("read the other program's file (with a -wal beside it, its folder has to be writable): %w", err)
	} else if found != "ok" {
		err = fmt.Errorf("%w: %s", errDamaged, found)
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return f, db, nil
}

const sqliteMagic = "SQLite format 3\x00" // begins every file

// inspect sees that the file is a database that can be read as it is.
func (f *sqliteFile) inspect() error {
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		return fmt.Errorf("the other program's file: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is no file", errNoStore, f.path)
	case info.Size() == 0:
		return fmt.Errorf("%w: %s is empty", errNoStore, f.path)
	}
	head, err := beginning(f.path, len(sqliteMagic))
	switch {
	case err != nil:
		return fmt.Errorf("the other program's file: %w", err)
	case string(head) != sqliteMagic:
		return fmt.Errorf("%w: %s is no SQLite database, or an encrypted one", errNoStore, f.path)
	}
	// Where it does not begin with a zero, it is to be undone before the file can be read.
	if journal, err := beginning(f.path+"-journal", 1); err == nil && len(journal) == 1 && journal[0] != 0 {
		return errInterrupted
	}
	return nil
}

func beginning(path string, size int) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(file, int64(size)))
}

// Where SQLite locks a database that it reads or writes, and the -shm of one that it has open with a -wal.
const (
	lockBytes, lockBytesLen = 0x40000000, 512
	shmLocks, shmLocksLen   = 120, 9
)

// unused sees that no process has the file open, as far as the system tells: Linux tells whose files one may see, and of locks also
// those of other containers.
func (f *sqliteFile) unused() error {
	if process := openIn(f.path); process != "" {
		return fmt.Errorf("%w (%s has %s open)", errRunning, process, f.path)
	}
	if locked(f.path, lockBytes, lockBytesLen) || locked(f.path+"-shm", shmLocks, shmLocksLen) {
		return fmt.Errorf("%w (it has locked %s)", errRunning, f.path)
	}
	return nil
}

// openIn is another process that has a file open, "" if none is seen.
func openIn(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	descriptors, _ := filepath.Glob("/proc/[0-9]*/fd/*") // there are none but on Linux
	for _, d := range descriptors {
		process := strings.Split(d, "/")[2]
		if process == strconv.Itoa(os.Getpid()) {
			continue
		}
		if other, err := os.Stat(d); err == nil && os.SameFile(info, other) {
			name, _ := os.ReadFile("/proc/" + process + "/comm") //nolint:gosec // a number; it may have ended
			return "process " + process + " " + string(bytes.TrimSpace(name))
		}
	}
	return ""
}

// locked reports whether another process holds a lock on these bytes of a file.
func locked(path string, start, length int64) bool {
	file, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // it was only read
	l := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: start, Len: length}
	return syscall.FcntlFlock(file.Fd(), syscall.F_GETLK, &l) == nil && l.Type != syscall.F_UNLCK
}
