package api

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/limits"
	"kurir/models"
	"kurir/monitoring"
	"kurir/webhook"
)

// StreamConfig is what an operator can set of event streams. Zero values stand for the defaults.
type StreamConfig struct {
	Limits    limits.Streams
	Heartbeat time.Duration // 15 s
	Buffer    int           // events that may wait for a slow client; 1,000
	Write     time.Duration // until a client that takes nothing is given up; 10 s
}

func (c StreamConfig) withDefaults() StreamConfig {
	if c.Limits == (limits.Streams{}) {
		c.Limits = limits.DefaultStreams()
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Buffer <= 0 {
		c.Buffer = 1000
	}
	if c.Write <= 0 {
		c.Write = 10 * time.Second
	}
	return c
}

const (
	hubRound   = 100 * time.Millisecond // between two looks for events
	hubCheck   = 2 * time.Second        // between two looks whether streams are still allowed; changes that are heard of make one at once
	hubTimeout = 2 * time.Second        // of a query
	hubPause   = time.Second            // after a failure
	hubPage    = 200                    // events of a query
	hubPages   = 10                     // queries of a look, before others get their turn
)

// hub reads events for all streams of this process: one query per round, for those that listen, and none while nobody does.
// It hands them to each stream's buffer and never waits for one. All but opening belongs to the goroutine of run.
type hub struct {
	db      *models.DB
	log     *slog.Logger
	metrics *monitoring.Metrics
	cfg     StreamConfig
	slots   *slots
	orders  chan func(context.Context)
	changed chan struct{}
	life    context.Context // of all streams
	stop    context.CancelFunc
	done    chan struct{}

	streams map[*listener]bool // whether events are handed to it
	place   models.EventPlace  // everything up to it was handed out
	pause   time.Time
	failing bool
}

func newHub(ctx context.Context, cfg StreamConfig, db *models.DB, metrics *monitoring.Metrics, log *slog.Logger) *hub {
	cfg = cfg.withDefaults()
	life, stop := context.WithCancel(ctx)
	h := &hub{db: db, log: log, metrics: metrics, cfg: cfg, slots: newSlots(cfg.Limits), orders: make(chan func(context.Context)),
		changed: make(chan struct{}, 1), life: life, stop: stop, done: make(chan struct{}), streams: map[*listener]bool{}}
	go h.run(life)
	return h
}

// close ends all streams, and lets none begin.
func (h *hub) close() {
	h.stop()
	<-h.done
}

// credentialsChanged has streams checked at once.
func (h *hub) credentialsChanged() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// do has the hub's goroutine run f.
func (h *hub) do(ctx context.Context, f func(context.Context) error) error {
	result := make(chan error, 1)
	select {
	case h.orders <- func(ctx context.Context) { result <- f(ctx) }:
		return <-result
	case <-h.done:
		return errLeaving
	case <-ctx.Done():
		return databaseFault(ctx.Err())
	}
}

// enter lets a stream begin: from now on it is checked, and ends when it has to. Events come when it asks for them.
func (h *hub) enter(ctx context.Context, l *listener) error {
	return h.do(ctx, func(context.Context) error {
		h.streams[l] = false
		return nil
	})
}

// listen hands a stream all events that come behind the place that it returns, or behind what the stream has, if that is more.
func (h *hub) listen(ctx context.Context, l *listener, has models.EventPlace) (from models.EventPlace, err error) {
	err = h.do(ctx, func(ctx context.Context) error {
		if !h.anyListens() {
			ctx, cancel := context.WithTimeout(ctx, hubTimeout)
			defer cancel()
			horizon, err := models.EventHorizon(ctx, h.db.Pool)
			if err != nil {
				return databaseFault(err)
			}
			h.place = models.EventPlace{Xact: horizon}
		}
		h.streams[l], l.has, from = true, has, h.place
		return nil
	})
	return from, err
}

func (h *hub) anyListens() bool {
	for _, listens := range h.streams {
		if listens {
			return true
		}
	}
	return false
}

func (h *hub) run(ctx context.Context) {
	defer close(h.done)
	round := time.NewTimer(hubRound)
	defer round.Stop()
	check := time.NewTicker(hubCheck)
	defer check.Stop()
	for {
		select {
		case order := <-h.orders:
			order(ctx)
		case <-h.changed:
			h.check(ctx)
		case <-check.C:
			h.check(ctx)
		case <-round.C:
			began := time.Now()
			h.look(ctx)
			round.Reset(min(hubRound+time.Since(began), hubPause)) // less than half of the time
		case <-ctx.Done():
			for l := range h.streams {
				l.end(endShutdown)
			}
			return
		}
	}
}

// forget drops streams that have ended.
func (h *hub) forget() {
	maps.DeleteFunc(h.streams, func(l *listener, _ bool) bool { return l.hasEnded() })
}

// check ends streams whose right to go on is gone. What cannot be looked up stays: no events come either.
func (h *hub) check(ctx context.Context) {
	h.forget()
	if len(h.streams) == 0 {
		return
	}
	list := slices.Collect(maps.Keys(h.streams))
	grants := make([]models.StreamGrant, len(list))
	for i, l := range list {
		grants[i] = l.grant
	}
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	revoked, err := models.RevokedGrants(ctx, h.db.Pool, grants)
	h.note(err)
	for _, i := range revoked {
		list[i].end(endRevoked)
	}
	for _, l := range list {
		if l.until != nil && l.until.Before(time.Now()) {
			l.end(endRevoked)
		}
	}
}

// look hands out what has become final since the last look.
func (h *hub) look(ctx context.Context) {
	h.forget()
	if !h.anyListens() || time.Now().Before(h.pause) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hubTimeout)
	defer cancel()
	horizon, err := models.EventHorizon(ctx, h.db.Pool)
	switch {
	case err != nil:
		h.note(err)
		return
	case horizon < h.place.Xact: // another server, which has not seen all that this one had: the places of before are worth nothing
		h.log.Warn("the database's transactions have gone back, event streams begin anew", "from", h.place.Xact, "to", horizon)
		for l := range h.streams {
			l.end(endDatabase)
		}
		return
	}
	listening := map[uuid.UUID][]*listener{}
	for l, listens := range h.streams {
		if listens {
			listening[l.of.User] = append(listening[l.of.User], l)
		}
	}
	users := slices.Collect(maps.Keys(listening))
	for range hubPages {
		if h.place == (models.EventPlace{Xact: horizon}) {
			return
		}
		events, err := models.EventsOfUsers(ctx, h.db.Pool, users, h.place, horizon, time.Now(), hubPage)
		h.note(err)
		if err != nil {
			return
		}
		for i := range events {
			h.handOut(&events[i], listening[events[i].User])
		}
		h.place = models.EventPlace{Xact: horizon}
		if len(events) == hubPage {
			h.place = events[hubPage-1].EventPlace
		}
	}
}

// note logs once that the database does not answer, and once that it does again.
func (h *hub) note(err error) {
	if (err != nil) != h.failing {
		h.failing = err != nil
		if err != nil {
			h.log.Warn("event streams wait for the database", "error", err)
		} else {
			h.log.Info("event streams go on")
		}
	}
	if err != nil {
		h.pause = time.Now().Add(hubPause)
	}
}

func (h *hub) handOut(e *models.StreamEvent, listeners []*listener) {
	var frame []byte // written once, for all
	for _, l := range listeners {
		if l.of.Session != nil && (e.Session == nil || *e.Session != *l.of.Session) {
			continue
		}
		if !l.has.Before(e.EventPlace) {
			continue
		}
		if !l.wants(e.Type) {
			l.pass(e.ID)
			continue
		}
		if frame == nil {
			frame = frameOf(e)
		}
		if !l.push(e.ID, frame, h.cfg.Buffer) {
			l.end(endSlow)
		}
	}
}

func frameOf(e *models.StreamEvent) []byte {
	envelope := webhook.Envelope{ID: e.ID.String(), Type: e.Type, Timestamp: e.At, Metadata: e.Metadata, Data: e.Data}
	if e.SessionID != nil {
		envelope.SessionID = *e.SessionID
	}
	return envelope.Frame()
}

var errTooManyStreams = fault.New(fault.Limited, "too_many_streams", "Too many event streams are open with this credential, by this account or at all. Close some, or try again.").After(10 * time.Second)
