package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"kurir/models"
)

// listedWorker is a worker as list-workers --json prints it.
type listedWorker struct {
	ID            string    `json:"id"`
	Endpoint      string    `json:"endpoint"`
	Status        string    `json:"status"`
	Sessions      int       `json:"sessions"`
	MaxSessions   int       `json:"maxSessions"`
	CPUUsage      float64   `json:"cpuUsage"`
	MemoryUsage   float64   `json:"memoryUsage"`
	Engine        string    `json:"engine"`
	Version       string    `json:"version"`
	LastHeartbeat time.Time `json:"lastHeartbeat"`
	Problem       *string   `json:"problem"`
}

func listed(w *models.WorkerLoad) listedWorker {
	status := strings.ToLower(w.Status)
	if !w.LeaseLive {
		status = "offline"
	}
	return listedWorker{ID: w.ID, Endpoint: w.Endpoint, Status: status, Sessions: w.SessionCount, MaxSessions: w.Room(), CPUUsage: w.CPUUsage, MemoryUsage: w.MemoryUsage,
		Engine: w.Engine, Version: w.Version, LastHeartbeat: w.LastHeartbeat.UTC(), Problem: w.Problem}
}

func (p *program) listWorkers() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: "list-workers", Short: "List the workers with their load", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.withDatabase(func(_ *config, db *models.DB) error {
				rows, err := models.Workers(cmd.Context(), db)
				if err != nil {
					return err
				}
				list := make([]listedWorker, 0, len(rows))
				for i := range rows {
					list = append(list, listed(&rows[i]))
				}
				if asJSON {
					return json.NewEncoder(p.stdout).Encode(list)
				}
				table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
				fmt.Fprintln(table, "WORKER\tSTATUS\tSESSIONS\tCPU %\tMEMORY %\tHEARTBEAT\tENDPOINT\tPROBLEM")
				for _, w := range list {
					problem := ""
					if w.Problem != nil {
						problem = *w.Problem
					}
					fmt.Fprintf(table, "%s\t%s\t%d/%d\t%.0f\t%.0f\t%s\t%s\t%s\n", w.ID, w.Status, w.Sessions, w.MaxSessions, w.CPUUsage, w.MemoryUsage,
						w.LastHeartbeat.Format(time.RFC3339), w.Endpoint, problem)
				}
				return table.Flush()
			})
		}}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func (p *program) drain() *cobra.Command {
	return &cobra.Command{Use: "drain WORKER", Short: "Empty a worker: it gets no new sessions, and a job moves those that it has", Args: exactly("WORKER"),
		Long: `Puts the worker into maintenance and adds the job. Asked for again while that is under way, it is the same job. What becomes of it,
list-workers shows, and GET /api/v1/jobs/ID to administrators. PATCH /api/v1/admin/workers/ID with status online ends it.`,
		Example: "  kurir admin drain worker-001",
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.operate(cmd, models.Audit{Message: "worker.drain_requested", Worker: args[0]}, func(ctx context.Context, _ *config, db *models.DB) error {
				maintenance := true
				var job uuid.UUID
				err := db.InPgxTx(ctx, func(tx pgx.Tx) error {
					ok, err := models.ChangeWorker(ctx, tx, args[0], models.WorkerChange{Maintenance: &maintenance})
					if err != nil {
						return err
					}
					if !ok {
						return fmt.Errorf("there is no worker %s", args[0])
					}
					job, err = models.StartDrain(ctx, tx, args[0], models.MoveDrain, nil)
					models.TrailOf(ctx).Say(func(line *models.Audit) { line.Details = map[string]string{"job": job.String()} })
					return err
				})
				if err == nil {
					fmt.Fprintln(p.stdout, "job", job)
				}
				return err
			})
		}}
}

func (p *program) replayWebhooks() *cobra.Command {
	var session, user, since, until, status string
	c := &cobra.Command{Use: "replay-webhooks (--session ID | --user USER) --since TIME", Short: "Deliver again what a webhook was sent, after its subscriber lost it", Args: exactly(),
		Long: `Adds the job that delivers again, under the same webhook-id and sequence, what was written down in a range of time and has ended.
A webhook has one such job at a time.`,
		Example: "  kurir admin replay-webhooks --session shop --since 6h --status failed\n  kurir admin replay-webhooks --user sari@example.com --since 2026-01-02T00:00:00Z --until 2026-01-03T00:00:00Z",
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now()
			r := models.Replay{Until: now, Status: strings.ToUpper(status)}
			if (session == "") == (user == "") {
				return wrongUsage("expected either --session or --user")
			}
			if r.Status != "" && r.Status != models.DeliveryDelivered && r.Status != models.DeliveryFailed {
				return wrongUsage("--status: expected delivered or failed")
			}
			if since == "" {
				return wrongUsage("expected --since")
			}
			var err error
			if r.Since, err = parseWhen("since", since, now); err != nil {
				return err
			}
			if until != "" {
				if r.Until, err = parseWhen("until", until, now); err != nil {
					return err
				}
			}
			if !r.Since.Before(r.Until) {
				return wrongUsage("--since is not before --until")
			}
			return p.operate(cmd, models.Audit{Message: "webhook.replay_requested", Session: session}, func(ctx context.Context, _ *config, db *models.DB) error {
				return p.replay(ctx, db, session, user, r)
			})
		}}
	c.Flags().StringVar(&session, "session", "", "of the webhook of this session")
	c.Flags().StringVar(&user, "user", "", "of the account's webhook of this user, named by mail address or ID")
	c.Flags().StringVar(&since, "since", "", "from when on: a time, or how long ago")
	c.Flags().StringVar(&until, "until", "", "until when: a time, or how long ago (default: now)")
	c.Flags().StringVar(&status, "status", "", "delivered or failed (default: both)")
	return c
}

// replay adds the job for the webhook of a session or a user.
func (p *program) replay(ctx context.Context, db *models.DB, session, user string, r models.Replay) error {
	var owner models.HookOwner
	if session != "" {
		s, err := models.SessionByName(ctx, db, session)
		if ok, err := models.Found(err); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("there is no session %s", session)
		}
		owner = models.HookOwner{User: s.UserID, Session: s.UID}
		models.TrailOf(ctx).Say(func(line *models.Audit) { line.Target = s.UserID })
	} else {
		u, err := findUser(ctx, db, user)
		if err != nil {
			return err
		}
		owner.User = u.ID
	}
	w, err := models.WebhookOf(ctx, db, owner)
	if ok, err := models.Found(err); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("there is no webhook")
	}
	if !w.IsActive {
		return models.ErrWebhookInactive
	}
	r.WebhookID = w.ID
	job := models.NewID()
	models.TrailOf(ctx).Say(func(line *models.Audit) {
		line.Details = map[string]string{"job": job.String(), "webhook": w.ID.String()}
	})
	if err := db.InTx(ctx, func(ctx context.Context, tx models.Tx) error { return models.AddReplay(ctx, tx, job, w, r) }); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "job", job)
	return nil
}
