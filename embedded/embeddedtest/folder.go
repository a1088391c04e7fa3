package embeddedtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"kurir/embedded"
)

// templateFormat is the beginning of a template's name, to be counted up when its data are made another way.
const templateFormat = "template-2-"

// memory is a file system in memory, where Linux has one, and roomEnough what has to be free there for two test processes and
// to spare. A database is hundreds of files: to make and drop one costs a third of what it does on a disk.
const (
	memory     = "/dev/shm"
	roomEnough = 4 << 30
)

// folder is the folder of one test process: <temp>/kurir-test-<uid>/run-*, locked by `alive` as long as the process lives.
type folder struct {
	path  string
	alive *os.File
}

// base is the folder of all test processes of this user, in memory unless TMPDIR says where. Others may walk through it, since root's servers run as another
// user, but not look.
func base() (string, error) {
	parent := os.TempDir()
	if os.Getenv("TMPDIR") == "" && roomy(memory) {
		parent = memory
	}
	if os.Getuid() == 0 && !open(parent) {
		parent = "/tmp"
	}
	path := filepath.Join(parent, "kurir-test-"+strconv.Itoa(os.Getuid()))
	if err := os.Mkdir(path, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || !st.IsDir() || int(sys.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s is not a folder of ours", path)
	}
	return path, os.Chmod(path, 0o711)
}

// roomy says whether there is such a folder, and enough room in it.
func roomy(folder string) bool {
	var st syscall.Statfs_t
	return syscall.Statfs(folder, &st) == nil && uint64(st.Bavail)*uint64(st.Bsize) >= roomEnough
}

// open says whether everybody may walk into the folder.
func open(folder string) bool {
	st, err := os.Stat(folder)
	if err != nil || st.Mode().Perm()&0o001 == 0 {
		return false
	}
	parent := filepath.Dir(folder)
	return parent == folder || open(parent)
}

// flock opens and locks a file; closing it unlocks.
func flock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}

// newFolder makes a folder for this process and deletes those of processes that were killed.
func newFolder() (*folder, error) {
	root, err := base()
	if err != nil {
		return nil, err
	}
	// So that nobody takes a folder for left over that is not locked yet.
	guard, err := flock(filepath.Join(root, "guard"), syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	old, err := filepath.Glob(filepath.Join(root, "run-*"))
	if err != nil {
		return nil, err
	}
	for _, path := range old {
		sweep(path)
	}
	path, err := os.MkdirTemp(root, "run-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o711); err != nil {
		return nil, err
	}
	alive, err := flock(filepath.Join(path, "alive"), syscall.LOCK_EX)
	if err != nil {
		return nil, err
	}
	return &folder{path: path, alive: alive}, nil
}

// sweep deletes the folder of a process that has ended. Where the kernel did not end its servers, they are stopped.
func sweep(path string) {
	alive, err := flock(filepath.Join(path, "alive"), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		return
	}
	defer alive.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	homes, err := filepath.Glob(filepath.Join(path, "*", "kurir.lock"))
	if err != nil {
		return
	}
	for _, lock := range homes {
		if err := embedded.Reclaim(ctx, filepath.Dir(lock)); err != nil {
			return // the next process will try again
		}
	}
	_ = os.RemoveAll(path)
}

func (f *folder) remove() {
	_ = os.RemoveAll(f.path)
	_ = f.alive.Close()
}

// copyTemplate fills a new home with the data of a server that was started once and stopped.
func copyTemplate(ctx context.Context, home string) error {
	root, err := base()
	if err != nil {
		return err
	}
	version, _ := embedded.Installed(ctx)
	if version == "" {
		version = "downloaded"
	}
	template := filepath.Join(root, templateFormat+version)
	guard, err := flock(template+".lock", syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer guard.Close()
	if _, err := os.Stat(template); err != nil {
		if err := makeTemplate(ctx, template); err != nil {
			return err
		}
	}
	return copyTree(template, home)
}

func makeTemplate(ctx context.Context, template string) error {
	tmp := template + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	// Synced, unlike the copies: it stays, and half of it after a power cut would fail all tests from then on.
	s, err := embedded.Start(ctx, embedded.Config{Home: tmp, Postgres: true})
	if err != nil {
		return err
	}
	if err := errors.Join(cheapLogins(ctx, s.DatabaseURL), s.Stop(ctx)); err != nil {
		return err
	}
	return os.Rename(tmp, template)
}

// copyTree copies files, modes and owners.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, path[len(from):])
		if d.IsDir() {
			err = os.Mkdir(target, 0o700)
		} else {
			err = copyFile(path, target)
		}
		if err != nil {
			return err
		}
		if sys, ok := info.Sys().(*syscall.Stat_t); ok && os.Getuid() == 0 {
			if err := os.Chown(target, int(sys.Uid), int(sys.Gid)); err != nil {
				return err
			}
		}
		return os.Chmod(target, info.Mode().Perm())
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
