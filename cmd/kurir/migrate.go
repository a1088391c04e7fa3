package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"kurir/migrations"
	"kurir/models"
)

var errHalfAdministrator = errors.New("ADMIN_EMAIL and ADMIN_PASSWORD: one is set without the other, so no administrator could be made")

func (p *program) migrate() *cobra.Command {
	c := &cobra.Command{Use: "migrate", Short: "Bring the schema up to date and make the first administrator", Args: cobra.NoArgs,
		Long: `Applies what is missing to DATABASE_URL. Several processes may do it at once. With ADMIN_EMAIL and ADMIN_PASSWORD it makes an
administrator, if there is none. Needs DATABASE_URL; where that leads to a pooler, DATABASE_DIRECT_URL too, and gives the pooler's role
the settings that its connections cannot bring along.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(func(cfg *config, db *models.DB) error {
				if (cfg.AdminEmail == "") != (cfg.AdminPassword == "") {
					return errHalfAdministrator
				}
				applied, err := migrations.Up(cmd.Context(), db.DB)
				for _, name := range applied {
					fmt.Fprintln(p.stdout, "applied", name)
				}
				if err != nil {
					return err
				}
				if len(applied) == 0 {
					fmt.Fprintln(p.stdout, "the schema is up to date")
				}
				if err := p.setForPooler(cmd.Context(), cfg); err != nil {
					return err
				}
				if cfg.AdminEmail == "" {
					return nil
				}
				made, err := makeAdministrator(cmd.Context(), db, cfg, cfg.AdminPassword)
				if made {
					fmt.Fprintln(p.stdout, "made the administrator", cfg.AdminEmail)
				}
				return err
			})
		}}
	c.AddCommand(&cobra.Command{Use: "status", Short: "List the migrations", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return p.withDatabase(func(_ *config, db *models.DB) error {
			states, err := migrations.Status(cmd.Context(), db.DB)
			for _, s := range states {
				fmt.Fprintf(p.stdout, "%-8s %s\n", map[bool]string{true: "applied", false: "missing"}[s.Applied], s.Name)
			}
			return err
		})
	}}, p.migrateWait(), p.migrateDown())
	return c
}

var errNotSure = usageError{errors.New("nothing was changed. What these migrations made would be dropped, with all its data; --yes does it")}

func (p *program) migrateDown() *cobra.Command {
	var sure bool
	c := &cobra.Command{Use: "down", Short: "Take back what the last migrate applied: its tables are dropped, with their data", Args: cobra.NoArgs,
		Long: `Takes back all migrations that the last run of kurir migrate applied, together: of an installation that was never upgraded these are
all, and nothing is left. Without --yes it only lists them. Make a backup, and stop all processes, before.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(func(_ *config, db *models.DB) error {
				act, word := migrations.Down, "took back"
				if !sure {
					act, word = migrations.Last, "would take back"
				}
				names, err := act(cmd.Context(), db.DB)
				for _, name := range names {
					fmt.Fprintln(p.stdout, word, name)
				}
				if err == nil && len(names) == 0 {
					fmt.Fprintln(p.stdout, "there is nothing to take back")
				}
				if err == nil && len(names) > 0 && !sure {
					return errNotSure
				}
				return err
			})
		}}
	c.Flags().BoolVar(&sure, "yes", false, "do it")
	return c
}
