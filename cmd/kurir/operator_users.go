package main

import (
	"context"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"kurir/limits"
	"kurir/models"
)

func (p *program) createUser() *cobra.Command {
	var name, tier, role string
	var source passwordSource
	c := &cobra.Command{Use: "create-user EMAIL", Short: "Open an account for somebody, an administrator too", Args: exactly("EMAIL"),
		Example: "  kurir admin create-user sari@example.com --tier pro\n  kurir admin create-user ops@example.com --role administrator --password-stdin < secret.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			email := strings.ToLower(strings.TrimSpace(args[0]))
			if at, err := mail.ParseAddress(email); err != nil || at.Address != email {
				return wrongUsage("EMAIL: expected a mail address")
			}
			parsed, err := limits.ParseTier(tier)
			if err != nil {
				return wrongUsage("--tier: expected basic, pro or max")
			}
			if role != "user" && role != "administrator" {
				return wrongUsage("--role: expected user or administrator")
			}
			if name == "" {
				name = models.DefaultName(email)
			}
			return p.operate(cmd, models.Audit{Message: "user.created", Details: map[string]string{"tier": tier, "role": role}}, func(ctx context.Context, cfg *config, db *models.DB) error {
				plain, made, hash, err := source.password(cmd, email, cfg.BcryptRounds)
				if err != nil {
					return err
				}
				now := time.Now()
				u := &models.User{ID: models.NewID(), Name: name, Email: email, PasswordHash: hash, Role: strings.ToUpper(role), Tier: string(parsed), IsActive: true,
					TokenVersion: 1, CreatedAt: now, UpdatedAt: now, EmailVerifiedAt: &now}
				models.TrailOf(ctx).Say(func(line *models.Audit) { line.Target = u.ID })
				err = db.InTx(ctx, func(ctx context.Context, tx models.Tx) error { return models.InsertUser(ctx, tx, u) })
				if models.IsUnique(err, "users_email_key") {
					return fmt.Errorf("there is a user %s already", email)
				}
				if err != nil {
					return err
				}
				fmt.Fprintln(p.stdout, "created", u.ID, email, strings.ToLower(tier), role)
				p.show(plain, made)
				return nil
			})
		}}
	c.Flags().StringVar(&name, "name", "", "what to call him (default: the mail address up to its @)")
	c.Flags().StringVar(&tier, "tier", "basic", "basic, pro or max")
	c.Flags().StringVar(&role, "role", "user", "user or administrator")
	source.flags(c)
	return c
}

// show prints a password that nobody knows yet.
func (p *program) show(plain string, made bool) {
	if made {
		fmt.Fprintln(p.stdout, "password", plain)
	}
}

func (p *program) setTier() *cobra.Command {
	return &cobra.Command{Use: "set-tier USER TIER", Short: "Change the tier of a user, named by mail address or ID", Args: exactly("USER", "TIER"),
		Long:    "Sessions beyond a lower tier stay; new ones are refused.",
		Example: "  kurir admin set-tier sari@example.com max",
		RunE: func(cmd *cobra.Command, args []string) error {
			parsed, err := limits.ParseTier(args[1])
			if err != nil {
				return wrongUsage("TIER: expected basic, pro or max")
			}
			tier := string(parsed)
			return p.operate(cmd, models.Audit{Message: "user.changed", Details: map[string]string{"tier": strings.ToLower(tier)}}, func(ctx context.Context, _ *config, db *models.DB) error {
				u, err := findUser(ctx, db, args[0])
				if err != nil {
					return err
				}
				if err := db.InPgxTx(ctx, func(tx pgx.Tx) error { return models.ChangeUser(ctx, tx, u.ID, models.UserChange{Tier: &tier}) }); err != nil {
					return err
				}
				fmt.Fprintln(p.stdout, u.Email, "had the tier", strings.ToLower(u.Tier), "and has", strings.ToLower(tier))
				return nil
			})
		}}
}

func (p *program) resetPassword() *cobra.Command {
	var source passwordSource
	c := &cobra.Command{Use: "reset-password USER", Short: "Give a user another password, named by mail address or ID", Args: exactly("USER"),
		Long:    "All his tokens end. His API keys go on.",
		Example: "  kurir admin reset-password ops@example.com --prompt",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd, models.Audit{Message: "user.password_reset"}, func(ctx context.Context, cfg *config, db *models.DB) error {
				u, err := findUser(ctx, db, args[0])
				if err != nil {
					return err
				}
				plain, made, hash, err := source.password(cmd, u.Email, cfg.BcryptRounds)
				if err != nil {
					return err
				}
				if err := db.InPgxTx(ctx, func(tx pgx.Tx) error { return models.GivePassword(ctx, tx, u.ID, hash) }); err != nil {
					return err
				}
				fmt.Fprintln(p.stdout, u.Email, "has another password")
				p.show(plain, made)
				return nil
			})
		}}
	source.flags(c)
	return c
}
