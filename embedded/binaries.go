package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// minMajor is the oldest PostgreSQL that we start; older ones are no longer maintained.
const minMajor = 14

// places says where things are on a machine.
type places struct {
	path       []string // folders searched first, in order
	postgres   []string // patterns of further folders with PostgreSQL's programs; the newest one is taken
	redis      []string // further folders with redis-server
	elsewhere  []string // where root keeps data when the home is closed to PostgreSQL's user
	cache      string   // where a downloaded PostgreSQL is kept
	repository string   // where it is downloaded from; "" is Maven Central
}

func standardPlaces() *places {
	p := &places{
		path: filepath.SplitList(os.Getenv("PATH")),
		postgres: []string{
			"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
			"/usr/pgsql-*/bin",                  // Red Hat, PGDG
			"/usr/libexec/postgresql*",          // Alpine
			"/opt/homebrew/opt/postgresql*/bin", // Homebrew on ARM
			"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
			"/Applications/Postgres.app/Contents/Versions/*/bin",
		},
		redis:     []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"},
		elsewhere: []string{"/var/lib", os.TempDir()},
		cache:     "/var/cache/kurir", // root's own cache is closed to the user that runs PostgreSQL
	}
	if os.Getuid() != 0 {
		if dir, err := os.UserCacheDir(); err == nil {
			p.cache = filepath.Join(dir, "kurir")
		} else {
			p.cache = filepath.Join(os.TempDir(), "kurir-cache-"+strconv.Itoa(os.Getuid()))
		}
	}
	return p
}

// pgInstall is a folder with PostgreSQL's programs.
type pgInstall struct {
	bin     string
	version string // "15.16"
	major   string // "15", as in the file PG_VERSION of a data folder
}

var errNoPostgres = errors.New("no PostgreSQL is installed")

// findPostgres returns the first installation in PATH, else the newest one elsewhere, that acct may run; of the given
// major version unless that is empty, because data can be opened by the version that made them only.
func (p *places) findPostgres(ctx context.Context, acct account, major string) (pgInstall, error) {
	var further []pgInstall
	for _, pattern := range p.postgres {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return pgInstall{}, err
		}
		for _, dir := range dirs {
			if in, ok := inspectPostgres(ctx, dir, acct); ok {
				further = append(further, in)
			}
		}
	}
	slices.SortStableFunc(further, func(a, b pgInstall) int { return cmp.Compare(number(b.major), number(a.major)) })
	var found []pgInstall
	for _, dir := range p.path {
		if in, ok := inspectPostgres(ctx, dir, acct); ok {
			found = append(found, in)
		}
	}
	for _, in := range append(found, further...) {
		if major == "" || in.major == major {
			return in, nil
		}
	}
	return pgInstall{}, errNoPostgres
}

var pgVersion = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[^\s]*)`)

// inspectPostgres looks for the programs in dir. What lies there may be a link to where they really are, with initdb and
// their libraries.
func inspectPostgres(ctx context.Context, dir string, acct account) (pgInstall, bool) {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return pgInstall{}, false
	}
	bin := filepath.Dir(real)
	if _, err := os.Stat(filepath.Join(bin, "initdb")); err != nil || !acct.reaches(bin) {
		return pgInstall{}, false
	}
	out, err := exec.CommandContext(ctx, real, "--version").Output()
	m := pgVersion.FindSubmatch(out)
	if err != nil || m == nil || number(string(m[2])) < minMajor {
		return pgInstall{}, false
	}
	return pgInstall{bin: bin, version: string(m[1]), major: string(m[2])}, true
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// missingPostgres says what to do where PostgreSQL is neither installed nor can be fetched.
func missingPostgres(major string, cause error) error {
	apt, brew, what := "postgresql", "postgresql@17", "PostgreSQL"
	if major != "" {
		apt, brew, what = "postgresql-"+major, "postgresql@"+major, "PostgreSQL "+major+", which made the data of this home,"
	}
	hint := "`apt-get install " + apt + "`, or with your system's package manager"
	if runtime.GOOS == "darwin" {
		hint = "`brew install " + brew + "`"
	}
	return fmt.Errorf("%s is not installed and could not be downloaded: install it with %s, or set DATABASE_URL to a server that "+
		"you have (%w)", what, hint, cause)
}

// redisInstall is a redis-server or valkey-server.
type redisInstall struct {
	path string
	kind string // "redis-server 7.0.15"
}

var errNoRedis = errors.New("neither redis-server nor valkey-server is installed")

var redisVersion = regexp.MustCompile(`(?i)^(redis|valkey) server v=(\S+)`)

func (p *places) findRedis(ctx context.Context, acct account) (redisInstall, error) {
	for _, dir := range slices.Concat(p.path, p.redis) {
		for _, name := range []string{"redis-server", "valkey-server"} {
			// The link is looked behind, but run under its own name: one program may be several, and go by how it is called.
			path := filepath.Join(dir, name)
			behind, err := filepath.EvalSymlinks(path)
			if err != nil || !acct.reaches(filepath.Dir(path)) || !acct.reaches(filepath.Dir(behind)) {
				continue
			}
			// redis-server may be a link to Valkey's. What it says of itself counts.
			out, err := exec.CommandContext(ctx, path, "--version").Output()
			if m := redisVersion.FindSubmatch(out); err == nil && m != nil {
				return redisInstall{path: path, kind: strings.ToLower(string(m[1])) + "-server " + string(m[2])}, nil
			}
		}
	}
	return redisInstall{}, errNoRedis
}
