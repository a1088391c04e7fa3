package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"kurir/fault"
	"kurir/limits"
	"kurir/models"
	"kurir/monitoring"
	"kurir/recent"
	"kurir/throttle"
)

// limiting counts requests, messages and failed logins, for all API processes together.
type limiting struct {
	store   *throttle.Redis
	memory  *throttle.Memory // of failed logins, while Redis is down
	metrics *monitoring.Metrics
	log     *slog.Logger

	recounts  singleflight.Group // by user
	uncounted sync.Map           // users with messages that were accepted while Redis was down
	told      *recent.Values[string, bool]
	refused   *recent.Values[string, error] // credentials whose refused sends are too many
	mu        sync.Mutex
	warned    time.Time
}

// Defaults and bounds of what counts.
const (
	limitTimeout = 400 * time.Millisecond // that Redis is waited for
	memoryLogins = 100_000                // counters of failed logins in memory
	toldMost     = 20_000
	toldOnce     = time.Hour // per user and kind
	refusedMost  = 20_000
	refusedFor   = 10 * time.Second // that a credential sends nothing which had too many sends refused
)

func newLimiter(client redis.UniversalClient, timeout time.Duration, metrics *monitoring.Metrics, log *slog.Logger) *limiting {
	if timeout == 0 {
		timeout = limitTimeout
	}
	metrics.KnownLimits(limits.Names())
	return &limiting{store: throttle.NewRedis(client, timeout), memory: throttle.NewMemory(memoryLogins), metrics: metrics, log: log,
		told: recent.New[string, bool](toldMost, toldOnce), refused: recent.New[string, error](refusedMost, refusedFor)}
}

// keyOf names a counter. Its slots are part of the name: another configuration begins anew.
func keyOf(p limits.Policy, of string) string {
	return fmt.Sprintf("kurir:limit:%s:%d:%s", p.Name, p.Width().Milliseconds(), of)
}

// Faults of limits of requests.
var (
	errAddressLimit    = fault.New(fault.Limited, "address_limit", "Too many requests from this address: without a valid credential it has %s.")
	errCredentialLimit = fault.New(fault.Limited, "request_limit", "Too many requests with this credential: it has %s.")
	errOperationsLimit = fault.New(fault.Limited, "session_operations_limit", "Session operation rate limit exceeded: an account has %s.")
	errNewKeys         = fault.New(fault.Limited, "new_keys_limit", "Too many API keys were made: an account may make %s.")
	errRegistrations   = fault.New(fault.Limited, "registration_limit", "Too many registrations from this address: it has %s.")
)

var limitRefusals = map[string]*fault.Error{limits.OfAddress: errAddressLimit, limits.OfCredential: errCredentialLimit,
	limits.OfSessionOps: errOperationsLimit, limits.OfRegistrations: errRegistrations, limits.OfNewKeys: errNewKeys}

// refusal is what a client hears whom a policy refuses.
func refusal(p limits.Policy, q limits.Quota) error {
	f := *limitRefusals[p.Name]
	f.Sentence = fmt.Sprintf(f.Sentence, fmt.Sprintf("%d per %s", p.Limit, inWords(p.Window)))
	return f.After(q.Retry)
}

func inWords(d time.Duration) string {
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		if d == unit.length {
			return unit.name
		}
		if d%unit.length == 0 {
			return fmt.Sprintf("%d %ss", d/unit.length, unit.name)
		}
	}
	return d.String()
}

// take counts a request against all that it is asked to, in one round trip, and says whether it may pass. Without Redis it may.
func (l *limiting) take(ctx context.Context, asks ...throttle.Ask) error {
	taken, err := l.store.Take(ctx, asks...)
	if err != nil {
		for _, a := range asks {
			l.unchecked(a.Policy.Name, err)
		}
		return nil
	}
	info, _ := ctx.Value(requestInfoKey{}).(*requestInfo)
	err = nil
	for _, t := range taken {
		if info != nil {
			info.rates = append(info.rates, rate{t.Ask.Policy, t.Quota})
		}
		if !t.Allowed && err == nil {
			l.metrics.RateLimited(t.Ask.Policy.Name)
			err = refusal(t.Ask.Policy, t.Quota)
		}
	}
	return err
}

// warnPause is between two lines of the log that say that limits are not looked at.
const warnPause = 10 * time.Second

func (l *limiting) unchecked(limit string, err error) {
	l.metrics.LimitUnchecked(limit)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.warned) > warnPause {
		l.warned = now
		l.log.Warn("limits are not looked at: redis does not answer", "limit", limit, "error", err)
	}
}

// limitReached tells whoever wants to know that a user has reached a limit of his tier, once an hour for each kind of limit.
func (a *API) limitReached(user *models.User, kind string) {
	key := kind + ":" + user.ID.String()
	if _, told := a.limiter.told.Get(key); told {
		return
	}
	a.limiter.told.Add(key, true)
	a.done.Go(func() {
		if first, err := a.limiter.store.First(a.background, "kurir:limit:told:"+key, toldOnce); err == nil && !first {
			return
		}
		a.log.Info("a limit of a tier was reached", "user", user.ID, "limit", kind, "tier", user.Tier)
		if a.cfg.LimitReached != nil {
			a.cfg.LimitReached(a.background, user, kind)
		}
	})
}

// Keys of an operation's metadata.
const (
	metaSends     = "sends"     // counts by the tier's messages, and not as a request
	metaOperation = "operation" // counts as an operation on sessions too
	metaMakesKey  = "makesKey"  // counts as an API key that was made too
)

func byTier(o *huma.Operation)   { o.Metadata[metaSends] = true }
func operates(o *huma.Operation) { o.Metadata[metaOperation] = true }
func makesKey(o *huma.Operation) { o.Metadata[metaMakesKey] = true }

// limitRequests counts a request that authenticate has let pass.
func (a *API) limitRequests(ctx huma.Context, next func(huma.Context)) {
	if err := a.countRequest(ctx); err != nil {
		a.writeError(ctx, err)
		return
	}
	next(ctx)
	a.countRefused(ctx)
}

// countRefused counts a send that was refused for what it is as a request: nothing else counts it, and it may have cost as many
// looks into the database as it has messages. A credential that has used up its requests by that sends nothing for a moment. One
// that has no messages left is not counted: it was told when to come again.
func (a *API) countRefused(ctx huma.Context) {
	sends, _ := ctx.Operation().Metadata[metaSends].(bool)
	status, p := humafiber.Unwrap(ctx).Response().StatusCode(), callerOf(ctx.Context())
	if !sends || p == nil || status < 400 || status >= 500 || status == http.StatusTooManyRequests {
		return
	}
	policy := a.cfg.Requests.Credential()
	taken, err := a.limiter.store.Take(ctx.Context(), throttle.Ask{Key: keyOf(policy, p.credential), Policy: policy, N: 1})
	switch {
	case err != nil:
		a.limiter.unchecked(policy.Name, err)
	case !taken[0].Allowed:
		quota := taken[0].Quota
		quota.Retry = min(quota.Retry, refusedFor)
		a.limiter.refused.Add(p.credential, refusal(policy, quota))
	}
}

func (a *API) countRequest(ctx huma.Context) error {
	has := func(meta string) bool { on, _ := ctx.Operation().Metadata[meta].(bool); return on }
	r, p := a.cfg.Requests, callerOf(ctx.Context())
	switch need, _ := ctx.Operation().Metadata[metaAccess].(access); {
	case need == accessWorker:
		return nil
	case p == nil:
		address := neighbours(addressOf(ctx.Context()))
		return a.limiter.take(ctx.Context(), throttle.Ask{Key: keyOf(r.Address(), address), Policy: r.Address(), N: 1})
	case has(metaSends):
		if limited, ok := a.limiter.refused.Get(p.credential); ok {
			a.metrics.RateLimited(limits.OfCredential)
			return limited
		}
		if incomingOf(humafiber.Unwrap(ctx)) != nil {
			return a.mayMessage(ctx.Context(), p.user) // before a medium is taken in
		}
		return nil
	default:
		asks := []throttle.Ask{{Key: keyOf(r.Credential(), p.credential), Policy: r.Credential(), N: 1}}
		if has(metaOperation) {
			asks = append(asks, throttle.Ask{Key: keyOf(r.Operations(), p.user.ID.String()), Policy: r.Operations(), N: 1})
		}
		if has(metaMakesKey) {
			asks = append(asks, throttle.Ask{Key: userKey(r.NewKeys(), p.user.ID), Policy: r.NewKeys(), N: 1})
		}
		return a.limiter.take(ctx.Context(), asks...)
	}
}

// refusedCaller counts a request without a valid credential by its address, so that keys can't be guessed for long. A valid
// one from the same address is never refused for it.
func (a *API) refusedCaller(ctx context.Context, err error) error {
	if fault.Of(err) != fault.Unauthenticated {
		return err
	}
	p := a.cfg.Requests.Address()
	if limited := a.limiter.take(ctx, throttle.Ask{Key: keyOf(p, neighbours(addressOf(ctx))), Policy: p, N: 1}); limited != nil {
		return limited
	}
	return err
}

// limitPages counts requests for what is outside the API: pages, documents, what does not exist. Health, metrics and the
// dashboard, whose callers show who they are, are not among them.
func (a *API) limitPages(c *fiber.Ctx) error {
	path := strings.ToLower(c.Path())
	for _, exempt := range []string{"/api/", "/health", "/metrics", queuesPath} {
		if strings.HasPrefix(path, exempt) {
			return c.Next()
		}
	}
	p := a.cfg.Requests.Address()
	if err := a.limiter.take(c.UserContext(), throttle.Ask{Key: keyOf(p, neighbours(addressOf(c.UserContext()))), Policy: p, N: 1}); err != nil {
		return err
	}
	return c.Next()
}

func userKey(p limits.Policy, user uuid.UUID) string { return keyOf(p, user.String()) }

// countRegistration counts one that could be an account. One whose mail address is taken counts too: so few addresses can be asked for.
func (a *API) countRegistration(ctx context.Context) error {
	policy := a.cfg.Requests.Registering()
	return a.limiter.take(ctx, throttle.Ask{Key: keyOf(policy, neighbours(addressOf(ctx))), Policy: policy, N: 1})
}
