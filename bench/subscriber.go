package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/valyala/fasthttp"
)

// subscriber is a webhook receiver that verifies each signature with the official library.
type subscriber struct {
	url      string
	secret   string
	verifier *standard.Webhook
	server   *fasthttp.Server

	mu       sync.Mutex
	seen     map[string]bool // by webhook-id
	repeated int
	bad      int
	first    time.Time
	last     time.Time
	took     []float64 // milliseconds since the time in the text, where there is one
	seconds  []float64 // deliveries in each second since the first
}

func newSubscriber() (*subscriber, error) {
	s := &subscriber{secret: "whsec_" + secret()}
	var err error
	if s.verifier, err = standard.NewWebhook(s.secret); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.url, s.server = "http://"+l.Addr().String()+"/", &fasthttp.Server{Handler: s.receive, NoDefaultServerHeader: true}
	s.forget()
	go func() { _ = s.server.Serve(l) }() // until close
	return s, nil
}

// close does not wait for connections that a runner keeps in stock.
func (s *subscriber) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.server.ShutdownWithContext(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// forget begins anew.
func (s *subscriber) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.repeated, s.bad, s.first, s.last, s.took, s.seconds = map[string]bool{}, 0, 0, time.Time{}, time.Time{}, nil, nil
}

// sentAt stands before the time in a text whose way is timed.
const sentAt = "sent at "

func (s *subscriber) receive(c *fasthttp.RequestCtx) {
	now := time.Now()
	h := http.Header{}
	for _, name := range []string{standard.HeaderWebhookID, standard.HeaderWebhookSignature, standard.HeaderWebhookTimestamp} {
		h.Set(name, string(c.Request.Header.Peek(name)))
	}
	err := s.verifier.Verify(c.PostBody(), h)
	var e struct{ Data struct{ Message string } }
	if err == nil {
		err = json.Unmarshal(c.PostBody(), &e)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.bad++
		c.SetStatusCode(http.StatusUnauthorized)
		return
	}
	c.SetStatusCode(http.StatusNoContent)
	if id := h.Get(standard.HeaderWebhookID); s.seen[id] {
		s.repeated++
	} else {
		s.seen[id] = true
		s.count(now, e.Data.Message)
	}
}

func (s *subscriber) count(now time.Time, text string) {
	if s.first.IsZero() {
		s.first = now
	}
	s.last = now
	for second := int(now.Sub(s.first).Seconds()); len(s.seconds) <= second; {
		s.seconds = append(s.seconds, 0)
	}
	s.seconds[len(s.seconds)-1]++
	if at, ok := strings.CutPrefix(text, sentAt); ok {
		if nanos, err := strconv.ParseInt(at, 10, 64); err == nil {
			s.took = append(s.took, float64(now.UnixNano()-nanos)/1e6)
		}
	}
}

// heard waits until so many events have come, each once or more often.
func (s *subscriber) heard(ctx context.Context, n int64, within time.Duration) error {
	return eventually(ctx, within, fmt.Sprintf("%d events are delivered", n), func() (bool, string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return int64(len(s.seen)) >= n, fmt.Sprintf("%d, and %d with wrong signatures", len(s.seen), s.bad)
	})
}

// figures of what came since forget, from began on.
func (s *subscriber) figures(began time.Time) figures {
	s.mu.Lock()
	defer s.mu.Unlock()
	seconds := s.last.Sub(began).Seconds()
	f := figures{Seconds: seconds, Count: float64(len(s.seen)), PerSecond: float64(len(s.seen)) / max(seconds, 1e-9), Latency: percentilesOf(s.took),
		More: map[string]float64{"repeated": float64(s.repeated)}, Done: s.seconds}
	if s.bad > 0 {
		f.Errors = map[string]int{"wrong signature": s.bad}
	}
	return f
}
