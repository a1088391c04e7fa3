package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func (p *program) up() *cobra.Command {
	kurir := "kurir"
	c := &cobra.Command{Use: "up", Short: "Kurir and this worker on private embedded servers, with QR codes in the terminal", Args: cobra.NoArgs,
		Long: `Starts the program kurir beside this one, as "kurir up" without simulated phones, and a worker that speaks to WhatsApp. PostgreSQL and
Redis are private, with their data in KURIR_HOME (./.kurir). Ctrl-C stops everything; the next start finds the linked devices again.

What is sent reaches people. Read docs/whatsapp.md first.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runUp(cmd.Context(), kurir) }}
	if own, err := os.Executable(); err == nil {
		kurir = filepath.Join(filepath.Dir(own), "kurir")
	}
	c.Flags().StringVar(&kurir, "kurir", kurir, "the program kurir")
	return c
}

// startTime is for Kurir to answer: the first start makes a database.
const startTime = 2 * time.Minute

func (p *program) runUp(ctx context.Context, kurir string) error {
	cfg, err := parse(p.environ)
	if err != nil {
		return fmt.Errorf("the configuration is not right:\n%w", err)
	}
	cfg.GatewayURL = "http://127.0.0.1:" + strconv.Itoa(cfg.APIPort)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop, err := p.startKurir(kurir, cfg, cancel)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintln(p.stdout, "Kurir is starting …")
	if err := awaitHealth(ctx, cfg.GatewayURL+"/health"); err != nil {
		return err
	}
	if cfg.database() == "" {
		if cfg.DatabaseURL, err = addressOf(filepath.Join(cfg.Home, "kurir.env")); err != nil {
			return err
		}
	}
	cfg.ID, cfg.HandOver, cfg.MetricsPort = "whatsapp-1", 0, 0
	cfg.host = "127.0.0.1"
	if !p.given("WORKER_PORT") {
		cfg.Port = 0 // any
	}
	if !p.given("LOG_LEVEL") {
		cfg.LogLevel = "warn" // the terminal is for QR codes
	}
	if err := cfg.check(); err != nil {
		return fmt.Errorf("the configuration is not right:\n%w", err)
	}
	cfg.proxies = append(cfg.proxies, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")) // as kurir up takes them
	home, err := filepath.Abs(cfg.Home)                                                                       // the other terminal may be elsewhere
	if err != nil {
		return err
	}
	err = p.work(ctx, cfg, true, func() { fmt.Fprintf(p.stdout, p.welcome, cfg.GatewayURL, filepath.Join(home, "phone.env")) })
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

// given reports whether a variable is set.
func (p *program) given(name string) bool {
	return slices.ContainsFunc(p.environ, func(line string) bool { return strings.HasPrefix(line, name+"=") })
}

// startKurir starts it with the ports that we rely on. What it prints is of simulated phones, so it is kept for the case that
// it fails.
func (p *program) startKurir(kurir string, cfg *config, ended context.CancelCauseFunc) (stop func(), err error) {
	var said tail
	child := exec.Command(kurir, "up")
	child.Env = append(p.environ, "SIM_WORKERS=0", "PORT="+strconv.Itoa(cfg.APIPort))
	child.Stdout, child.Stderr = &said, &said
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us, who stop it when the worker has left
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("start kurir: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		err := child.Wait()
		ended(fmt.Errorf("kurir has ended: %w\n%s", errors.Join(err, errors.New("it was needed")), said.String()))
		close(gone)
	}()
	return func() {
		_ = child.Process.Signal(syscall.SIGTERM) // it may have ended
		<-gone
	}, nil
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

const tailKept = 64 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	if len(t.text) > 2*tailKept {
		t.text = slices.Clone(t.text[len(t.text)-tailKept:])
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.text[max(0, len(t.text)-tailKept):]) }

func awaitHealth(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close() // only its status matters
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("kurir does not answer: %w", context.Cause(ctx))
		}
	}
}

// addressOf reads where `kurir up` has its database, of the file that it writes for tools.
func addressOf(path string) (string, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names KURIR_HOME
	if err != nil {
		return "", fmt.Errorf("where kurir has its database: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	for lines := bufio.NewScanner(file); lines.Scan(); {
		for _, word := range strings.Fields(lines.Text()) {
			if value, ok := strings.CutPrefix(word, "DATABASE_URL="); ok {
				return strings.Trim(value, "'"), nil
			}
		}
	}
	return "", errors.New("where kurir has its database: its file does not say")
}
