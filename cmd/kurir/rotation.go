package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"kurir/models"
)

// several reads a variable that may hold more than one secret: the first is used, the others are still accepted.
func several(value string) []string {
	parts := strings.Split(value, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

func asBytes(texts []string) (list [][]byte) {
	for _, text := range texts {
		list = append(list, []byte(text))
	}
	return list
}

func encryptionKeys(value string) (keys [][]byte, err error) {
	for _, text := range several(value) {
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != 32 {
			return nil, errors.New("ENCRYPTION_KEY must be 32 bytes in base64, or several of them with commas, for example from: openssl rand -base64 32")
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// connectionName tells, of each connection to PostgreSQL, whose it is and which key seals there: kurir rotate-encryption-key looks for those of
// another one.
func connectionName(command string, vault *models.Vault) string {
	return "kurir " + command + " key " + vault.KeyIDs()[0]
}

// keysTimeout is how long a start waits for the database to say whether ENCRYPTION_KEY is right.
const keysTimeout = 2 * time.Second

// whileKeysFit runs a process whose ENCRYPTION_KEY opens what the database holds, and ends one whose key does not. A database that is
// down holds up no start: it is asked as soon as it answers.
func (p *parts) whileKeysFit(ctx context.Context, run func(ctx context.Context) error) error {
	call, cancel := context.WithTimeout(ctx, keysTimeout)
	err := models.CheckEncryption(call, p.db, p.vault)
	cancel()
	var wrong *models.WrongKeyError
	switch {
	case errors.As(err, &wrong), models.Advice(err) != "":
		return err
	case err == nil:
		if err := p.checkPooler(ctx); err != nil {
			return err
		}
		return run(ctx)
	}
	p.log.Warn("the database does not say yet whether ENCRYPTION_KEY is right", "error", err)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	checked := make(chan error, 1)
	go func() {
		err := models.AwaitEncryption(ctx, p.db, p.vault)
		if err != nil {
			stop()
		}
		checked <- err
	}()
	err = run(ctx)
	stop()
	return errors.Join(<-checked, err)
}

// resealBatch is how many rows are read at once.
const resealBatch = 200

func (p *program) rotateEncryptionKey() *cobra.Command {
	return &cobra.Command{Use: "rotate-encryption-key", Short: "Encrypt everything anew under the first key of ENCRYPTION_KEY", Args: cobra.NoArgs,
		Long: `For changing ENCRYPTION_KEY while everything runs. It may hold several keys with commas between them: the first encrypts, all decrypt.

  1. Start all processes with ENCRYPTION_KEY=old,new
  2. Start all processes with ENCRYPTION_KEY=new,old
  3. kurir rotate-encryption-key, with the same
  4. Start all processes with ENCRYPTION_KEY=new

This command encrypts what is in the database anew, some rows at a time, and says whether the other keys may go. It may be broken
off, and repeated as often as you like. Needs DATABASE_URL and ENCRYPTION_KEY. See docs/keys.md.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := readConfig(p.environ)
			if err == nil {
				err = cfg.needSecrets("ENCRYPTION_KEY")
			}
			if err != nil {
				return fmt.Errorf("the configuration is not right:\n%w", err)
			}
			if cfg.DatabaseURL == "" {
				return errNoDatabase
			}
			vault, err := models.NewVault(cfg.encryptionKeys...)
			if err != nil {
				return err
			}
			db, err := models.OpenAs(connectionName(cmd.Name(), vault), cfg.directURL(), 2)
			if err != nil {
				return err
			}
			defer func() { _ = db.Close() }()
			return reseal(cmd.Context(), db, vault, p.stdout)
		}}
}

// reseal seals everything anew under the first key and says what is left to do.
func reseal(ctx context.Context, db *models.DB, vault *models.Vault, out io.Writer) error {
	if err := models.CheckEncryption(ctx, db, vault); err != nil {
		return err
	}
	ids := vault.KeyIDs()
	for _, column := range models.SealedColumns() {
		var all models.Resealed
		for after := uuid.Nil; ; {
			r, last, err := vault.Reseal(ctx, db, column, after, resealBatch)
			if err != nil {
				return fmt.Errorf("%s.%s, behind %s: %w", column.Table, column.Column, after, err)
			}
			all.Changed, all.Unopened = all.Changed+r.Changed, all.Unopened+r.Unopened
			if after = last; last == uuid.Nil {
				break
			}
		}
		fmt.Fprintf(out, "%s.%s: %d encrypted anew under the key %s\n", column.Table, column.Column, all.Changed, ids[0])
		if all.Unopened > 0 {
			fmt.Fprintf(out, "%s.%s: %d can be decrypted with none of the keys\n", column.Table, column.Column, all.Unopened)
		}
	}
	left, err := vault.StillUsing(ctx, db)
	if err != nil {
		return err
	}
	if left.None() {
		if err := vault.ForgetOldKeys(ctx, db); err != nil {
			return err
		}
		fmt.Fprintln(out, "Everything is encrypted under the key", ids[0]+".")
		if len(ids) > 1 {
			fmt.Fprintln(out, "ENCRYPTION_KEY may be given without the others now:", strings.Join(ids[1:], ", "))
		}
		return nil
	}
	return stillNeeded(left)
}

// stillNeeded says what has to happen before the other keys may go.
func stillNeeded(left models.StillUsed) error {
	var faults []error
	if left.Values > 0 {
		faults = append(faults, fmt.Errorf("%d values are not encrypted under the first key: run this again, or give the key that they need", left.Values))
	}
	if len(left.Processes) > 0 {
		faults = append(faults, fmt.Errorf("processes still encrypt under another key, start them with the new one first: %s", strings.Join(left.Processes, ", ")))
	}
	if len(left.Workers) > 0 {
		faults = append(faults, fmt.Errorf("workers have a secret of another key until they are started anew: %s", strings.Join(left.Workers, ", ")))
	}
	return fmt.Errorf("the other keys are still needed:\n%w", errors.Join(faults...))
}
