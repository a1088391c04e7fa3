package wire

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Gateway is the worker's view of the gateway. Refusals are *Error; deadlines come with the context.
type Gateway struct {
	http  *http.Client
	base  string
	token string
}

// NewGateway makes the client of the gateway at baseURL (GATEWAY_URL), with WORKER_AUTH_TOKEN as token.
func NewGateway(httpClient *http.Client, baseURL, token string) *Gateway {
	return &Gateway{http: httpClient, base: strings.TrimRight(baseURL, "/") + "/api/v1/admin/workers", token: token}
}

// Register asks for a term. CodeWorkerLive says that the ID still has a live lease. PreviousSecret is that of
// r.PreviousTerm, and empty without one.
func (g *Gateway) Register(ctx context.Context, r Register, previousSecret string) (Registered, error) {
	var out Registered
	if err := g.call(ctx, http.MethodPost, "/register", previousSecret, r, &out); err != nil {
		return Registered{}, err
	}
	if out.Term <= 0 || out.Secret == "" || out.LeaseMs <= 0 {
		return Registered{}, fmt.Errorf("gateway: %w",
			&Error{Status: http.StatusOK, Code: CodeBadAnswer, Message: "the registration lacks term, secret or lease"})
	}
	return out, nil
}

// Heartbeat renews the lease of the worker's term.
func (g *Gateway) Heartbeat(ctx context.Context, workerID, secret string, h Heartbeat) (HeartbeatAnswer, error) {
	var out HeartbeatAnswer
	if err := g.call(ctx, http.MethodPut, "/"+url.PathEscape(workerID)+"/heartbeat", secret, h, &out); err != nil {
		return HeartbeatAnswer{}, err
	}
	if out.LeaseMs <= 0 && h.Status != HeartbeatOffline {
		return HeartbeatAnswer{}, fmt.Errorf("gateway: %w",
			&Error{Status: http.StatusOK, Code: CodeBadAnswer, Message: "the heartbeat's answer grants no lease"})
	}
	return out, nil
}

// Events hands over a batch of events; the answer acknowledges.
func (g *Gateway) Events(ctx context.Context, workerID, secret string, b EventBatch) (EventBatchAnswer, error) {
	var out EventBatchAnswer
	if err := g.call(ctx, http.MethodPost, "/"+url.PathEscape(workerID)+"/events", secret, b, &out); err != nil {
		return EventBatchAnswer{}, err
	}
	if out.Next < 1 {
		return EventBatchAnswer{}, fmt.Errorf("gateway: %w",
			&Error{Status: http.StatusOK, Code: CodeBadAnswer, Message: "the answer does not say which event is next"})
	}
	return out, nil
}

func (g *Gateway) call(ctx context.Context, method, path, secret string, in, out any) error {
	h := http.Header{}
	h.Set("Authorization", "Bearer "+g.token)
	if secret != "" {
		h.Set(HeaderSecret, secret)
	}
	if err := (call{http: g.http, method: method, url: g.base + path, header: h, in: in, out: out}).do(ctx); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}
