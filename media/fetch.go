package media

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"kurir/egress"
	"kurir/fault"
)

// FetchConfig says how URLs are fetched. Zero fields take the defaults.
type FetchConfig struct {
	Timeout      time.Duration // of a whole fetch
	MaxRedirects int
	Concurrency  int           // fetches at once; more wait for their turn
	Patience     time.Duration // after which a fetch takes long, see shares
	TLS          *tls.Config   // nil: the system's roots
	Resolver     *net.Resolver // nil: the system's
}

const (
	defaultFetchTimeout = 2 * time.Minute
	connectTimeout      = 15 * time.Second
	defaultRedirects    = 3
	defaultFetches      = 16
	defaultPatience     = 5 * time.Second
	maxRetryAfter       = time.Hour
)

// Fetcher takes contents in that tenants name by URL. It goes only where its guard lets it, and sends nothing of a tenant's:
// no cookies, no credentials, no Referer.
type Fetcher struct {
	store   *Store
	guard   *egress.Guard
	client  *http.Client
	timeout time.Duration
	slots   chan struct{}
	shares  *shares
}

// NewFetcher makes a fetcher into a store.
func NewFetcher(store *Store, guard *egress.Guard, cfg FetchConfig) *Fetcher {
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultFetchTimeout
	}
	if cfg.MaxRedirects <= 0 {
		cfg.MaxRedirects = defaultRedirects
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = defaultFetches
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	client := guard.HTTPClient(egress.ClientConfig{Timeout: min(cfg.Timeout, connectTimeout), MaxRedirects: cfg.MaxRedirects, TLS: cfg.TLS, Resolver: cfg.Resolver})
	slots := make(chan struct{}, cfg.Concurrency)
	return &Fetcher{store: store, guard: guard, client: client, timeout: cfg.Timeout, slots: slots,
		shares: &shares{patience: cfg.Patience, most: max(cfg.Concurrency/4, 1), full: func() bool { return len(slots) == cap(slots) }, slow: map[uuid.UUID]int{}}}
}

// CodeUnreachable is the code of a fetch whose server is to blame, and that may succeed later.
const CodeUnreachable = "media_unreachable"

// Faults of fetching. Of errUnreachable's kind trying again may help; of the other's not.
var (
	errUnreachable = fault.New(fault.Unavailable, "media_unreachable", "The medium could not be fetched.")
	errRefused     = fault.New(fault.Invalid, "media_url_refused", "The medium's URL is not one that is fetched.")
)

func unreachable(why string, cause error) error {
	f := errUnreachable.WithCause(cause)
	f.Sentence = "The medium could not be fetched: " + why + "."
	return f
}

func refused(why string, cause error) error {
	f := errRefused.WithCause(cause)
	f.Sentence = "The medium's URL is not fetched: " + why + "."
	return f
}

// CheckURL says at once what can be seen of a URL without fetching it: media_url_refused.
func (f *Fetcher) CheckURL(raw string) error {
	if err := f.guard.CheckURL(raw); err != nil {
		return refused(err.Error(), err)
	}
	return nil
}

// Fetch takes the content at a URL in, as Put does. Its faults tell by their kind whether trying again may help:
// media_unreachable, with a RetryAfter where the server asks for one, and an outage of ours, which is not its server's doing
// and has another code or ErrShare in it, may pass; media_url_refused, media_type_not_allowed, media_too_large and media_empty
// are final.
func (f *Fetcher) Fetch(ctx context.Context, user uuid.UUID, raw, kind string) (*Item, error) {
	rule, err := f.store.rules.of(kind)
	if err != nil {
		return nil, err
	}
	if err := f.CheckURL(raw); err != nil {
		return nil, err
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, unreachable("no time was left", errors.Join(ErrShare, ctx.Err()))
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	defer f.shares.watch(user, giveUp)()
	m, err := f.fetch(ctx, user, raw, kind, rule)
	if errors.Is(context.Cause(ctx), ErrShare) && err != nil {
		return nil, unreachable("its server is slow, and others wait", ErrShare)
	}
	return m, err
}

func (f *Fetcher) fetch(ctx context.Context, user uuid.UUID, raw, kind string, rule Rule) (*Item, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, refused("URL is not valid", err)
	}
	req.Header.Set("User-Agent", "Kurir-Media/1")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := answered(resp); err != nil {
		return nil, err
	}
	if resp.ContentLength > rule.Max {
		return nil, rule.tooLarge(kind)
	}
	m, err := f.store.Put(ctx, user, kind, resp.Body)
	var broken *SourceError
	if errors.As(err, &broken) {
		return nil, unreachable(egress.Explain(broken.Err), broken.Err)
	}
	return m, err
}

// explain tells refusals of ours from troubles on the way.
func explain(err error) error {
	if wrapper, ok := errors.AsType[*url.Error](err); ok {
		err = wrapper.Err // without the URL, which may hold a token that belongs in no log
	}
	var on *egress.RefusedError
	switch {
	case errors.As(err, &on):
		return refused("it redirects to where we do not go ("+on.Sentence+")", err)
	case errors.Is(err, egress.ErrAddress):
		return refused(egress.ErrAddress.Error(), err)
	case errors.Is(err, egress.ErrRedirects):
		return refused(egress.ErrRedirects.Error(), err)
	}
	return unreachable(egress.Explain(err), err)
}

// answered looks at what the server says. A server that is overloaded or broken may be well later; one that says no, means
// it.
func answered(resp *http.Response) error {
	status := "the server answered with status " + strconv.Itoa(resp.StatusCode)
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		if e := resp.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
			return refused("the server answers with a compressed content, which was not asked for", nil)
		}
		return nil
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests, code >= 500:
		var f *fault.Error
		_ = errors.As(unreachable(status, nil), &f)
		if wait := retryAfter(resp.Header.Get("Retry-After"), time.Now()); wait > 0 {
			f = f.After(wait)
		}
		return f
	}
	return refused(status, fmt.Errorf("status %d", resp.StatusCode))
}

// retryAfter is how long a server wants to be left alone, in seconds or until a date; 0: it does not say.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseInt(header, 10, 32); err == nil {
		return max(min(time.Duration(seconds)*time.Second, maxRetryAfter), 0)
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(min(at.Sub(now), maxRetryAfter), 0)
	}
	return 0
}
