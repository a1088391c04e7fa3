package embedded

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that the servers run as. PostgreSQL refuses to run as root, so root's children drop to another.
type account struct {
	name     string
	uid, gid int
	drop     bool // another user than ours
}

// chooseAccount returns our own user, unless that is root: then the owner of the data, if there are any, so that data
// made earlier by an ordinary user stay his; else `postgres`, who exists where a package installed it; else `nobody`.
func chooseAccount(data string) (account, error) {
	if uid := os.Getuid(); uid != 0 {
		return account{uid: uid, gid: os.Getgid()}, nil
	}
	if st, err := os.Stat(data); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Uid != 0 {
			uid := strconv.FormatUint(uint64(sys.Uid), 10)
			return account{name: "with id " + uid, uid: int(sys.Uid), gid: int(sys.Gid), drop: true}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 == nil && err2 == nil && uid > 0 {
			return account{name: name, uid: uid, gid: gid, drop: true}, nil
		}
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as: " +
		"start kurir as an ordinary user")
}

// reaches says whether the account may walk into the folder, from the root on down. Access lists beyond the mode are not
// looked at.
func (a account) reaches(folder string) bool {
	if !a.drop {
		return true
	}
	for {
		st, err := os.Stat(folder)
		if err != nil {
			return false
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return false
		}
		bit := uint32(0o001)
		switch {
		case int(sys.Uid) == a.uid:
			bit = 0o100
		case int(sys.Gid) == a.gid:
			bit = 0o010
		}
		if uint32(st.Mode().Perm())&bit == 0 {
			return false
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return true
		}
		folder = parent
	}
}

// own gives the file to the account.
func (a account) own(path string) error {
	if !a.drop {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}
