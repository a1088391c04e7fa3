package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// scenario is something that is measured, in one or several cases.
type scenario struct {
	name  string
	about string
	run   func(ctx context.Context, b *bench) error
}

// scenarios in the order in which they run.
func scenarios() []scenario {
	return []scenario{
		{"accept", "Durable accepts of authenticated, rate-limited sends; beside them single-row inserts by pgbench and answers of bare Fiber. The runner is stopped meanwhile, so that nothing but the accept is measured.", accept},
		{"e2e", "Accept, worker, SENT: at full speed, with a bounded backlog, and at 500 messages a second.", endToEnd},
		{"webhooks", "Deliveries to a subscriber that verifies each signature: of a backlog at full speed, and of 200 events a second.", webhooks},
		{"mixed", "Users who send, look, list and search, each with a connection and time to think.", mixed},
		{"history", "Pages, filters and search of long histories, 8 clients at a time.", history},
		{"scale", "Accept, worker, SENT in a new installation, and in one with many stopped sessions and a long history.", scale},
		{"idle", "What the processes cost while nothing happens.", idle},
		{"soak", "A steady rate for long, with a webhook for each session: does anything grow that should not?", soak},
		{"yardsticks", "What the machine does without Kurir.", yardsticks},
	}
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// bench is one run of the program.
type bench struct {
	*options
	out    io.Writer
	home   string // of the data, deleted at the end
	binary string // kurir
	report report
	redis  *redisWatch // of the rig that is up, with -statements
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.out, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// prepare builds Kurir and makes the folder of the data.
func (b *bench) prepare(ctx context.Context) (err error) {
	if b.home, err = os.MkdirTemp(b.data, "kurir-bench-"); err != nil {
		return err
	}
	if !b.volatile {
		if err := onDisk(b.home); err != nil {
			return errors.Join(err, b.clean())
		}
	}
	if err := b.build(ctx); err != nil {
		return errors.Join(err, b.clean())
	}
	b.report = report{Started: time.Now(), Version: versionOf(ctx, b.source), Options: b.describe(), Machine: describeMachine(b.home)}
	return nil
}

func (b *bench) describe() map[string]string {
	return map[string]string{"runs": fmt.Sprint(b.runs), "duration": b.duration.String(), "warm-up": b.warmup.String(),
		"profiled": fmt.Sprint(b.profiles != "" || b.statements), "durable": fmt.Sprint(!b.volatile)}
}

func (b *bench) clean() error { return os.RemoveAll(b.home) }

func (b *bench) all(ctx context.Context) error {
	for _, s := range scenarios() {
		if !slices.Contains(b.scenarios, s.name) {
			continue
		}
		b.say("%s: %s", s.name, s.about)
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// with runs do on a Kurir of its own, which has so many sessions.
func (b *bench) with(ctx context.Context, name string, sessions int, do func(r *rig) error) (err error) {
	began := time.Now()
	r := &rig{bench: b, home: filepath.Join(b.home, name)}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx, sessions); err != nil {
		return err
	}
	b.say("%s: %d sessions are connected after %s", name, sessions, time.Since(began).Round(time.Second))
	if r.redis != nil {
		_ = r.redis.pings() // what linking did to Redis is no case's
	}
	return do(r)
}

// repeat runs do as often as it is asked to.
func (b *bench) repeat(ctx context.Context, do func() error) error {
	for range b.runs {
		if err := errors.Join(ctx.Err(), do()); err != nil {
			return err
		}
	}
	return nil
}

// add notes what one run of a case has measured.
func (b *bench) add(scenario, name, unit string, f figures) {
	b.report.add(scenario, name, unit, f)
	b.say("%s, %s: %s", scenario, name, f.line(unit))
	if b.redis != nil {
		b.redis.reportPings(b.say)
	}
}
