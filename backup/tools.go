package backup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Tools is where PostgreSQL's programs are looked for.
type Tools struct {
	Path    []string // folders, in order
	Further []string // patterns of folders
}

// StandardTools looks in the folders of PATH, and where packages put what they keep out of it.
func StandardTools(path string) Tools {
	return Tools{Path: filepath.SplitList(path), Further: []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/opt/homebrew/opt/libpq/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/libpq/bin", "/usr/local/opt/postgresql*/bin",
	}}
}

// major is of a version as PostgreSQL's number has it: 17 of 170002.
func major(number int) int { return number / 10000 }

// toolkit is a folder with programs of one version.
type toolkit struct {
	folder string
	major  int
}

func (k toolkit) path(name string) string { return filepath.Join(k.folder, name) }

// find returns the folder that has all the named programs in the lowest major version from the given one on: the nearer to the
// server's, the better they know it.
func (t Tools) find(ctx context.Context, least int, names ...string) (toolkit, error) {
	folders := slices.Clone(t.Path)
	for _, pattern := range t.Further {
		more, err := filepath.Glob(pattern)
		if err != nil {
			return toolkit{}, err
		}
		folders = append(folders, more...)
	}
	var best toolkit
	var tooOld []string
	for _, folder := range folders {
		k, ok := look(ctx, folder, names)
		switch {
		case !ok:
		case k.major < least:
			tooOld = append(tooOld, fmt.Sprintf("%s of version %d", k.path(names[0]), k.major))
		case best.folder == "" || k.major < best.major:
			best = k
		}
	}
	if best.folder != "" {
		return best, nil
	}
	what := fmt.Sprintf("%s of PostgreSQL %d or later: install them, on Debian and Ubuntu by `apt-get install postgresql-client-%d`, elsewhere with the packages of PostgreSQL's client, and see that they are in PATH",
		strings.Join(names, " and "), least, least)
	if len(tooOld) > 0 {
		return best, fmt.Errorf("there is only %s, and this needs %s", strings.Join(tooOld, ", "), what)
	}
	return best, fmt.Errorf("this needs %s", what)
}

var versionOf = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// look asks the programs of a folder for their versions, which have to be the same.
func look(ctx context.Context, folder string, names []string) (k toolkit, ok bool) {
	k.folder = folder
	for _, name := range names {
		path := filepath.Join(folder, name)
		if st, err := os.Stat(path); err != nil || st.IsDir() {
			return k, false
		}
		said, err := exec.CommandContext(ctx, path, "--version").Output()
		found := versionOf.FindSubmatch(said)
		if err != nil || found == nil {
			return k, false
		}
		number, err := strconv.Atoi(string(found[1]))
		if err != nil || k.major != 0 && k.major != number {
			return k, false
		}
		k.major = number
	}
	return k, true
}
