package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"kurir/migrations"
	"kurir/models"
)

// schemaEvery is how often the schema is looked at.
const schemaEvery = time.Second

// migrateWait keeps what comes after it from starting on a schema that is older than this binary, whoever migrates it.
func (p *program) migrateWait() *cobra.Command {
	var patience time.Duration
	c := &cobra.Command{Use: "wait", Short: "Wait until nothing is missing", Args: cobra.NoArgs,
		Long: `Changes nothing, and ends when all migrations of this version are applied to DATABASE_URL, whoever applies them. A database that does
not answer is waited for too. Fails when --for is over.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(func(cfg *config, db *models.DB) error {
				ctx, cancel := context.WithTimeout(cmd.Context(), patience)
				defer cancel()
				err := p.awaitSchema(ctx, cfg, db)
				if errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("the schema is not up to date after %s", patience)
				}
				return err
			})
		}}
	c.Flags().DurationVar(&patience, "for", 15*time.Minute, "how long")
	return c
}

// awaitSchema says what it waits for, each thing once, and fails with its context only.
func (p *program) awaitSchema(ctx context.Context, cfg *config, db *models.DB) error {
	said := ""
	for {
		why := schemaLacks(ctx, cfg, db)
		if why == "" {
			fmt.Fprintln(p.stdout, "the schema is up to date")
			return nil
		}
		if why != said && ctx.Err() == nil {
			fmt.Fprintln(p.stdout, "waiting:", why)
			said = why
		}
		select {
		case <-time.After(schemaEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// schemaLacks says what is in the way, or nothing.
func schemaLacks(ctx context.Context, cfg *config, db *models.DB) string {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	missing, _, err := migrations.Compare(ctx, db.DB)
	switch {
	case err != nil:
		return cfg.scrub(err.Error())
	case len(missing) > 0:
		return fmt.Sprintf("%d migrations are not applied, from %s on", len(missing), missing[0])
	}
	return ""
}
