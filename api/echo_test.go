package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// EchoInput takes any JSON object, as a send takes its own.
type EchoInput struct {
	SessionPath
	SendHeaders
	Body map[string]any
}

// AddEcho adds a route that takes media as sends do, and answers what became of the body.
func AddEcho(a *API) {
	add(a, http.MethodPost, "/sessions/{id}/echo/send", "echo-send", accessSession, "Echo", func(ctx context.Context, in *EchoInput) (*Reply[map[string]any], error) {
		return reply(map[string]any{"body": in.Body, "id": newResourceID(ctx)}), nil
	}, once("echo"), takes(takesMessage))
}

// TakeKeys are the operations that an Idempotency-Key guards.
func (a *API) TakeKeys() map[string]bool {
	list := map[string]bool{}
	for _, item := range a.huma.OpenAPI().Paths {
		for _, o := range []*huma.Operation{item.Get, item.Post, item.Put, item.Patch, item.Delete} {
			if o != nil && o.Metadata[metaIdempotent] != nil {
				list[o.OperationID] = true
			}
		}
	}
	return list
}
