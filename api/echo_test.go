package api

import (
	"context"
	"net/http"
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
