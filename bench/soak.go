package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// curve is something that was looked at again and again, such as the memory of a process.
type curve struct {
	About string    `json:"about"` // with its unit
	Name  string    `json:"name"`
	At    []float64 `json:"atMinutes"`
	Value []float64 `json:"value"`
}

// soakLooks is how often it is looked, all in all.
const soakLooks = 180

// soak sends at a steady rate for long, with a webhook for what was read, and watches whether anything grows that should not.
func soak(ctx context.Context, b *bench) error {
	return b.with(ctx, "soak", b.few, func(r *rig) (err error) {
		s, err := newSubscriber()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		if err := r.hook(ctx, s, true, "message.read"); err != nil {
			return err
		}
		before, err := r.witness(ctx)
		if err != nil {
			return err
		}
		watch, stop := context.WithCancel(ctx)
		curves := make(chan []*curve, 1)
		go func() { curves <- r.watch(watch, b.soakTime/soakLooks) }()
		m := r.meter()
		t := attack{connections: senders, pacer: atRate(b.soakRate), duration: b.soakTime, target: r.sends(r.phones)}.run(ctx)
		costs := m.end()
		stop()
		f := t.figures()
		f.charge(costs)
		f.Curves = <-curves
		f.More = map[string]float64{}
		if f.More["waiting at the end"], err = r.settled(ctx); err != nil {
			return err
		}
		if err := r.allShown(ctx, before, t.done); err != nil {
			return err
		}
		if err := s.heard(ctx, int64(t.done), drainedAfter); err != nil {
			return err
		}
		b.add("soak", fmt.Sprintf("%d/s for %s", b.soakRate, b.soakTime), "messages", f)
		return nil
	})
}

// watch looks until ctx ends.
func (r *rig) watch(ctx context.Context, every time.Duration) (curves []*curve) {
	began := time.Now()
	known := map[string]*curve{}
	note := func(about, name string, value float64) {
		c := known[about+name]
		if c == nil {
			c = &curve{About: about, Name: name}
			known[about+name], curves = c, append(curves, c)
		}
		c.At, c.Value = append(c.At, time.Since(began).Minutes()), append(c.Value, value)
	}
	for pause(ctx, every) == nil {
		if err := r.look(ctx, note); err != nil && ctx.Err() == nil {
			r.say("soak: %v", err)
		}
	}
	return curves
}

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\S+)$`)

func (r *rig) look(ctx context.Context, note func(about, name string, value float64)) error {
	for _, w := range r.watched {
		note("memory, MB", w.name, w.resident())
	}
	for name, url := range r.metrics {
		page, err := page(ctx, url)
		if err != nil {
			return err
		}
		note("goroutines", name, numberIn(page, goroutines))
	}
	rows, err := r.db.Pool.Query(ctx, `SELECT 'connections', application_name, count(*)::float8 FROM pg_stat_activity WHERE datname = current_database() GROUP BY application_name
		UNION ALL SELECT 'dead rows', relname, n_dead_tup::float8 FROM pg_stat_user_tables WHERE n_dead_tup > 1000 OR relname IN ('lanes', 'sessions', 'webhooks')
		UNION ALL SELECT 'small tables, MB', relname, pg_total_relation_size(relid) / 1048576.0::float8 FROM pg_stat_user_tables WHERE relname IN ('lanes', 'sessions', 'webhooks', 'users', 'workers', 'runners')`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var about, name string
		var value float64
		if err := rows.Scan(&about, &name, &value); err != nil {
			return err
		}
		name, _, _ = strings.Cut(name, " key ")
		note(about, name, value)
	}
	keys, err := r.redisKeys(ctx)
	if err == nil {
		note("keys", "redis", float64(keys))
	}
	return errors.Join(rows.Err(), err)
}

func (r *rig) redisKeys(ctx context.Context) (int64, error) {
	client, err := openRedis(r.servers.RedisURL)
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Close() }()
	return client.DBSize(ctx).Result()
}

func page(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := plain.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// grown says, of each curve, by what part the mean of its last quarter is above that of its second one.
func grown(c *curve) float64 {
	quarter := len(c.Value) / 4
	if quarter == 0 {
		return 0
	}
	mean := func(list []float64) (sum float64) {
		for _, v := range list {
			sum += v
		}
		return sum / float64(len(list))
	}
	before, after := mean(c.Value[quarter:2*quarter]), mean(c.Value[len(c.Value)-quarter:])
	if before == 0 {
		return after
	}
	return after/before - 1
}
