package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// tenant is an account of the highest tier, whose limits an administrator has raised: it is counted as all are, and refused
// nothing.
type tenant struct{ id, key string }

// session is one of a tenant's.
type session struct {
	key string // the account's API key
	id  string
	uid string
}

const (
	sessionsOfTenant = 20
	generous         = 1_000_000_000
	together         = 8 // calls at once while things are made
)

func (r *rig) openAccounts(ctx context.Context, sessions int) error {
	var login struct{ Token string }
	if err := call(ctx, http.MethodPost, r.api+"/api/v1/auth/login", "", map[string]any{"email": adminEmail, "password": adminPassword}, &login); err != nil {
		return err
	}
	r.admin = bearer + login.Token
	r.tenants = make([]tenant, (sessions+sessionsOfTenant-1)/sessionsOfTenant)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for i := range r.tenants {
		group.Go(func() (err error) {
			r.tenants[i], err = r.openAccount(ctx, i)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	r.phones = make([]session, sessions)
	for i := range r.phones {
		r.phones[i] = session{key: r.tenants[i%len(r.tenants)].key, id: fmt.Sprintf("bench-%04d", i)}
	}
	return nil
}

func (r *rig) openAccount(ctx context.Context, i int) (tenant, error) {
	var made struct {
		User   struct{ ID string }
		APIKey string
	}
	err := call(ctx, http.MethodPost, r.api+"/api/v1/auth/register", "", map[string]any{"email": fmt.Sprintf("tenant%d@example.com", i), "password": adminPassword}, &made)
	if err != nil {
		return tenant{}, err
	}
	change := map[string]any{"tier": "max", "limits": map[string]any{"sessions": generous, "messagesPerHour": generous}}
	return tenant{made.User.ID, made.APIKey}, call(ctx, http.MethodPatch, r.api+"/api/v1/admin/users/"+made.User.ID, r.admin, change, nil)
}

// link makes the sessions and waits until all are connected.
func (r *rig) link(ctx context.Context) error {
	group, making := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for _, s := range r.phones {
		group.Go(func() error {
			return call(making, http.MethodPost, r.api+"/api/v1/sessions", s.key, map[string]any{"name": s.id, "sessionId": s.id}, nil)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := eventually(ctx, 5*time.Minute, "all sessions are connected", func() (bool, string) {
		n, err := r.scalar(ctx, `SELECT count(*) FROM sessions WHERE status = 'CONNECTED'`)
		return int(n) == len(r.phones), fmt.Sprint(n, err)
	}); err != nil {
		return err
	}
	for i := range r.phones {
		if err := r.db.Pool.QueryRow(ctx, `SELECT uid::text FROM sessions WHERE id = $1`, r.phones[i].id).Scan(&r.phones[i].uid); err != nil {
			return err
		}
	}
	return nil
}
