package api

import (
	"context"
	"math"
	"strings"
	"time"

	"kurir/limits"
	"kurir/message"
	"kurir/models"
)

// RangeInput asks for a stretch of time up to now.
type RangeInput struct {
	Range string `query:"range" enum:"1h,24h,7d,30d" default:"24h" doc:"How far back"`
}

// rangeSteps are the ranges, and what one point of each stands for: 60 to 168 points each.
var rangeSteps = map[string]struct{ span, step time.Duration }{
	"1h":  {time.Hour, time.Minute},
	"24h": {24 * time.Hour, 15 * time.Minute},
	"7d":  {7 * 24 * time.Hour, time.Hour},
	"30d": {30 * 24 * time.Hour, 6 * time.Hour},
}

// window is the stretch of time, by PostgreSQL's clock.
func (a *API) window(ctx context.Context, in *RangeInput) (w models.Window, now time.Time, err error) {
	if now, err = models.Now(ctx, a.db.Pool); err != nil {
		return w, now, databaseFault(err)
	}
	of := rangeSteps[in.Range]
	return models.WindowUpTo(now, of.span, of.step), now, nil
}

// Period is the time that figures are about.
type Period struct {
	Range       string    `json:"range" enum:"1h,24h,7d,30d" example:"24h"`
	From        time.Time `json:"from" example:"2026-01-30T10:15:00Z"`
	Until       time.Time `json:"until" doc:"When the step that is under way ends" example:"2026-01-31T10:15:00Z"`
	StepSeconds int       `json:"stepSeconds" doc:"What one point of the series stands for" example:"900"`
}

func period(in *RangeInput, w models.Window) Period {
	return Period{Range: in.Range, From: w.From, Until: w.Until, StepSeconds: int(w.Step.Seconds())}
}

// Analytics is how the platform is at present.
type Analytics struct {
	Overview AnalyticsOverview `json:"overview"`
	Workers  AnalyticsWorkers  `json:"workers"`
	Sessions AnalyticsSessions `json:"sessions"`
}

// AnalyticsOverview is how much there is.
type AnalyticsOverview struct {
	TotalUsers    int64 `json:"totalUsers" doc:"Accounts that are not closed" example:"150"`
	TotalSessions int64 `json:"totalSessions" doc:"Sessions that are not deleted" example:"89"`
	TotalWorkers  int64 `json:"totalWorkers" doc:"Workers that are not removed: online and offline" example:"5"`
	TotalMessages int64 `json:"totalMessages" doc:"Messages that were ever accepted or came in, those that retention or their owners removed since too" example:"15750"`
}

// AnalyticsWorkers is how workers are.
type AnalyticsWorkers struct {
	Online         int64   `json:"online" doc:"Those whose lease lives, in maintenance too" example:"4"`
	Offline        int64   `json:"offline" doc:"All others" example:"1"`
	AvgCPUUsage    float64 `json:"avgCpuUsage" doc:"Percent: the average of what the workers online said last; 0 if there are none" example:"52.3"`
	AvgMemoryUsage float64 `json:"avgMemoryUsage" doc:"Percent, likewise" example:"68.9"`
}

// AnalyticsSessions is how sessions are.
type AnalyticsSessions struct {
	Connected    int64   `json:"connected" example:"76"`
	Disconnected int64   `json:"disconnected" doc:"All others, those too that wait for their QR code to be scanned, connect anew, or were stopped" example:"13"`
	SuccessRate  float64 `json:"successRate" doc:"Percent of all sessions that are connected; 0 if there are none" example:"85.4"`
}

func (a *API) analytics(ctx context.Context, _ *struct{}) (*Reply[Analytics], error) {
	o, err := models.OverviewOf(ctx, a.db.Pool)
	if err != nil {
		return nil, databaseFault(err)
	}
	return reply(Analytics{
		Overview: AnalyticsOverview{TotalUsers: o.Users, TotalSessions: o.Sessions, TotalWorkers: o.Online + o.Offline, TotalMessages: o.Messages},
		Workers:  AnalyticsWorkers{Online: o.Online, Offline: o.Offline, AvgCPUUsage: tenths(o.AvgCPU), AvgMemoryUsage: tenths(o.AvgMemory)},
		Sessions: AnalyticsSessions{Connected: o.Connected, Disconnected: o.Sessions - o.Connected, SuccessRate: percent(o.Connected, o.Sessions)},
	}), nil
}

// percent is what part is of the whole, 0 if that is nothing.
func percent(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return tenths(float64(part) / float64(whole) * 100)
}

func tenths(x float64) float64 { return math.Round(x*10) / 10 }

// MessageStatuses is how many outgoing messages have which status at present.
type MessageStatuses struct {
	Pending   int64 `json:"pending" doc:"Accepted and not settled: those on their way too" example:"12"`
	Sent      int64 `json:"sent" doc:"The network took it, and nobody said yet that it arrived" example:"130"`
	Delivered int64 `json:"delivered" example:"480"`
	Read      int64 `json:"read" example:"610"`
	Failed    int64 `json:"failed" example:"8"`
	Unknown   int64 `json:"unknown" doc:"It may have arrived or not" example:"0"`
	Cancelled int64 `json:"cancelled" example:"2"`
	Expired   int64 `json:"expired" example:"1"`
}

// of is where messages of a status are counted.
func (s *MessageStatuses) of(status string) *int64 {
	switch status {
	case models.MessageSent:
		return &s.Sent
	case models.MessageDelivered:
		return &s.Delivered
	case models.MessageRead:
		return &s.Read
	case models.MessageFailed:
		return &s.Failed
	case models.MessageUnknown:
		return &s.Unknown
	case models.MessageCancelled:
		return &s.Cancelled
	case models.MessageExpired:
		return &s.Expired
	}
	return &s.Pending
}

// MessageDirections is how many messages went which way.
type MessageDirections struct {
	Outbound int64 `json:"outbound" doc:"Accepted by the API, or written on the phone" example:"1243"`
	Inbound  int64 `json:"inbound" example:"402"`
}

// MessagePoint is what was written in one step.
type MessagePoint struct {
	At    time.Time `json:"at" doc:"When the step begins" example:"2026-01-31T10:00:00Z"`
	Total int64     `json:"total" example:"31"`
	MessageDirections
	MessageStatuses
}

// MessageAnalytics is what became of the messages of a time.
type MessageAnalytics struct {
	Period
	Total       int64             `json:"total" doc:"Messages that were accepted or came in in this time" example:"1645"`
	Sent        int64             `json:"sent" doc:"Outgoing ones with this status at present" example:"130"`
	Delivered   int64             `json:"delivered" doc:"Likewise" example:"480"`
	Failed      int64             `json:"failed" doc:"Likewise" example:"8"`
	SuccessRate float64           `json:"successRate" doc:"Percent of the outgoing ones that are sent, delivered or read; 0 if there are none" example:"98.2"`
	ByType      map[string]int64  `json:"byType" doc:"How many there are of each type, in both directions" example:"{\"text\":1500,\"image\":145}"`
	ByStatus    MessageStatuses   `json:"byStatus" doc:"Outgoing ones"`
	ByDirection MessageDirections `json:"byDirection"`
	Series      []MessagePoint    `json:"series" doc:"Oldest first, without gaps. The last step is under way"`
}

func (a *API) messageAnalytics(ctx context.Context, in *RangeInput) (*Reply[MessageAnalytics], error) {
	w, _, err := a.window(ctx, in)
	if err != nil {
		return nil, err
	}
	counts, err := models.MessageCounts(ctx, a.db.Pool, w)
	if err != nil {
		return nil, databaseFault(err)
	}
	m := MessageAnalytics{Period: period(in, w), ByType: map[string]int64{}, Series: make([]MessagePoint, w.Steps())}
	for _, kind := range append(message.Types(), message.Vote, message.Unknown) {
		m.ByType[kind] = 0
	}
	for i := range m.Series {
		m.Series[i].At = w.Start(i)
	}
	for _, c := range counts {
		m.add(c, &m.Series[w.Index(c.At)])
	}
	m.Sent, m.Delivered, m.Failed = m.ByStatus.Sent, m.ByStatus.Delivered, m.ByStatus.Failed
	m.SuccessRate = percent(m.ByStatus.Sent+m.ByStatus.Delivered+m.ByStatus.Read, m.ByDirection.Outbound)
	return reply(m), nil
}

// add counts messages in the totals and in their step.
func (m *MessageAnalytics) add(c models.MessageCount, at *MessagePoint) {
	m.Total += c.N
	at.Total += c.N
	m.ByType[strings.ToLower(c.Type)] += c.N
	if c.Inbound {
		m.ByDirection.Inbound += c.N
		at.Inbound += c.N
		return
	}
	m.ByDirection.Outbound += c.N
	at.Outbound += c.N
	*m.ByStatus.of(c.Status) += c.N
	*at.MessageStatuses.of(c.Status) += c.N
}

// UsersByTier is how many accounts have which tier.
type UsersByTier struct {
	Basic int64 `json:"basic" example:"120"`
	Pro   int64 `json:"pro" example:"25"`
	Max   int64 `json:"max" example:"5"`
}

// UserPoint is what happened to users in one step.
type UserPoint struct {
	At          time.Time `json:"at" doc:"When the step begins" example:"2026-01-31T10:00:00Z"`
	NewUsers    int64     `json:"newUsers" doc:"Accounts that were opened" example:"1"`
	ActiveUsers int64     `json:"activeUsers" doc:"Users that logged in, each once; who does so in several steps stands in each" example:"7"`
}

// UserAnalytics is how users are.
type UserAnalytics struct {
	Period
	Total         int64       `json:"total" doc:"Accounts that are not closed" example:"150"`
	ByTier        UsersByTier `json:"byTier" doc:"Of these"`
	ActiveUsers   int64       `json:"activeUsers" doc:"Of these, who logged in within the last 7 days, whatever the range" example:"64"`
	NewUsersToday int64       `json:"newUsersToday" doc:"Accounts that were opened since midnight UTC" example:"3"`
	NewUsers      int64       `json:"newUsers" doc:"Accounts that were opened in the range" example:"4"`
	Series        []UserPoint `json:"series" doc:"Oldest first, without gaps. The last step is under way"`
}

// activeDays is how long ago somebody who counts as active may have logged in.
const activeDays = 7

func (a *API) userAnalytics(ctx context.Context, in *RangeInput) (*Reply[UserAnalytics], error) {
	w, now, err := a.window(ctx, in)
	if err != nil {
		return nil, err
	}
	totals, err := models.UserTotalsOf(ctx, a.db.Pool, models.WindowUpTo(now, activeDays*24*time.Hour, time.Hour).From, now.UTC().Truncate(24*time.Hour))
	if err != nil {
		return nil, databaseFault(err)
	}
	steps, err := models.UserStepsOf(ctx, a.db.Pool, w)
	if err != nil {
		return nil, databaseFault(err)
	}
	tier := func(t limits.Tier) int64 { return totals.ByTier[string(t)] }
	u := UserAnalytics{Period: period(in, w), ByTier: UsersByTier{tier(limits.Basic), tier(limits.Pro), tier(limits.Max)},
		ActiveUsers: totals.Active, NewUsersToday: totals.New, Series: make([]UserPoint, w.Steps())}
	u.Total = u.ByTier.Basic + u.ByTier.Pro + u.ByTier.Max
	for i := range u.Series {
		u.Series[i] = UserPoint{At: w.Start(i), NewUsers: steps.New[i], ActiveUsers: steps.Active[i]}
		u.NewUsers += steps.New[i]
	}
	return reply(u), nil
}
