package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	slowFrom  = time.Millisecond // that a command takes in Redis itself
	slowKept  = 10_000           // of its slow commands
	pingEvery = 10 * time.Millisecond
	redisMost = 10 // lines of each list

	// With fewer, a case was measured together with the one before, and has no line of its own.
	pingsWorthALine = 10
)

// redisWatch has Redis note its slow commands, and times PINGs on a connection of its own, as redis-cli --latency does.
type redisWatch struct {
	client *redis.Client
	stop   context.CancelFunc
	group  sync.WaitGroup

	mu   sync.Mutex
	took []float64 // milliseconds of the PINGs that no case has told of
	err  error     // why it pings no more
}

// openRedis tries nothing twice: a PING would take the time of both.
func openRedis(url string) (*redis.Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	o.MaxRetries = -1
	return redis.NewClient(o), nil
}

// watchRedis watches a Redis until its end is called.
func watchRedis(ctx context.Context, url string) (*redisWatch, error) {
	client, err := openRedis(url)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(client.ConfigSet(ctx, "slowlog-log-slower-than", strconv.FormatInt(slowFrom.Microseconds(), 10)).Err(),
		client.ConfigSet(ctx, "slowlog-max-len", strconv.Itoa(slowKept)).Err()); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	w := &redisWatch{client: client}
	ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	w.group.Go(func() { w.ping(ctx) })
	return w, nil
}

func (w *redisWatch) ping(ctx context.Context) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		began := time.Now()
		err := w.client.Ping(ctx).Err()
		took := time.Since(began)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		if err == nil {
			w.took = append(w.took, took.Seconds()*1000)
		} else {
			w.err = fmt.Errorf("PING Redis: %w", err)
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// pings are the milliseconds of the PINGs since they were asked for last.
func (w *redisWatch) pings() []float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	took := w.took
	w.took = nil
	return took
}

// reportPings says how long Redis took to answer since the case before.
func (w *redisWatch) reportPings(say func(string, ...any)) {
	if took := w.pings(); len(took) >= pingsWorthALine {
		say("Redis' PING: %s", pingLine(took))
	}
}

func pingLine(took []float64) string {
	sum := 0.0
	for _, ms := range took {
		sum += ms
	}
	p := percentilesOf(took)
	return fmt.Sprintf("%d times, least %.2f, mean %.2f, p99 %.2f, most %.2f ms", len(took), slices.Min(took), sum/float64(len(took)), p.P99, p.Max)
}

// end prints what cost Redis most, and its slowest commands, since it was started.
func (w *redisWatch) end(say func(string, ...any)) error {
	w.stop()
	w.group.Wait()
	ctx := context.Background()
	info, err := w.client.InfoMap(ctx, "commandstats").Result()
	if err == nil {
		err = reportCommands(say, info["Commandstats"])
	}
	slow, notRead := w.client.SlowLogGet(ctx, slowKept).Result()
	if notRead == nil {
		reportSlow(say, slow)
	}
	return errors.Join(w.err, err, notRead, w.client.Close())
}

// command is what Redis says of all calls of one command. Those that a script makes count too, and in the time of the script.
type command struct {
	name          string
	calls, micros int64
}

// reportCommands reads INFO commandstats: cmdstat_get:calls=21,usec=175,usec_per_call=8.33,rejected_calls=0,failed_calls=0.
func reportCommands(say func(string, ...any), stats map[string]string) error {
	list := make([]command, 0, len(stats))
	for name, text := range stats {
		c := command{name: strings.TrimPrefix(name, "cmdstat_")}
		if _, err := fmt.Sscanf(text, "calls=%d,usec=%d", &c.calls, &c.micros); err != nil {
			return fmt.Errorf("commandstats of Redis: %s: %q: %w", name, text, err)
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b command) int { return cmp.Or(cmp.Compare(b.micros, a.micros), cmp.Compare(a.name, b.name)) })
	for _, c := range list[:min(redisMost, len(list))] {
		say("Redis' command: %8.0f ms, %7d times %.1f µs: %s", float64(c.micros)/1000, c.calls, float64(c.micros)/float64(max(c.calls, 1)), c.name)
	}
	return nil
}

// reportSlow sorts the slow log, which has the latest first.
func reportSlow(say func(string, ...any), slow []redis.SlowLog) {
	slices.SortStableFunc(slow, func(a, b redis.SlowLog) int { return cmp.Compare(b.Duration, a.Duration) })
	say("Redis' slow log: %d commands took %s or longer (it keeps %d)", len(slow), slowFrom, slowKept)
	for _, one := range slow[:min(redisMost, len(slow))] {
		say("Redis' slow log: %8.1f ms: %.160q", one.Duration.Seconds()*1000, strings.Join(one.Args, " "))
	}
}
