package models

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/pacing"
)

// Settings are the choices of a session's owner. What is absent is as its engine has it by default.
type Settings struct {
	Paused bool             `json:"paused,omitempty" doc:"true: nothing is sent; messages are accepted and wait"`
	Pacing *pacing.Settings `json:"pacing,omitempty"`
	Calls  *CallSettings    `json:"calls,omitempty"`
}

// RejectsCalls says whether a session has its calls refused.
func (s *Session) RejectsCalls() bool {
	return s.Settings != nil && s.Settings.Calls != nil && s.Settings.Calls.Reject
}

// SessionChange is what an owner wants to be different. Nil leaves as it is.
type SessionChange struct {
	Name     *string
	Metadata *json.RawMessage // "null" removes it
	Settings json.RawMessage  // merged into what is there: null resets a part, or with "null" all
	Proxy    *[]byte          // sealed; empty removes it
}

// UpdateSession changes a session. What it held up may go on, so its lane is due and the caller wakes it.
func UpdateSession(ctx context.Context, db *DB, uid uuid.UUID, c SessionChange) error {
	return db.InPgxTx(ctx, func(tx pgx.Tx) error {
		var former []byte
		err := tx.QueryRow(ctx, `SELECT settings FROM sessions WHERE uid = $1 AND deleted_at IS NULL FOR NO KEY UPDATE`, uid).Scan(&former)
		if ok, err := Found(err); err != nil {
			return err
		} else if !ok {
			return ErrGone
		}
		if c.Name != nil {
			if _, err := tx.Exec(ctx, `UPDATE sessions SET name = $2, updated_at = now() WHERE uid = $1`, uid, *c.Name); err != nil {
				return err
			}
		}
		if c.Metadata != nil {
			if _, err := tx.Exec(ctx, `UPDATE sessions SET metadata = nullif($2::jsonb, 'null'), updated_at = now() WHERE uid = $1`, uid, string(*c.Metadata)); err != nil {
				return err
			}
		}
		if c.Proxy != nil { // it counts as not confirmed, so that the session is created again where it is, with this one
			if _, err := tx.Exec(ctx, `UPDATE sessions SET proxy = nullif($2::bytea, ''), held_term = 0, held_at = NULL, updated_at = now() WHERE uid = $1`, uid, *c.Proxy); err != nil {
				return err
			}
		}
		if c.Settings == nil {
			return nil
		}
		next, err := mergeSettings(former, c.Settings)
		if err != nil {
			return err
		}
		// A pace that the former settings set, of a minute per message for example, must not hold up the first message under the
		// new ones. How far the caps are used stands.
		if _, err := tx.Exec(ctx, `UPDATE sessions SET settings = $2, updated_at = now() WHERE uid = $1`, uid, next); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE paces SET next_send_at = NULL, new_chat_at = NULL WHERE session_uid = $1`, uid); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE lanes SET next_due_at = now() WHERE id = $1`, uid)
		return err
	})
}

// mergeSettings applies a JSON merge patch (RFC 7396) to stored settings and checks the result. Nil is "all by default".
func mergeSettings(former, patch []byte) ([]byte, error) {
	var have, change any
	if len(former) > 0 {
		if err := json.Unmarshal(former, &have); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(patch, &change); err != nil {
		return nil, fault.Field("settings", "expected an object")
	}
	merged, _ := merge(have, change).(map[string]any)
	if len(merged) == 0 {
		return nil, nil
	}
	body, err := json.Marshal(merged)
	if err != nil {
		return nil, err
	}
	s, err := readSettings(body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(s)
}

func readSettings(body []byte) (s Settings, err error) {
	strict := json.NewDecoder(bytes.NewReader(body))
	strict.DisallowUnknownFields()
	if err := strict.Decode(&s); err != nil {
		return s, fault.Field("settings", "expected paused, pacing and calls with their fields")
	}
	if err := s.Calls.Check(); err != nil {
		return s, err
	}
	if s.Pacing == nil {
		return s, nil
	}
	var wrong *pacing.FieldError
	if errors.As(s.Pacing.Check(), &wrong) {
		return s, fault.Field("settings.pacing."+wrong.Field, wrong.Message)
	}
	return s, nil
}

// merge is RFC 7396.
func merge(have, change any) any {
	patch, ok := change.(map[string]any)
	if !ok {
		return change
	}
	target, ok := have.(map[string]any)
	if !ok {
		target = map[string]any{}
	}
	for key, value := range patch {
		if value == nil {
			delete(target, key)
		} else {
			target[key] = merge(target[key], value)
		}
	}
	return target
}

// Pace is the session's pace in effect.
func (s *Session) Pace() pacing.Pace { return paceOf(s.Engine, s.Settings) }

func paceOf(engine string, s *Settings) pacing.Pace {
	if s == nil {
		return pacing.Of(engine, nil)
	}
	return pacing.Of(engine, s.Pacing)
}

// Paused reports whether the owner stopped sending.
func (s *Session) Paused() bool { return s.Settings != nil && s.Settings.Paused }

// CoolingDown reports whether the network asked the session for a pause that is not over.
func (s *Session) CoolingDown(now time.Time) bool {
	return s.CooldownUntil != nil && s.CooldownUntil.After(now)
}
