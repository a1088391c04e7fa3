package embedded

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// fetchable are the versions that can be downloaded, by major version. "" is for new data.
var fetchable = map[string]embeddedpostgres.PostgresVersion{
	"":   embeddedpostgres.V17,
	"14": embeddedpostgres.V14, "15": embeddedpostgres.V15, "16": embeddedpostgres.V16,
	"17": embeddedpostgres.V17, "18": embeddedpostgres.V18,
}

// fetchPostgres returns a PostgreSQL downloaded now or at an earlier start.
func (p *places) fetchPostgres(ctx context.Context, acct account, major string) (pgInstall, error) {
	version, ok := fetchable[major]
	if !ok {
		return pgInstall{}, fmt.Errorf("there is no PostgreSQL %s to download", major)
	}
	if err := os.MkdirAll(filepath.Dir(p.cache), 0o755); err != nil {
		return pgInstall{}, err
	}
	// Programs that we shall run: nobody else may have a hand in the folder.
	if err := makeOwnFolder(p.cache, 0o755); err != nil {
		return pgInstall{}, err
	}
	dir := filepath.Join(p.cache, "postgresql-"+string(version))
	if in, ok := inspectPostgres(ctx, filepath.Join(dir, "bin"), acct); ok {
		return in, nil
	}
	if err := p.download(ctx, version, dir); err != nil {
		return pgInstall{}, err
	}
	in, ok := inspectPostgres(ctx, filepath.Join(dir, "bin"), acct)
	if !ok {
		return pgInstall{}, fmt.Errorf("the PostgreSQL downloaded to %s does not run here", dir)
	}
	return in, nil
}

// download puts PostgreSQL's programs into dir. The library offers no call that does no more than this, so it is given
// a data folder that it believes to be complete and whose start fails at once; what counts is whether the programs are
// there afterwards. It is unpacked beside dir and renamed, so that dir is never half filled.
func (p *places) download(ctx context.Context, version embeddedpostgres.PostgresVersion, dir string) error {
	tmp, err := os.MkdirTemp(p.cache, "fetch-")
	if err != nil {
		return err
	}
	data, bin := filepath.Join(tmp, "data"), filepath.Join(tmp, "programs")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(version), 0o600); err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	cfg := embeddedpostgres.DefaultConfig().Version(version).Port(uint32(port)).Logger(io.Discard).
		RuntimePath(filepath.Join(tmp, "run")).CachePath(tmp).DataPath(data).BinariesPath(bin)
	if p.repository != "" {
		cfg = cfg.BinaryRepositoryURL(p.repository)
	}
	fetched := make(chan error, 1)
	go func() { // the library knows no context
		defer os.RemoveAll(tmp)
		err := embeddedpostgres.NewDatabase(cfg).Start()
		if _, missing := os.Stat(filepath.Join(bin, "bin", "postgres")); missing == nil {
			_ = os.RemoveAll(dir)
			err = os.Rename(bin, dir)
		}
		fetched <- err
	}()
	select {
	case err := <-fetched:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// freePort returns a port of 127.0.0.1 that nobody listens on now, and none that clients would try by default. Somebody
// may take it before we do; who starts a server tries again then.
func freePort(ctx context.Context) (int, error) {
	for {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, err
		}
		if port != 5432 && port != 6379 {
			return port, nil
		}
	}
}
