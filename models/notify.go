package models

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"
)

// WatchCredentials calls changed with the user whose keys, sessions or account changed, on any process, as soon as the
// change is committed; and with the zero UUID, for all users, each time that the connection to PostgreSQL was lost and
// changes may have been missed. It returns when ctx ends.
func WatchCredentials(ctx context.Context, db *DB, log *slog.Logger, changed func(user uuid.UUID)) {
	for ctx.Err() == nil {
		err := watch(ctx, db, changed)
		if ctx.Err() != nil {
			return
		}
		changed(uuid.Nil)
		log.Warn("credential changes are not heard, listening again", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func watch(ctx context.Context, db *DB, changed func(user uuid.UUID)) error {
	raw, err := db.connect(ctx)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = raw.Close(end)
	}()
	if _, err := raw.Exec(ctx, "LISTEN kurir_credentials"); err != nil {
		return err
	}
	changed(uuid.Nil) // whatever was read before we listened may be old
	for {
		n, err := raw.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		user, err := uuid.Parse(n.Payload)
		if err != nil {
			user = uuid.Nil
		}
		changed(user)
	}
}
