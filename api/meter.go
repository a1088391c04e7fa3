package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"kurir/models"
	"kurir/monitoring"
)

// meter counts this process's requests in memory, and has them written down each second, in batches that have a number: one of
// which nobody knows whether it was written is written again, unchanged and under its number, until it is known to be counted.
// A process that is killed takes along what it had not yet written, a second's requests.
type meter struct {
	process uuid.UUID
	write   func(ctx context.Context, process uuid.UUID, batch int64, hits []models.Hits) error
	metrics *monitoring.Metrics
	log     *slog.Logger
	now     func() time.Time

	mu   sync.Mutex
	open map[hit]int64

	// Of the one goroutine that writes.
	batch  int64
	sealed []models.Hits // what is to be written under the number; nil: the last batch is done
	failed bool          // the last attempt did
}

// hit is what requests are counted by.
type hit struct {
	user, session, key uuid.UUID
	day                int64 // of UTC, since the epoch
}

const (
	meterEach  = time.Second
	meterBatch = 2_000           // callers in one batch
	meterMost  = 50_000          // callers that are kept in memory while PostgreSQL is away: some megabytes
	meterWrite = 5 * time.Second // for one batch
)

const secondsOfDay = 24 * 60 * 60

func newMeter(write func(ctx context.Context, process uuid.UUID, batch int64, hits []models.Hits) error, metrics *monitoring.Metrics, log *slog.Logger) *meter {
	return &meter{process: models.NewID(), write: write, metrics: metrics, log: log, now: time.Now, open: map[hit]int64{}}
}

// count counts a request.
func (m *meter) count(user, session, key uuid.UUID) {
	h := hit{user: user, session: session, key: key, day: m.now().Unix() / secondsOfDay}
	m.mu.Lock()
	_, known := m.open[h]
	full := !known && len(m.open) >= meterMost
	if !full {
		m.open[h]++
	}
	m.mu.Unlock()
	if full {
		m.metrics.UsageHits(monitoring.HitsLost, 1)
	}
}

// seal makes the next batch of what was counted, false if that is nothing.
func (m *meter) seal() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for h, n := range m.open {
		m.sealed = append(m.sealed, models.Hits{User: h.user, Session: h.session, Key: h.key, Day: time.Unix(h.day*secondsOfDay, 0).UTC(), Count: n})
		delete(m.open, h)
		if len(m.sealed) == meterBatch {
			break
		}
	}
	if m.sealed == nil {
		return false
	}
	m.batch++
	return true
}

// waiting is how many requests are counted in memory alone.
func (m *meter) waiting() (n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, h := range m.open {
		n += h
	}
	return n + total(m.sealed)
}

func total(hits []models.Hits) (n int64) {
	for _, h := range hits {
		n += h.Count
	}
	return n
}

// flush writes down all that was counted until it began, as far as that is possible now: what is counted meanwhile waits for the next
// time, since a batch costs as much as many callers in it. It reports whether the database took it.
func (m *meter) flush(ctx context.Context) (taken bool) {
	for full := true; full && (m.sealed != nil || m.seal()); {
		full = len(m.sealed) == meterBatch || m.failed // what had failed is older than what was counted since
		if !m.writeBatch(ctx) {
			break
		}
	}
	m.metrics.UsageWaiting(m.waiting())
	return m.sealed == nil
}

// writeBatch says whether the batch is done with.
func (m *meter) writeBatch(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, meterWrite)
	defer cancel()
	err := m.write(ctx, m.process, m.batch, m.sealed)
	outcome := monitoring.HitsCounted
	switch {
	case err != nil && models.IsBroken(err): // it would be refused for ever, and all that follows with it
		m.log.Error("usage batch cannot be written, dropped", "batch", m.batch, "hits", total(m.sealed), "error", err)
		outcome = monitoring.HitsLost
	case err != nil:
		if !m.failed {
			m.log.Warn("usage is not written down now, it is kept", "batch", m.batch, "error", err)
		}
		m.failed = true
		return false
	case m.failed:
		m.log.Info("usage is written down again", "batch", m.batch)
	}
	m.metrics.UsageHits(outcome, total(m.sealed))
	m.sealed, m.failed = nil, false
	return true
}

// run writes each second until ctx ends, and once more then.
func (m *meter) run(ctx context.Context) {
	each := time.NewTicker(meterEach)
	defer each.Stop()
	for {
		select {
		case <-each.C:
			m.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*meterWrite)
			defer cancel()
			for m.flush(last) && m.waiting() > 0 {
			}
			if n := m.waiting(); n > 0 {
				m.metrics.UsageHits(monitoring.HitsLost, n)
				m.log.Error("usage is lost: the database did not take it before the end", "hits", n)
			}
			return
		}
	}
}

// metered counts a request of a tenant's when it was answered, whatever the answer: what was refused for its number alone is
// not counted.
func (a *API) metered(ctx huma.Context, next func(huma.Context)) {
	defer func() {
		p := callerOf(ctx.Context())
		if p == nil || ctx.Status() == http.StatusTooManyRequests {
			return
		}
		var session, key uuid.UUID
		if info, ok := ctx.Context().Value(requestInfoKey{}).(*requestInfo); ok {
			session = info.session
		}
		if p.session != nil {
			session = *p.session
		}
		if p.key != nil {
			key = *p.key
		}
		a.meter.count(p.user.ID, session, key)
	}()
	next(ctx)
}

// noteSession says which session a request is about.
func noteSession(ctx context.Context, session uuid.UUID) {
	if info, ok := ctx.Value(requestInfoKey{}).(*requestInfo); ok {
		info.session = session
	}
}
