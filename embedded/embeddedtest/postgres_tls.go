package embeddedtest

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// UseTLS has the server offer TLS with a certificate, over restarts too.
func (h *PostgresHandle) UseTLS(cert, key string) {
	h.t.Helper()
	data := filepath.Join(h.cfg.Home, "postgres")
	for from, name := range map[string]string{cert: "server.crt", key: "server.key"} {
		if err := replace(from, filepath.Join(data, name), data); err != nil {
			h.t.Fatalf("TLS of PostgreSQL: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, h.URL())
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range []string{"ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			h.t.Fatalf("%s: %v", sql, err)
		}
	}
	required := h.url
	required.RawQuery = "sslmode=require"
	await(h.t, "PostgreSQL speaks TLS", nil, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, required.String())
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// replace copies a file over another one, which then belongs to the owner of a folder.
func replace(from, to, folder string) error {
	if err := os.Remove(to); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := copyFile(from, to); err != nil {
		return err
	}
	st, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && os.Getuid() == 0 {
		return os.Chown(to, int(sys.Uid), int(sys.Gid))
	}
	return nil
}
