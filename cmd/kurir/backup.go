package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kurir/backup"
	"kurir/models"
)

// where is the database of DATABASE_URL for programs that work on it from outside.
func (p *program) where(cfg *config) backup.Where {
	path := ""
	for _, line := range p.environ {
		if value, ok := strings.CutPrefix(line, "PATH="); ok {
			path = value
		}
	}
	return backup.Where{URL: cfg.directURL(), Environ: p.environ, Tools: backup.StandardTools(path)}
}

func (p *program) backup() *cobra.Command {
	var to string
	c := &cobra.Command{Use: "backup --to FILE", Short: "Write the database into a file, while everything runs", Args: exactly(),
		Long: `Writes what Kurir and kurir-whatsapp keep in DATABASE_URL, as it is at one moment, by pg_dump, which has to be installed in the server's version or a later one.
Processes go on meanwhile. The file is for its owner only, and appears under its name when it is whole. --to - writes to the
standard output.

It holds messages and accounts in clear: keep it like the database. Not in it are media (MEDIA_URL), which are to be copied after it,
and the secrets of the environment: without the ENCRYPTION_KEY of its time nothing starts on it. See docs/backup.md.

Exit codes: 0 it is done; 1 it failed, and there is no file; 2 the command was not called as it should be.`,
		Example: "  kurir backup --to /var/backups/kurir.backup\n  kurir backup --to - | age -r age1… > kurir.backup.age",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return wrongUsage("expected --to, a file's name, or - for the standard output")
			}
			if out, ok := p.stdout.(*os.File); ok && to == "-" && term.IsTerminal(int(out.Fd())) {
				return wrongUsage("a backup is nothing to read: send the standard output to a file or a program")
			}
			return p.withDatabase(func(cfg *config, db *models.DB) error { return p.writeBackup(cmd, cfg, db, to) })
		}}
	c.Flags().StringVar(&to, "to", "", "the file, or - for the standard output")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return c
}

func (p *program) writeBackup(cmd *cobra.Command, cfg *config, db *models.DB, to string) (err error) {
	var stamp backup.Stamp
	size := &counter{}
	write := func(out io.Writer) (err error) {
		stamp, err = backup.Dump(cmd.Context(), db, p.where(cfg), version, io.MultiWriter(out, size))
		return err
	}
	if to == "-" {
		err = write(p.stdout)
	} else {
		err = backup.ToFile(to, write)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "%d bytes: the database as it was at %s, schema %s, of PostgreSQL %d\n", size.n, stamp.TakenAt.Format(time.RFC3339), stamp.Schema, stamp.Postgres/10000)
	return nil
}

// counter counts what is written.
type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

func (p *program) restore() *cobra.Command {
	var from string
	var recovered bool
	var o backup.Options
	c := &cobra.Command{Use: "restore (--from FILE | --recovered)", Short: "Bring a backup back, and make it fit to go on", Args: exactly(),
		Long: `Brings a file of kurir backup back into DATABASE_URL, a database that exists and is empty, by pg_restore and psql, in one
transaction: if it fails, or is broken off, nothing has changed. With --replace, what is in the way is dropped in that
transaction too. --from - reads the standard input. It holds what Kurir keeps, and the schemas in which kurir-whatsapp keeps what
phones were linked with; other schemas stay as they are.

Stop all processes before, kurir-whatsapp too: those that work on DATABASE_URL are looked for, and those of the installation that was lost have to be
stopped by you. Empty Redis, run kurir migrate, and start them again afterwards.

Numbers that others remember are raised, so that none is given out twice: workers' terms, sessions' epochs, lanes' generations,
the sequences of webhooks, which jump. All users have to log in again; API keys that were ended since the backup are good again. What
was waiting to be sent may have been sent since: it goes out again under the same WhatsApp ID, by which phones know it. With --hold
nothing is sent until POST /api/v1/admin/platform/resume.

--recovered does that, and nothing else, for a database that was put back by other means: recovery to a point in time, a snapshot of
its disk, a replica that lacked the last transactions. See docs/backup.md.

Exit codes: 0 it is done; 1 it failed, the message says whether anything has changed; 2 the command was not called as it
should be, or needs --replace.`,
		Example: "  kurir restore --from /var/backups/kurir.backup\n  age -d -i key.txt kurir.backup.age | kurir restore --from - --hold",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case recovered == (from != ""):
				return wrongUsage("expected either --from, a file's name or - for the standard input, or --recovered")
			case recovered && o.Replace:
				return wrongUsage("--replace goes with --from")
			}
			return p.withDatabase(func(cfg *config, db *models.DB) error {
				err := p.bringBack(cmd, cfg, db, from, o)
				var full *backup.NotEmptyError
				if errors.As(err, &full) {
					return usageError{err}
				}
				return err
			})
		}}
	c.Flags().StringVar(&from, "from", "", "the file, or - for the standard input")
	c.Flags().BoolVar(&o.Replace, "replace", false, "drop what the database holds")
	c.Flags().BoolVar(&o.Hold, "hold", false, "send nothing until an administrator resumes the platform")
	c.Flags().BoolVar(&recovered, "recovered", false, "the database was put back already, by PostgreSQL's own means")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return c
}

func (p *program) bringBack(cmd *cobra.Command, cfg *config, db *models.DB, from string, o backup.Options) error {
	ctx := cmd.Context()
	var stamp backup.Stamp
	var recovery models.Recovery
	var err error
	switch from {
	case "":
		recovery, err = recoverDatabase(ctx, db, o)
	case "-":
		stamp, recovery, err = backup.Restore(ctx, db, p.where(cfg), cmd.InOrStdin(), o)
	default:
		var file *os.File
		if file, err = os.Open(from); err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		stamp, recovery, err = backup.Restore(ctx, db, p.where(cfg), file, o)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "The database is as it was at %s. Numbers that others remember were raised by %d.\n", recovery.From.UTC().Format(time.RFC3339), recovery.Margin())
	if i, err := models.InventoryOf(ctx, db.Pool); err == nil { // an older schema may not be counted so
		fmt.Fprintf(p.stdout, "It has %d users, %d sessions and %d messages that wait.\n", i.Users, i.Sessions, i.Waiting)
	}
	p.sayCredentials(stamp)
	p.sayKeys(ctx, cfg, db)
	fmt.Fprintln(p.stdout, "Now: empty Redis (redis-cli FLUSHDB), run kurir migrate, and start the processes.")
	if o.Hold {
		fmt.Fprintln(p.stdout, "Nothing is sent until an administrator says so: POST /api/v1/admin/platform/resume")
	}
	return nil
}

// recoverDatabase is Restore of what is there already.
func recoverDatabase(ctx context.Context, db *models.DB, o backup.Options) (models.Recovery, error) {
	if err := backup.Quiet(ctx, db); err != nil {
		return models.Recovery{}, err
	}
	recovery, err := models.Recover(ctx, db, models.Recovery{Hold: o.Hold, How: "recovered"})
	if err != nil {
		return recovery, err
	}
	return recovery, backup.AwaitLeases(ctx, db)
}

// sayCredentials tells what of linked phones is back.
func (p *program) sayCredentials(s backup.Stamp) {
	for _, c := range s.Credentials {
		fmt.Fprintf(p.stdout, "What phones were linked with is back in the schema %s.\n", c.Schema)
		if c.Owner == "" {
			fmt.Fprintf(p.stdout, "WARNING: the user to whom %s belonged does not exist here. If kurir-whatsapp has one of its own, make it and bring the backup back once more, with --replace.\n", c.Schema)
		}
	}
}

// sayKeys tells whether ENCRYPTION_KEY, where it is set, opens what the database holds.
func (p *program) sayKeys(ctx context.Context, cfg *config, db *models.DB) {
	if cfg.EncryptionKey == "" || cfg.checkSecrets() != nil {
		fmt.Fprintln(p.stdout, "Start with the ENCRYPTION_KEY of that time.")
		return
	}
	vault, err := models.NewVault(cfg.encryptionKeys...)
	if err == nil {
		err = models.CheckEncryption(ctx, db, vault)
	}
	if err != nil {
		fmt.Fprintln(p.stdout, "WARNING:", err)
	}
}
