package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrInUse means that another process runs on the same home.
var ErrInUse = errors.New("another kurir is running on this KURIR_HOME")

// lockFolder takes the folder for this process, until the file is closed or the process ends in whatever way: the kernel
// releases the lock. The file itself stays, since removing it would let two processes lock two files of one name.
func lockFolder(folder string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(folder, "kurir.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", folder, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", folder, err)
		}
		pid, _ := io.ReadAll(f)
		return nil, fmt.Errorf("%w (pid %s): %s", ErrInUse, strings.TrimSpace(string(pid)), folder)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
