package api

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
	"kurir/webhook"
)

// StreamQuery is what a client may say of the stream that it wants.
type StreamQuery struct {
	Types       []string `query:"types" maxItems:"50" doc:"Only events of these types, with commas between them. Left out: all" example:"[\"message.received\",\"session.status\"]"`
	LastEventID string   `header:"Last-Event-ID" maxLength:"100" doc:"The ID of the last event that came: go on behind it. Browsers send it by themselves. The ID of an event that a webhook brought works too, and 0 asks for all that is kept"`
	After       string   `query:"lastEventId" maxLength:"100" doc:"The same as Last-Event-ID, for those who cannot send headers"`
}

// SessionStreamInput asks for a session's events.
type SessionStreamInput struct {
	SessionPath
	StreamQuery
}

const (
	streamStart = "0"             // as an ID: before all events
	streamRetry = 2 * time.Second // until a client that was cut off connects again
	streamPage  = 200             // events of a query, when a client catches up
)

// streamReset is the data of the event reset, the one that is no row.
type streamReset struct {
	Reason string `json:"reason" enum:"unknown_event" doc:"The event that you named is not kept any more, or never was yours. Events may have passed: read what you need anew"`
}

// eventStream is a client that follows events.
type eventStream struct {
	api   *API
	l     *listener
	after models.EventPlace // what the client has
	fresh bool              // it asked for nothing that was before
	reset bool              // what it asked for is not there
	told  uuid.UUID         // the ID that the client has
	seen  uuid.UUID         // that, or of a later event that it does not want
}

func (a *API) accountEvents(ctx context.Context, in *StreamQuery) (*huma.StreamResponse, error) {
	return a.followEvents(ctx, in, nil)
}

func (a *API) sessionEvents(ctx context.Context, in *SessionStreamInput) (*huma.StreamResponse, error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.followEvents(ctx, &in.StreamQuery, &s.UID)
}

func (a *API) followEvents(ctx context.Context, in *StreamQuery, session *uuid.UUID) (*huma.StreamResponse, error) {
	types, err := streamTypes(in.Types)
	if err != nil {
		return nil, err
	}
	p := callerOf(ctx)
	s := &eventStream{api: a, l: &listener{of: models.EventSource{User: p.user.ID, Session: session}, types: types, until: p.until, wake: make(chan struct{}, 1), write: a.hub.cfg.Write}}
	s.l.grant, s.l.noQR = p.grant(), !p.holds(models.ScopeManage)
	s.l.grant.Session = session
	if err := s.begin(ctx, in); err != nil {
		return nil, err
	}
	release, ok := a.hub.slots.take(p.credential, p.user.ID)
	if !ok {
		return nil, errTooManyStreams
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		c := humafiber.Unwrap(ctx)
		s.l.conn = c.Context().Conn()
		a.stream(c, s.l, release, s.run)
	}}, nil
}

// streamTypes checks the names of types.
func streamTypes(names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	var unknown *webhook.UnknownEventsError
	if err := webhook.ValidEvents(names); errors.As(err, &unknown) {
		return nil, fault.Field("types", short(unknown.Error()))
	} else if err != nil {
		return nil, fault.Field("types", err.Error())
	}
	if slices.Contains(names, webhook.All) {
		return nil, nil
	}
	return names, nil
}

// begin finds the place that the client names. A name that leads nowhere is no reason to refuse it: it would ask again and
// again.
func (s *eventStream) begin(ctx context.Context, in *StreamQuery) error {
	named := in.LastEventID
	if named == "" {
		named = in.After
	}
	horizon, err := models.EventHorizon(ctx, s.api.db.Pool)
	if err != nil {
		return databaseFault(err)
	}
	switch {
	case named == "":
		s.fresh = true
		return nil
	case named == streamStart:
		return nil
	}
	id, err := uuid.Parse(named)
	if err == nil && len(named) == 36 {
		var ok bool
		if s.after, ok, err = models.PlaceOf(ctx, s.api.db.Pool, s.l.of, id, horizon); err != nil {
			return databaseFault(err)
		} else if ok {
			s.told, s.seen = id, id
			return nil
		}
	}
	s.fresh, s.reset = true, true
	return nil
}

// run writes the stream until it ends.
func (s *eventStream) run(w *writer) string {
	ctx := s.api.hub.life
	if s.api.hub.enter(ctx, s.l) != nil {
		return endShutdown
	}
	if why := s.catchUp(ctx, w); why != "" {
		return why
	}
	beat := time.NewTicker(s.api.hub.cfg.Heartbeat)
	defer beat.Stop()
	for {
		b := s.l.take()
		if b.ended != "" {
			return b.ended
		}
		if len(b.frames) > 0 {
			if !w.send(b.frames...) {
				return endGone
			}
			s.told = b.told
		}
		if b.seen != uuid.Nil {
			s.seen = b.seen
		}
		select {
		case <-s.l.wake:
		case <-beat.C:
			if !s.heartbeat(w) {
				return endGone
			}
		}
	}
}

// heartbeat keeps the connection alive. Where events passed that the client does not want, it moves the client's place, so
// that it need not pass them again, or find that the last one that it has is no longer kept.
func (s *eventStream) heartbeat(w *writer) bool {
	if s.seen == s.told {
		return w.send(webhook.Heartbeat())
	}
	s.told = s.seen
	return w.send(webhook.Heartbeat(), webhook.Mark(s.seen.String(), streamRetry))
}

// catchUp brings the client to where the hub is: first page by page on its own, so that others need not wait and its buffer
// does not fill; then what is left between the last page and the place from which the hub's events come.
func (s *eventStream) catchUp(ctx context.Context, w *writer) (why string) {
	if !s.fresh {
		if !w.send(webhook.Heartbeat()) { // that we are there, however long it takes
			return endGone
		}
		horizon, err := models.EventHorizon(ctx, s.api.db.Pool)
		if err != nil {
			return endDatabase
		}
		if why := s.read(ctx, w, models.EventPlace{Xact: horizon}); why != "" {
			return why
		}
	}
	from, err := s.api.hub.listen(ctx, s.l, s.after)
	switch {
	case errors.Is(err, errLeaving):
		return endShutdown
	case err != nil:
		return endDatabase
	case s.fresh:
		return s.greet(ctx, w, from)
	}
	return s.read(ctx, w, from)
}

// greet tells a client that begins here what to ask for, should it be cut off before the first event.
func (s *eventStream) greet(ctx context.Context, w *writer, from models.EventPlace) (why string) {
	last, err := models.LastEvent(ctx, s.api.db.Pool, s.l.of, from)
	if err != nil {
		return endDatabase
	}
	id := streamStart
	if last != uuid.Nil {
		id, s.told, s.seen = last.String(), last, last
	}
	frames := [][]byte{webhook.Mark(id, streamRetry)}
	if s.reset {
		frames = append(frames, webhook.Frame(id, "reset", streamReset{Reason: "unknown_event"}))
	}
	if !w.send(frames...) {
		return endGone
	}
	return ""
}

// read writes all events from the client's place up to another one.
func (s *eventStream) read(ctx context.Context, w *writer, upTo models.EventPlace) (why string) {
	for s.after.Before(upTo) {
		events, err := models.EventsBetween(ctx, s.api.db.Pool, s.l.of, s.after, upTo, s.l.types, streamPage)
		if err != nil {
			return endDatabase
		}
		var frames [][]byte
		for i := range events {
			if e := &events[i]; s.l.wants(e.Type) {
				frames, s.told = append(frames, frameOf(e)), e.ID
			}
		}
		if len(events) > 0 {
			s.seen = events[len(events)-1].ID
		}
		if len(frames) > 0 && !w.send(frames...) || time.Since(w.last) > s.api.hub.cfg.Heartbeat && !s.heartbeat(w) {
			return endGone
		}
		s.after = upTo
		if len(events) == streamPage {
			s.after = events[streamPage-1].EventPlace
		}
		if s.l.hasEnded() {
			return s.l.take().ended
		}
	}
	return ""
}

// streamResponses documents what streams answer.
func streamResponses(o *huma.Operation) {
	o.Responses = map[string]*huma.Response{"200": {Description: "Events, one after the other, until one side ends it",
		Content: map[string]*huma.MediaType{"text/event-stream": {
			Schema: &huma.Schema{Type: "string", Description: "Each event's `data` is a StreamEvent as JSON, or, after `event: reset`, a StreamReset"},
			Example: "retry: 2000\nid: 019b3c1e-5c11-7d1c-8a3a-3f0f6f1f7f10\n\nid: 019b3c1e-6f00-7a11-9c0d-7b8a51f5e0a1\nevent: session.status\n" +
				`data: {"id":"019b3c1e-6f00-7a11-9c0d-7b8a51f5e0a1","type":"session.status","timestamp":"2026-01-01T00:00:00.000Z","sessionId":"shop","data":{"status":"connected","reason":null,"phoneNumber":"+6281234567890"}}` +
				"\n\n: heartbeat\n\n"}}}}
	o.Metadata[metaTicket] = true
	o.Security = append(slices.Clone(o.Security), map[string][]string{"ticket": {}})
}

// describeStreams adds the types of streams to the OpenAPI document.
func (a *API) describeStreams() {
	schemas := a.huma.OpenAPI().Components.Schemas
	schemas.Schema(reflect.TypeFor[webhook.StreamEvent](), true, "StreamEvent")
	schemas.Schema(reflect.TypeFor[streamReset](), true, "StreamReset")
}
