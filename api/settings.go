package api

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kurir/fault"
	"kurir/models"
	"kurir/pacing"
)

// SettingsInUse are a session's settings as they hold: its owner's choices, and the defaults of its engine.
type SettingsInUse struct {
	Paused bool            `json:"paused" doc:"Nothing is sent; messages are accepted and wait"`
	Pacing pacing.Settings `json:"pacing"`
	Calls  CallsInUse      `json:"calls"`
}

// CallsInUse say what is done with calls.
type CallsInUse struct {
	Reject  bool   `json:"reject" doc:"Every call is refused"`
	Message string `json:"message" doc:"What whoever called gets then; empty: nothing" example:"Please write to us."`
}

func settingsInUse(s *models.Session) SettingsInUse {
	p := s.Pace()
	in := SettingsInUse{Paused: s.Paused(), Pacing: pacing.Settings{MessagesPerMinute: &p.Rate, JitterMs: &p.Jitter, Typing: &p.Typing,
		NewChatsPerHour: &p.NewPerHour, NewChatsPerDay: &p.NewPerDay}}
	if s.Settings != nil && s.Settings.Calls != nil {
		in.Calls = CallsInUse(*s.Settings.Calls)
	}
	return in
}

// Sending is what bounds a session's sending now.
type Sending struct {
	State  string     `json:"state" enum:"running,paced,cooling_down,paused" doc:"paced: at the pace of its settings; cooling_down: the network asked for a pause; paused: by its owner, or an administrator"`
	By     *string    `json:"pausedBy" enum:"owner,administrator" doc:"Who paused it; null: nobody. What an administrator paused, only he resumes"`
	Reason *string    `json:"reason" doc:"Of a cool-down: rate_limited (answers to people who wrote in the last 24 hours go on) or temporary_ban (all waits); banned: the network lets the number in no more until then" example:"rate_limited"`
	Until  *time.Time `json:"until" doc:"When the cool-down ends"`
}

func sendingOf(s *models.Session, now time.Time) Sending {
	p := s.Pace()
	switch {
	case s.HeldBack:
		by := "administrator"
		return Sending{State: "paused", By: &by}
	case s.Paused():
		by := "owner"
		return Sending{State: "paused", By: &by}
	case s.CoolingDown(now):
		return Sending{State: "cooling_down", Reason: s.CooldownReason, Until: utc(s.CooldownUntil)}
	case p.Rate > 0 || p.NewPerHour > 0 || p.NewPerDay > 0:
		return Sending{State: "paced"}
	}
	return Sending{State: "running"}
}

// SettingsPatch is a change of settings as JSON merge patch (RFC 7396): what is absent stays, null resets.
type SettingsPatch json.RawMessage

// UnmarshalJSON keeps the text, null too.
func (p *SettingsPatch) UnmarshalJSON(text []byte) error {
	*p = append((*p)[:0], text...)
	return nil
}

// Schema documents it; models checks it.
func (SettingsPatch) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Nullable: true, AdditionalProperties: true,
		Description: "`paused`, `pacing` and `calls`, as the session shows them. What is left out stays as it is; null resets a field, or all of pacing or calls, or all settings, to the default of the engine.",
		Examples:    []any{map[string]any{"pacing": map[string]any{"messagesPerMinute": 20, "newChatsPerDay": nil}}}}
}

// UpdateSessionInput changes a session.
type UpdateSessionInput struct {
	SessionPath
	Body struct {
		Name     *string         `json:"name,omitempty" minLength:"1" maxLength:"100" example:"Shop in Bandung"`
		Metadata json.RawMessage `json:"metadata,omitempty" doc:"A JSON object of yours, up to 1 KB, in place of the former one; null removes it"`
		Settings SettingsPatch   `json:"settings,omitempty"`
		Proxy    ProxyChange     `json:"proxy,omitempty"`
	}
}

const maxSettings = 4096 // bytes

func (a *API) updateSession(ctx context.Context, in *UpdateSessionInput) (*Reply[SessionResource], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if in.Body.Name == nil && in.Body.Metadata == nil && in.Body.Settings == nil && in.Body.Proxy == nil {
		return nil, fault.Field("name", "expected name, metadata, settings or proxy")
	}
	change := models.SessionChange{Name: in.Body.Name}
	if in.Body.Name != nil && strings.TrimSpace(*in.Body.Name) == "" {
		return nil, fault.Field("name", "expected a name")
	}
	if in.Body.Metadata != nil {
		metadata := json.RawMessage("null")
		if !bytes.Equal(bytes.TrimSpace(in.Body.Metadata), []byte("null")) {
			if metadata, err = parseObject("metadata", in.Body.Metadata, maxMetadata); err != nil {
				return nil, err
			}
		}
		change.Metadata = &metadata
	}
	if in.Body.Settings != nil {
		if len(in.Body.Settings) > maxSettings {
			return nil, fault.Field("settings", "expected at most 4096 bytes")
		}
		change.Settings = json.RawMessage(in.Body.Settings)
	}
	if in.Body.Proxy != nil {
		proxy, err := a.sealed(in.Body.Proxy)
		if err != nil {
			return nil, err
		}
		change.Proxy = &proxy
	}
	if err := models.UpdateSession(ctx, a.db, s.UID, change); err != nil {
		return nil, stored(err)
	}
	if change.Settings != nil {
		a.waker.Messages(models.Woken{Lane: s.UID})
	}
	return a.getSession(ctx, &in.SessionPath)
}
