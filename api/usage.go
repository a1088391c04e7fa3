package api

import (
	"context"
	"strings"
	"time"

	"kurir/fault"
	"kurir/limits"
	"kurir/models"
)

// UsageMonth names a month of UTC.
type UsageMonth struct {
	Month string `query:"month" pattern:"^[0-9]{4}-(0[1-9]|1[0-2])$" patternDescription:"YYYY-MM" maxLength:"7" doc:"Of UTC; this month if left out" example:"2026-01"`
}

const monthForm = "2006-01"

// first is the first day of the month.
func (m UsageMonth) first(now time.Time) (time.Time, error) {
	now = now.UTC()
	this := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	if m.Month == "" {
		return this, nil
	}
	month, err := time.Parse(monthForm, m.Month)
	if err != nil || month.Year() < 2000 || month.After(this) {
		return time.Time{}, fault.Field("month", "expected a month up to this one, as YYYY-MM")
	}
	return month, nil
}

// UsageTotals are a month's figures.
type UsageTotals struct {
	Messages int64 `json:"messages" doc:"Sent messages that are billed" example:"1200"`
	APIHits  int64 `json:"apiHits" doc:"Requests" example:"5400"`
}

// UsageLimits is what the account may use.
type UsageLimits struct {
	Tier            string `json:"tier" enum:"basic,pro,max"`
	Sessions        int    `json:"sessions" doc:"At once" example:"5"`
	MessagesPerHour int    `json:"messagesPerHour" example:"1000"`
}

// SessionUsage is the part of one session.
type SessionUsage struct {
	SessionID *string `json:"sessionId" doc:"null if nothing but its figures is kept" example:"shop"`
	Name      *string `json:"name" example:"Shop"`
	Deleted   bool    `json:"deleted"`
	UsageTotals
}

// KeyUsage is the part of one API key.
type KeyUsage struct {
	KeyID   *string `json:"keyId" doc:"null: with tokens, without a key"`
	Name    *string `json:"name" example:"Account key"`
	Prefix  *string `json:"prefix" doc:"How the key begins" example:"kur_AbCdEfGh"`
	APIHits int64   `json:"apiHits" example:"5400"`
}

// DayUsage is the part of one day.
type DayUsage struct {
	Day string `json:"day" format:"date" doc:"Of UTC" example:"2026-01-31"`
	UsageTotals
}

// UsageData is what an account used in a month.
type UsageData struct {
	Month    string         `json:"month" example:"2026-01"`
	Closed   bool           `json:"closed" doc:"The month was closed: its figures are final, and until then some seconds behind. One before the first that was counted is never closed, and has none"`
	Totals   UsageTotals    `json:"totals"`
	Limits   UsageLimits    `json:"limits" doc:"At present"`
	Sessions []SessionUsage `json:"sessions" doc:"Most used first, 1,000 at most; the totals have all, and requests about no session too"`
	Keys     []KeyUsage     `json:"keys" doc:"Most used first, 1,000 at most"`
	Days     []DayUsage     `json:"days" doc:"Those on which there was anything, oldest first"`
}

func (a *API) myUsage(ctx context.Context, in *UsageMonth) (*Reply[UsageData], error) {
	month, err := in.first(time.Now())
	if err != nil {
		return nil, err
	}
	user := callerOf(ctx).user
	u, err := models.UsageOf(ctx, a.db, user.ID, month)
	if err != nil {
		return nil, databaseFault(err)
	}
	return reply(usageData(month, u, a.usageLimits(user))), nil
}

// usageLimits are the tier's, but for what an administrator has set.
func (a *API) usageLimits(u *models.User) UsageLimits {
	of := a.cfg.Tiers.For(limits.Tier(u.Tier))
	if u.MaxSessions != nil {
		of.Sessions = *u.MaxSessions
	}
	if u.MaxMessagesPerHour != nil {
		of.MessagesPerHour = *u.MaxMessagesPerHour
	}
	return UsageLimits{Tier: strings.ToLower(u.Tier), Sessions: of.Sessions, MessagesPerHour: of.MessagesPerHour}
}

func usageData(month time.Time, u *models.Usage, of UsageLimits) UsageData {
	d := UsageData{Month: month.Format(monthForm), Closed: u.Closed, Totals: UsageTotals{u.Messages, u.APIHits}, Limits: of,
		Sessions: make([]SessionUsage, 0, len(u.Sessions)), Keys: make([]KeyUsage, 0, len(u.Keys)), Days: make([]DayUsage, 0, len(u.Days))}
	for _, s := range u.Sessions {
		d.Sessions = append(d.Sessions, SessionUsage{SessionID: filled(s.ID), Name: filled(s.Name), Deleted: s.Deleted, UsageTotals: UsageTotals{s.Messages, s.APIHits}})
	}
	for _, k := range u.Keys {
		one := KeyUsage{Name: k.Name, Prefix: k.Prefix, APIHits: k.APIHits}
		if k.ID != nil {
			one.KeyID = filled(k.ID.String())
		}
		d.Keys = append(d.Keys, one)
	}
	for _, day := range u.Days {
		d.Days = append(d.Days, DayUsage{Day: day.Day.Format(time.DateOnly), UsageTotals: UsageTotals{day.Messages, day.APIHits}})
	}
	return d
}

// filled is nil for an empty text.
func filled(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
