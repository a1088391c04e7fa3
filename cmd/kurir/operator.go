package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"

	"kurir/models"
	"kurir/password"
)

// usageError is a command that was not called as it wants to be: main exits with 2.
type usageError struct{ error }

func wrongUsage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exitCode is what the shell hears of an end.
func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		return 2
	}
	return 1
}

// exactly is cobra's check of arguments as an error of usage.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return wrongUsage("expected %d arguments (%s), got %d", len(names), strings.Join(names, ", "), len(args))
		}
		return nil
	}
}

// admin is what an operator does at the command line, beside the API: it needs no running API and no administrator.
func (p *program) admin() *cobra.Command {
	c := &cobra.Command{Use: "admin", Short: "Manage users, workers and webhooks from the command line",
		Long: `Works on DATABASE_URL, so it is for whoever may reach the database, and for when nobody can log in. What starts work (drain,
replay-webhooks) adds a job, which a runner takes up within some seconds. Everything that it changes stands in the audit trail,
by the actor operator.

Passwords are never arguments: they are made and printed once, read from a prompt (--prompt), or from the first line of the
standard input (--password-stdin).

Exit codes: 0 it is done; 1 it failed, the message says why; 2 the command was not called as it should be.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return wrongUsage("there is no command %q: see kurir admin --help", args[0])
			}
			return cmd.Help()
		}}
	c.AddCommand(p.createUser(), p.setTier(), p.resetPassword(), p.listWorkers(), p.drain(), p.replayWebhooks())
	for _, sub := range append(c.Commands(), c) {
		sub.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	}
	return c
}

// operate runs a change on the database: the first transaction of it writes the line.
func (p *program) operate(cmd *cobra.Command, line models.Audit, change func(ctx context.Context, cfg *config, db *models.DB) error) error {
	return p.withDatabase(func(cfg *config, db *models.DB) error {
		line.Service, line.Actor = "cli", models.ActorOperator
		ctx, trail := models.WithTrail(cmd.Context(), line)
		if err := change(ctx, cfg, db); err != nil {
			return err
		}
		if trail.Told() {
			return nil
		}
		return models.WriteAudit(ctx, db.Pool, trail.Line())
	})
}

// findUser finds a user by mail address or ID.
func findUser(ctx context.Context, db *models.DB, who string) (*models.User, error) {
	var u *models.User
	var err error
	if id, wrong := uuid.Parse(who); wrong == nil {
		u, err = models.UserByID(ctx, db, id)
	} else {
		u, err = models.UserByEmail(ctx, db, strings.ToLower(strings.TrimSpace(who)))
	}
	if ok, err := models.Found(err); err != nil {
		return nil, err
	} else if !ok {
		return nil, fmt.Errorf("there is no user %s", who)
	}
	models.TrailOf(ctx).Say(func(line *models.Audit) { line.Target = u.ID })
	return u, nil
}

// passwordSource is where a password comes from.
type passwordSource struct{ prompt, stdin bool }

func (s *passwordSource) flags(c *cobra.Command) {
	c.Flags().BoolVar(&s.prompt, "prompt", false, "ask for the password, twice")
	c.Flags().BoolVar(&s.stdin, "password-stdin", false, "read the password from the first line of the standard input")
}

const longestLine = 1024

// password reads a password for the account of a mail address, or makes one, and returns its hash too. made is false for one that its owner knows.
func (s *passwordSource) password(cmd *cobra.Command, email string, rounds int) (plain string, made bool, hash string, err error) {
	switch {
	case s.prompt && s.stdin:
		return "", false, "", wrongUsage("--prompt and --password-stdin exclude each other")
	case s.prompt:
		plain, err = ask(cmd.ErrOrStderr())
	case s.stdin:
		plain, err = bufio.NewReader(io.LimitReader(cmd.InOrStdin(), longestLine)).ReadString('\n')
		if plain = strings.TrimRight(plain, "\r\n"); plain != "" || errors.Is(err, io.EOF) {
			err = nil
		}
	default:
		plain, made = rand.Text(), true
	}
	if err != nil {
		return "", false, "", fmt.Errorf("read password: %w", err)
	}
	if err := password.Check("password", plain, email); err != nil {
		return "", false, "", err
	}
	raw, err := bcrypt.GenerateFromPassword([]byte(plain), rounds)
	return plain, made, string(raw), err
}

// ask asks for a password at the terminal, without showing it.
func ask(out io.Writer) (string, error) {
	var typed [2]string
	for i, what := range []string{"Password: ", "Once more: "} {
		fmt.Fprint(out, what)
		raw, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(out)
		if err != nil {
			return "", fmt.Errorf("there is no terminal to ask at, use --password-stdin: %w", err)
		}
		typed[i] = string(raw)
	}
	if typed[0] != typed[1] {
		return "", errors.New("the two are not the same")
	}
	return typed[0], nil
}

// parseWhen reads a time, or how long ago it was.
func parseWhen(flag, text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	ago, err := parseDuration(text, time.Second)
	if err != nil || ago < 0 {
		return time.Time{}, wrongUsage("--%s: expected a time such as 2026-01-02T15:04:05Z, or how long ago, such as 90m or 2d", flag)
	}
	return now.Add(-ago), nil
}
