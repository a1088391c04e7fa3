package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"kurir/worker/whatsapp"
)

func (p *program) adopt() *cobra.Command {
	var i whatsapp.Import
	c := &cobra.Command{Use: "import", Short: "Adopt a linked device of another gateway on whatsmeow, without a new scan", Args: cobra.NoArgs,
		Long: `Copies a device, with its keys, from the store of another program on whatsmeow (wuzapi, gowa and others), and makes it a session's.
IMPORT_DATABASE_URL says where that is: a PostgreSQL, postgres://…, or a SQLite file, file:/srv/wuzapi/main.db or its mere path.

  1. STOP the other program. It must never run again with this device: two who use one device's keys break them.
  2. Create a session in Kurir, and wait until it shows a QR code.
  3. kurir-whatsapp import --session <uid>    not needed if one session waits; else the command lists those that do
  4. POST /sessions/{id}/restart

After "make run-whatsapp" the program is ./bin/kurir-whatsapp; ". .kurir/kurir.env" tells it where Kurir's database is. Both must have the same version of whatsmeow's tables. A SQLite file is only read; a file of its name and -wal beside it belongs to it, so copy
both. One that a running program is seen to have open is refused; not every one is seen.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := parse(p.environ)
			if err != nil {
				return fmt.Errorf("the configuration is not right:\n%w", err)
			}
			if i.From = cfg.ImportFrom; i.From == "" || cfg.database() == "" {
				return errors.New("IMPORT_DATABASE_URL and WHATSAPP_DATABASE_URL must be set: from where, and to where")
			}
			log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			engine, err := whatsapp.New(cmd.Context(), whatsapp.Config{DatabaseURL: cfg.database(), Schema: cfg.Schema, Conns: 2, Logger: log})
			if err != nil {
				return err
			}
			jid, err := engine.Adopt(cmd.Context(), i)
			if err == nil {
				fmt.Fprintln(p.stdout, "The device", jid, "is the session's now. Restart the session: POST /sessions/{id}/restart")
			}
			return errors.Join(err, engine.Close())
		}}
	c.Flags().StringVar(&i.Schema, "schema", "public", "of the other program's tables, in PostgreSQL")
	c.Flags().StringVar(&i.Device, "device", "", "JID of the device, where there are several")
	c.Flags().StringVar(&i.Session, "session", "", "uid of the session, where several have no device")
	return c
}
