package embedded

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// home is the data folder, locked for this process:
//
//	kurir.lock                        who uses it
//	postgres/                         data; a link where root had to put them elsewhere, see dataPlace
//	postgres.password, redis.password
//	postgres.log, redis.log
//	redis.pid                         process and port, while it runs
type home struct {
	path   string
	lock   *os.File
	orphan bool
}

func openHome(path string) (*home, error) {
	if path == "" {
		return nil, errors.New("no home folder is given")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make home: %w", err)
	}
	// A link to a home is that home: one lock, one place for its data.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return nil, err
	}
	l, err := lockFolder(path)
	if err != nil {
		return nil, err
	}
	return &home{path: path, lock: l}, nil
}

func (h *home) file(name string) string { return filepath.Join(h.path, name) }

// secret returns the password kept in the named file; the first call makes it.
func (h *home) secret(name string) (string, error) {
	b, err := os.ReadFile(h.file(name))
	if err == nil && len(strings.TrimSpace(string(b))) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	key := make([]byte, 24)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	password := hex.EncodeToString(key)
	// Written beside and renamed, so that a crash never leaves half a password.
	tmp := h.file(name + ".new")
	if err := os.WriteFile(tmp, []byte(password+"\n"), 0o600); err != nil {
		return "", err
	}
	return password, os.Rename(tmp, h.file(name))
}

// dataPlace returns the folder in which the folder `postgres` with the data is or will be.
//
// For an ordinary user that is the home. Root's child is another user, who must be able to walk to the data: a home that
// only root may enter is opened to the group of that user, to walk through and no more. If a folder above the home is
// closed, as /root is, then it is not ours to open, and the data go to a folder of ours in one of elsewhere, named after the
// home. The link that is left in the home is what later starts follow.
func (h *home) dataPlace(acct account, elsewhere []string) (string, error) {
	data := h.file("postgres")
	if target, err := filepath.EvalSymlinks(data); err == nil {
		if place := filepath.Dir(target); acct.reaches(place) {
			return place, nil
		}
		return "", fmt.Errorf("user %s, who runs PostgreSQL, may not enter all folders above %s: open them to others with chmod o+x, "+
			"or move the home folder", acct.name, target)
	}
	// Nothing, or a link to data that were deleted.
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := h.openTo(acct); err != nil {
		return "", err
	}
	if acct.reaches(h.path) {
		return h.path, nil
	}
	sum := sha256.Sum256([]byte(h.path))
	var errs []error
	for _, parent := range elsewhere {
		place := filepath.Join(parent, "kurir-"+hex.EncodeToString(sum[:6]))
		err := makeOwnFolder(place, 0o711)
		if err == nil && acct.reaches(place) {
			return place, os.Symlink(filepath.Join(place, "postgres"), data)
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("user %s, who runs PostgreSQL, may not enter %s, and no other place was found for the data: %w",
		acct.name, h.path, errors.Join(errs...))
}

// openTo lets the group of acct walk through a home that is closed to all but root. The home of the person is not touched.
func (h *home) openTo(acct account) error {
	st, err := os.Stat(h.path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	person, _ := os.UserHomeDir()
	if !acct.drop || !ok || sys.Uid != 0 || sys.Gid != 0 || st.Mode().Perm() != 0o700 || h.path == person {
		return nil
	}
	if err := os.Chown(h.path, -1, acct.gid); err != nil {
		return err
	}
	return os.Chmod(h.path, 0o710)
}

// makeOwnFolder makes a folder, or takes one that is ours: in a folder open to all, somebody else could have laid a trap.
func makeOwnFolder(path string, mode fs.FileMode) error {
	if err := os.Mkdir(path, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !st.IsDir() || !ok || int(sys.Uid) != os.Getuid() {
		return fmt.Errorf("%s is not a folder of ours", path)
	}
	return os.Chmod(path, mode) // whatever the umask made of it
}
