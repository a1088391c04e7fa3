package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTime bounds the question. It is less than the timeout of HEALTHCHECK in deploy/Dockerfile, so that the reason is told.
const healthTime = 4 * time.Second

// longestReason bounds what is told of an answer.
const longestReason = 1024

// answering are the commands that answer for their health.
var answering = []string{"api", "runner", "scheduler", "worker", "simnet"}

func (p *program) health() *cobra.Command {
	var live bool
	c := &cobra.Command{Use: "health [" + strings.Join(answering, "|") + "]", Short: "Ask the process beside this one how it is", ValidArgs: answering,
		Long: `Asks /health on loopback, at the port that this environment gives to the command: PORT of api, METRICS_PORT of runner and scheduler,
WORKER_PORT of worker, SIMNET_HOST and SIMNET_PORT of simnet. Without a command it asks the one that is the first process, as in a
container. Exits 0 if the answer is 200, also for "degraded", and 1 if it is another one or none comes within 4 seconds.

With --live it asks whether the process can answer at all, whatever PostgreSQL does: for what restarts that which is not healthy.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !slices.Contains(answering, args[0]) {
				return wrongUsage("expected one of %s", strings.Join(answering, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			command := firstCommand()
			if len(args) > 0 {
				command = args[0]
			}
			if command == "" {
				return wrongUsage("the first process is none of kurir's: say which is meant, one of %s", strings.Join(answering, ", "))
			}
			cfg, err := readConfig(p.environ)
			if err != nil {
				return fmt.Errorf("the configuration is not right:\n%w", err)
			}
			url, err := cfg.healthURL(command, live)
			if err != nil {
				return err
			}
			if err := askHealth(cmd.Context(), url, healthTime); err != nil {
				return err
			}
			fmt.Fprintln(p.stdout, command, "is healthy")
			return nil
		}}
	c.Flags().BoolVar(&live, "live", false, "ask only whether it can answer")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return c
}

// firstCommand is the command that the first process of this PID namespace runs.
func firstCommand() string {
	line, err := os.ReadFile("/proc/1/cmdline")
	if err != nil {
		return ""
	}
	return commandOf(string(line))
}

// commandOf finds the command in a process's arguments, as /proc has them. An init process may stand before it.
func commandOf(line string) string {
	words := strings.Split(line, "\x00")
	for i, word := range words[1:] {
		if path.Base(words[i]) == "kurir" && slices.Contains(answering, word) {
			return word
		}
	}
	return ""
}

// healthURL is where a command of this environment answers for its health.
func (c *config) healthURL(command string, live bool) (string, error) {
	host, name, port, route := "127.0.0.1", "PORT", c.Port, "/health"
	switch command {
	case "runner", "scheduler":
		name, port = "METRICS_PORT", c.MetricsPort
	case "worker":
		name, port = "WORKER_PORT", c.WorkerPort
	case "simnet":
		name, port = "SIMNET_PORT", c.SimnetPort
		if ip := net.ParseIP(c.SimnetHost); ip == nil || !ip.IsUnspecified() {
			host = c.SimnetHost
		}
	}
	if port == 0 {
		return "", fmt.Errorf("%s is not set, so nobody can ask the %s", name, command)
	}
	if live && command != "worker" && command != "simnet" { // what these two say depends on nothing
		route = "/health/live"
	}
	return "http://" + net.JoinHostPort(host, strconv.Itoa(port)) + route, nil
}

func askHealth(ctx context.Context, url string, within time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("no answer within %s", within))
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, // no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", url, context.Cause(ctx))
		}
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(res.Body, longestReason))
		return fmt.Errorf("%s: %s: %s", url, res.Status, strings.TrimSpace(string(reason)))
	}
	return nil
}
