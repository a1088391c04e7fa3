package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const readers = 8 // clients at a time

// reading is a kind of page. Its query may depend on the number of the call, so that not the same page is read again and again.
type reading struct {
	name  string
	phone func(r *rig, n uint64) session
	query func(p past, n uint64) url.Values
}

func large(r *rig, _ uint64) session { return r.phones[0] }

// any of the others; one of them has as much as all have on average.
func ordinary(r *rig, n uint64) session {
	others := r.phones[1:]
	return others[n%uint64(len(others))]
}

// scattered spreads the calls over 0 to 1, each far from the one before.
func scattered(n uint64) float64 {
	_, part := math.Modf(float64(n) * math.Phi)
	return part
}

func fixed(pairs ...string) func(past, uint64) url.Values {
	v := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		v.Set(pair[0], pair[1])
	}
	return func(past, uint64) url.Values { return v }
}

func readings() []reading {
	anywhere := func(p past, n uint64) url.Values {
		return url.Values{"limit": {"50"}, "until": {p.at(scattered(n)).Format(time.RFC3339)}}
	}
	chat := func(_ past, n uint64) url.Values {
		return url.Values{"chat": {fmt.Sprint(628000000000+n%50, "@s.whatsapp.net")}}
	}
	word := func(_ past, n uint64) url.Values {
		return url.Values{"q": {fmt.Sprint("w", int(40000*math.Pow(scattered(n), 2)))}}
	}
	return []reading{
		{"newest page", ordinary, fixed("limit", "50")},
		{"page anywhere", ordinary, anywhere},
		{"page anywhere, large session", large, anywhere},
		{"page of 200, large session", large, fixed("limit", "200")},
		{"what came in, large session", large, fixed("direction", "inbound")},
		{"what failed, large session", large, fixed("status", "failed")},
		{"one chat", ordinary, chat},
		{"one chat, large session", large, chat},
		{"search: any word", ordinary, word},
		{"search: any word, large session", large, word},
		{"search: a word in every message, large session", large, fixed("q", "hello")},
		{"search: rare words at the far end, large session", large, fixed("q", "rare1")},
		{"search: two common words, large session", large, fixed("q", "w0 w1")},
		{"search: a phrase, large session", large, fixed("q", `"hello w0"`)},
		{"search: nothing", ordinary, fixed("q", "absent")},
	}
}

// history measures pages of a long history.
func history(ctx context.Context, b *bench) error {
	return b.with(ctx, "history", max(b.few, 2), func(r *rig) error {
		p, err := r.fill(ctx, b.history)
		if err != nil {
			return err
		}
		if b.warmup > 0 {
			for _, one := range readings() {
				r.read(ctx, one, p, time.Second)
			}
		}
		return b.repeat(ctx, func() error {
			for _, one := range readings() {
				m := r.meter()
				t := r.read(ctx, one, p, max(b.duration/3, time.Second))
				f := t.figures()
				f.charge(m.end())
				if f.More, err = r.found(ctx, one, p); err != nil {
					return err
				}
				b.add("history", one.name, "pages", f)
			}
			return r.reports(ctx)
		})
	})
}

// reports measures what administrators look at, which is summed up beforehand. An API remembers some of it for half a minute.
func (r *rig) reports(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	for _, report := range []string{"analytics", "analytics/messages?range=30d", "analytics/users?range=30d", "analytics/workers?range=30d", "usage"} {
		m := r.meter()
		t := attack{connections: readers, duration: max(r.duration/3, time.Second), target: func(_ uint64, t *vegeta.Target) {
			t.Method, t.URL, t.Header = http.MethodGet, r.api+"/api/v1/admin/"+report, headersOf(r.admin)
		}}.run(ctx)
		f := t.figures()
		f.charge(m.end())
		r.add("history", "administrator: "+report, "reports", f)
	}
	return nil
}

func (r *rig) read(ctx context.Context, one reading, p past, duration time.Duration) tally {
	return attack{connections: readers, duration: duration, target: func(n uint64, t *vegeta.Target) {
		s := one.phone(r, n)
		t.Method, t.URL, t.Header = http.MethodGet, r.api+"/api/v1/sessions/"+s.id+"/messages?"+one.query(p, n).Encode(), headersOf(s.key)
	}}.run(ctx)
}

// found says how many messages such a page has, so that nobody takes the time of nothing for a result.
func (r *rig) found(ctx context.Context, one reading, p past) (map[string]float64, error) {
	s := one.phone(r, 1)
	var page struct{ Messages []struct{ ID string } }
	err := call(ctx, http.MethodGet, r.api+"/api/v1/sessions/"+s.id+"/messages?"+one.query(p, 1).Encode(), s.key, nil, &page)
	return map[string]float64{"on such a page": float64(len(page.Messages))}, err
}
