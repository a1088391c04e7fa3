// Command bench measures Kurir as its operators run it: separate processes on one PostgreSQL, which syncs to a disk, and one
// Redis. It starts and ends all of them, brings its own tenants, and measures the yardsticks of the same machine beside them.
// docs/performance.md tells what each scenario means. It is a module of its own, so that what it needs stays out of Kurir's.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if port := os.Getenv(beFiber); port != "" {
		fmt.Fprintln(os.Stderr, "bench:", serveFiber(port))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what the arguments ask for. What was measured before something failed is written all the same.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := readOptions(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("it took longer than -limit %s", o.limit))
	defer cancel()
	b := &bench{options: o, out: out}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	measured := b.all(ctx)
	if measured != nil && ctx.Err() != nil {
		measured = errors.Join(context.Cause(ctx), measured)
	}
	b.report.Failed = messageOf(measured)
	return errors.Join(measured, b.clean(), b.write())
}

func messageOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
