//go:build isolation

package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/limits"
	"kurir/models"
	"kurir/models/modelstest"
	"kurir/monitoring"
	"kurir/webhook"
)

// TestIsolation measures what endpoints that hang or fail cost the others: event to delivery, of the sessions with good
// endpoints, without bad ones and with them. It prints figures and ends by itself; `make isolation` runs it.
// KURIR_ISOLATION_SECONDS is the length of each phase.
func TestIsolation(t *testing.T) {
	seconds := 20
	if text := os.Getenv("KURIR_ISOLATION_SECONDS"); text != "" {
		var err error
		seconds, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	x := newIsolation(t)
	for _, phase := range []struct {
		name          string
		hang, refuse  int
		lengthSeconds int
	}{{"warm-up", 0, 0, 5}, {"all good", 0, 0, seconds}, {"1 hangs, 1 answers 500", 1, 1, seconds}, {"all good", 0, 0, seconds}, {"40 hang, 1 answers 500", 40, 1, seconds}} {
		x.phase(phase.name, phase.hang, phase.refuse, time.Duration(phase.lengthSeconds)*time.Second)
	}
}

const (
	isolationSessions = 100
	isolationGood     = 50 // sessions that are good in every phase: only they are measured
	isolationRate     = 200
)

type isolation struct {
	*testing.T
	db       *models.DB
	redis    *redis.Client
	vault    *models.Vault
	sessions []*models.Session
	url      string

	mu           sync.Mutex
	hang, refuse int // the last sessions
	took         []time.Duration
	over         chan struct{} // closed: hanging calls end
}

func newIsolation(t *testing.T) *isolation {
	x := &isolation{T: t, db: modelstest.DB(t), over: make(chan struct{})}
	x.redis = embeddedtest.RedisClient(t)
	var err error
	x.vault, err = models.NewVault(bytes.Repeat([]byte("k"), 32))
	require.NoError(t, err)
	server := httptest.NewServer(x)
	t.Cleanup(server.Close)
	x.url = server.URL
	modelstest.Worker(t, x.db, "w1", 1000)
	u := modelstest.User(t, x.db)
	tiers := limits.Default()
	for i := range isolationSessions {
		s := &models.Session{UID: models.NewID(), ID: fmt.Sprint("s", i), UserID: u.ID, Name: "s", CreatedAt: time.Now(), UpdatedAt: time.Now()}
		require.NoError(t, x.db.InTx(t.Context(), func(ctx context.Context, tx models.Tx) error {
			tiers[limits.Max] = limits.Limits{Sessions: 1000, MessagesPerHour: 1}
			return models.CreateSession(ctx, tx, s, tiers)
		}))
		hook := addHook(t, x.db, s)
		_, err := x.db.Pool.Exec(t.Context(), `UPDATE webhooks SET url = $2, secret = $3 WHERE id = $1`, hook, fmt.Sprintf("%s/%d", server.URL, i), x.vault.Seal(SealSecret, []byte(webhook.NewSecret())))
		require.NoError(t, err)
		x.sessions = append(x.sessions, s)
	}
	return x
}

func (x *isolation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	i, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	x.mu.Lock()
	hangs, fails, over := i >= isolationSessions-x.hang, i < isolationSessions-x.hang && i >= isolationSessions-x.hang-x.refuse, x.over
	x.mu.Unlock()
	switch {
	case hangs:
		select {
		case <-r.Context().Done():
		case <-over:
		}
	case fails:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case i < isolationGood:
		var e struct{ Data struct{ At int64 } }
		if json.Unmarshal(body, &e) == nil {
			x.mu.Lock()
			x.took = append(x.took, time.Since(time.Unix(0, e.Data.At)))
			x.mu.Unlock()
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// phase sends events to all sessions, at one rate, and prints how long the good ones waited.
func (x *isolation) phase(name string, hang, refuse int, length time.Duration) {
	x.mu.Lock()
	x.hang, x.refuse, x.took, x.over = hang, refuse, nil, make(chan struct{})
	x.mu.Unlock()
	_, err := x.db.Pool.Exec(x.Context(), `DELETE FROM webhook_deliveries`)
	require.NoError(x, err)
	ctx, cancel := context.WithCancel(x.Context())
	defer cancel()
	client := webhook.NewClient(webhook.ClientConfig{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer client.Close()
	r := NewRunner(Config{Concurrency: 64, Schedule: webhook.DefaultSchedule(), TroubleAfter: time.Minute}, x.db, x.db, x.redis, x.vault, client, monitoring.New("test"), quiet)
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	queue := NewQueue(x.redis, quiet)
	waker := NewWaker(queue, quiet, monitoring.New("test"))
	defer waker.Close()

	emitted := 0
	ticker, sweep := time.NewTicker(time.Second/isolationRate), time.NewTicker(time.Second)
	defer ticker.Stop()
	defer sweep.Stop()
	for end := time.After(length); ; {
		select {
		case <-ticker.C:
			s := x.sessions[emitted%isolationSessions]
			emitted++
			woken, err := models.Emit(x.Context(), x.db.Pool, []models.Event{{Session: s.UID, Type: webhook.EventMessageSent, At: time.Now(), Data: map[string]int64{"at": time.Now().UnixNano()}}})
			require.NoError(x, err)
			waker.Webhooks(woken...)
			continue
		case <-sweep.C:
			_ = queue.Tick(x.Context(), KindSweep, time.Now())
			continue
		case <-end:
		}
		break
	}
	want := modelstest.Scalar[int64](x.T, x.db, `SELECT count(*) FROM webhook_deliveries WHERE webhook_id = ANY($1)`, x.good())
	require.Eventually(x, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return int64(len(x.took)) >= want
	}, time.Minute, 10*time.Millisecond, "the good ones should get everything")
	x.mu.Lock()
	took := slices.Sorted(slices.Values(x.took))
	close(x.over)
	x.mu.Unlock()
	at := func(q float64) time.Duration {
		return took[min(int(q*float64(len(took))), len(took)-1)].Round(100 * time.Microsecond)
	}
	x.Logf("%-24s %5d events to good endpoints: p50 %7s  p95 %7s  p99 %7s  max %7s", name, len(took), at(0.5), at(0.95), at(0.99), took[len(took)-1].Round(100*time.Microsecond))
	cancel()
	require.NoError(x, <-ended)
}

func (x *isolation) good() (hooks []uuid.UUID) {
	for _, s := range x.sessions[:isolationGood] {
		hooks = append(hooks, modelstest.Scalar[uuid.UUID](x.T, x.db, `SELECT id FROM webhooks WHERE session_uid = $1`, s.UID))
	}
	return hooks
}
