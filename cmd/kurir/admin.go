package main

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"kurir/limits"
	"kurir/models"
	"kurir/password"
)

// makeAdministrator makes the first administrator. It says whether it did: where there is one, it changes nothing.
func makeAdministrator(ctx context.Context, db *models.DB, cfg *config, plain string) (bool, error) {
	if err := password.Check("ADMIN_PASSWORD", plain, strings.ToLower(cfg.AdminEmail)); err != nil {
		return false, err
	}
	there, err := models.HasAdministrator(ctx, db)
	if err != nil || there {
		return false, err
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(plain), cfg.BcryptRounds)
	if err != nil {
		return false, err
	}
	now := time.Now()
	email := strings.ToLower(cfg.AdminEmail)
	u := &models.User{ID: models.NewID(), Name: "Administrator", Email: email, PasswordHash: string(hash),
		Role: models.RoleAdministrator, Tier: string(limits.Max), IsActive: true, TokenVersion: 1, CreatedAt: now, UpdatedAt: now}
	told, _ := models.WithTrail(ctx, models.Audit{Service: "cli", Actor: models.ActorOperator, Message: "user.created", Target: u.ID,
		Details: map[string]string{"tier": strings.ToLower(u.Tier), "role": strings.ToLower(u.Role)}})
	err = db.InTx(told, func(ctx context.Context, tx models.Tx) error { return models.InsertUser(ctx, tx, u) })
	if models.IsUnique(err, "users_email_key") {
		if there, err := models.HasAdministrator(ctx, db); there || err != nil {
			return false, err // another process was quicker
		}
		return false, fmt.Errorf("there is a user %s already who is no administrator: choose another ADMIN_EMAIL", email)
	}
	return err == nil, err
}

// redacted is the configuration as it may be logged.
func (c *config) redacted() slog.Value {
	var attrs []slog.Attr
	v, t := reflect.ValueOf(*c), reflect.TypeFor[config]()
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("env")
		if name == "" {
			continue
		}
		var value any = v.Field(i).Interface()
		if t.Field(i).Tag.Get("secret") != "" {
			value = map[bool]string{true: "(not set)", false: "(secret)"}[v.Field(i).IsZero()]
		}
		switch d := value.(type) {
		case duration:
			value = time.Duration(d).String()
		case millis:
			value = time.Duration(d).String()
		}
		attrs = append(attrs, slog.Any(name, value))
	}
	return slog.GroupValue(attrs...)
}
