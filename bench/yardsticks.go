package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	pgbenchClients = 64
	pgbenchCase    = "pgbench, 64 clients, one row each"
	plainDatabase  = "yardstick"
	beFiber        = "KURIR_BENCH_FIBER" // makes this program the bare Fiber, on that port
)

// yardsticks measures what the machine does without Kurir: the same servers, and nothing else.
func yardsticks(ctx context.Context, b *bench) (err error) {
	r := &rig{bench: b, home: filepath.Join(b.home, "yardsticks")}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.startServers(ctx); err != nil {
		return err
	}
	r.watched = append(r.watched, watched{name: loadName, pid: os.Getpid()})
	if err := r.preparePlain(ctx); err != nil {
		return err
	}
	return b.repeat(ctx, func() error {
		f, err := r.pgbench(ctx, b.duration)
		if err != nil {
			return err
		}
		b.add("yardsticks", pgbenchCase, "inserts", f)
		for _, connections := range []int{64, 256} {
			if f, err = r.bareFiber(ctx, connections, b.duration); err != nil {
				return err
			}
			b.add("yardsticks", fmt.Sprintf("bare Fiber, %d connections", connections), "answers", f)
		}
		return r.redisBenchmark(ctx)
	})
}

// preparePlain makes a table with what an accept writes and its primary key, in a database of its own.
func (r *rig) preparePlain(ctx context.Context) error {
	if err := execute(ctx, r.servers.DatabaseURL, "CREATE DATABASE "+plainDatabase); err != nil {
		return err
	}
	u, err := url.Parse(r.servers.DatabaseURL)
	if err != nil {
		return err
	}
	u.Path = plainDatabase
	return execute(ctx, u.String(), `CREATE TABLE plain (id uuid PRIMARY KEY, session_uid uuid NOT NULL, direction text NOT NULL, seq bigint NOT NULL, chat text NOT NULL,
		to_number text NOT NULL, message_type text NOT NULL, content text NOT NULL, status text NOT NULL, whatsapp_id text NOT NULL, send_at timestamptz, expires_at timestamptz,
		created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now())`)
}

// plainInsert is one row, whose ID begins with the time, as Kurir's do: random ones would cost PostgreSQL more.
const plainInsert = `\set r random(0, 4611686018427387903)
\set s random(1, 50)
INSERT INTO plain (id, session_uid, direction, seq, chat, to_number, message_type, content, status, whatsapp_id, expires_at)
VALUES ((lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0') || '7000' || lpad(to_hex(:r::bigint), 16, '0'))::uuid, lpad(to_hex(:s::bigint), 32, '0')::uuid,
	'OUTBOUND', :s::bigint, '6281200011111@s.whatsapp.net', '6281200011111@s.whatsapp.net', 'TEXT', '` + wordsOut + `', 'PENDING', '3EB0A1B2C3D4E5F60718', now() + interval '1 day');
`

var (
	pgbenchRate    = regexp.MustCompile(`tps = ([0-9.]+)`)
	pgbenchLatency = regexp.MustCompile(`latency average = ([0-9.]+) ms`)
	pgbenchDone    = regexp.MustCompile(`transactions actually processed: ([0-9]+)`)
)

// pgbench inserts single rows, each its own durable transaction, by prepared statements.
func (r *rig) pgbench(ctx context.Context, duration time.Duration) (figures, error) {
	script := filepath.Join(r.home, "insert.sql")
	if err := os.WriteFile(script, []byte(plainInsert), 0o600); err != nil {
		return figures{}, err
	}
	u, err := url.Parse(r.servers.DatabaseURL)
	if err != nil {
		return figures{}, err
	}
	password, _ := u.User.Password()
	env := []string{"PGHOST=" + u.Hostname(), "PGPORT=" + u.Port(), "PGUSER=" + u.User.Username(), "PGPASSWORD=" + password, "PGSSLMODE=disable"}
	if err := execute(ctx, r.servers.DatabaseURL, "CHECKPOINT"); err != nil {
		return figures{}, err
	}
	m := r.meter()
	said, err := runTool(ctx, env, r.postgresTool("pgbench"), "--client", strconv.Itoa(pgbenchClients), "--jobs", strconv.Itoa(runtime.NumCPU()), "--time", strconv.Itoa(int(duration.Seconds())),
		"--protocol", "prepared", "--no-vacuum", "--file", script, plainDatabase)
	costs := m.end()
	if err != nil {
		return figures{}, err
	}
	f := figures{Seconds: duration.Seconds(), PerSecond: numberIn(said, pgbenchRate), Count: numberIn(said, pgbenchDone),
		More: map[string]float64{"mean latency, ms": numberIn(said, pgbenchLatency)}}
	if f.PerSecond == 0 {
		return f, fmt.Errorf("pgbench said no rate:\n%s", said)
	}
	f.charge(costs)
	return f, nil
}

// postgresTool is a program of the PostgreSQL that runs, which Debian keeps out of PATH behind a wrapper.
func (r *rig) postgresTool(name string) string {
	for _, w := range r.watched {
		if w.family {
			if server, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", w.pid)); err == nil {
				if path := filepath.Join(filepath.Dir(server), name); exists(path) {
					return path
				}
			}
		}
	}
	return name
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func numberIn(text string, what *regexp.Regexp) float64 {
	found := what.FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(found[1], 64) // the pattern finds numbers only
	return n
}

// redisBenchmark is Redis by its own tool, on 64 connections.
func (r *rig) redisBenchmark(ctx context.Context) error {
	u, err := url.Parse(r.servers.RedisURL)
	if err != nil {
		return err
	}
	password, _ := u.User.Password()
	said, err := runTool(ctx, nil, "redis-benchmark", "-h", u.Hostname(), "-p", u.Port(), "-a", password, "-c", "64", "-n", "200000", "-t", "set,get,incr", "--csv")
	if err != nil {
		return err
	}
	rows, err := csv.NewReader(strings.NewReader(said[max(0, strings.Index(said, `"test"`)):])).ReadAll()
	if err != nil || len(rows) < 2 || len(rows[0]) < 8 {
		return fmt.Errorf("redis-benchmark said: %.300s", said)
	}
	for _, row := range rows[1:] { // test, rps, and milliseconds: mean, least, p50, p95, p99, most
		n := make([]float64, len(row))
		for i, text := range row[1:] {
			n[i+1], _ = strconv.ParseFloat(text, 64)
		}
		r.add("yardsticks", "redis-benchmark, 64 connections, "+row[0], "calls", figures{Seconds: 200000 / max(n[1], 1), Count: 200000, PerSecond: n[1], Latency: percentiles{P50: n[4], P95: n[5], P99: n[6], Max: n[7]}})
	}
	return nil
}

// serveFiber is the least that Fiber can do with a send: it reads the body, and says hello.
func serveFiber(port string) error {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Post("/", func(c *fiber.Ctx) error {
		if len(c.Body()) == 0 {
			return fiber.ErrBadRequest
		}
		return c.Status(http.StatusAccepted).JSON(fiber.Map{"hello": "world"})
	})
	return app.Listen("127.0.0.1:" + port)
}

// bareFiber sends what is sent to Kurir to bare Fiber, in a process of its own.
func (r *rig) bareFiber(ctx context.Context, connections int, duration time.Duration) (figures, error) {
	address := r.freeURL()
	self, err := os.Executable()
	if err != nil {
		return figures{}, err
	}
	p, err := startProcess("fiber", r.home, []string{beFiber + "=" + portOf(address)}, self)
	if err != nil {
		return figures{}, err
	}
	defer func() { _ = p.cmd.Process.Kill(); <-p.exited }()
	body := fmt.Appendf(nil, `{"to":"%s","type":"text","message":"%s"}`, personOf(0), wordsOut)
	target := func(_ uint64, t *vegeta.Target) {
		t.Method, t.URL, t.Header, t.Body = http.MethodPost, address+"/", headersOf("hello"), body
	}
	if err := eventually(ctx, 10*time.Second, "Fiber answers", func() (bool, string) {
		t := attack{connections: 1, pacer: atRate(20), duration: 50 * time.Millisecond, target: target}.run(ctx)
		return t.done > 0, fmt.Sprint(t.errors)
	}); err != nil {
		return figures{}, err
	}
	m := newMeter([]watched{{name: "fiber", pid: p.cmd.Process.Pid}, {name: loadName, pid: os.Getpid()}})
	t := attack{connections: connections, duration: duration, target: target}.run(ctx)
	f := t.figures()
	f.charge(m.end())
	return f, nil
}
