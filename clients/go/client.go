// Package kurir is a client of Kurir's API. What is in client.gen.go is generated from the OpenAPI document: a method for each
// operation, a type for each body. This file adds what no document can say: credentials, repeats, errors as values.
package kurir

import (
	"net/http"
	"time"
)

// Client calls one Kurir with one credential. Its methods whose names end in WithResponse return typed answers; all return
// an *Error where Kurir refuses. It may be used by many goroutines.
type Client struct{ *ClientWithResponses }

// Options are for New. The zero value of each field is its default.
type Options struct {
	HTTP  *http.Client  // makes the requests; http.DefaultClient
	Tries uint          // how often a request is made at most; 4, and 1 is no repeat
	Pause time.Duration // the longest between two tries; 30 s. Where Kurir asks for a longer one, its refusal is returned at once
}

// New makes a client. server is Kurir's address without a path, such as https://kurir.example.com; credential is an account's or
// session's API key, or the token of a login, or "" for what needs none.
func New(server, credential string, o Options) (*Client, error) {
	t := &transport{http: o.HTTP, credential: credential, tries: o.Tries, pause: o.Pause}
	if t.http == nil {
		t.http = http.DefaultClient
	}
	if t.tries == 0 {
		t.tries = 4
	}
	if t.pause == 0 {
		t.pause = 30 * time.Second
	}
	generated, err := NewClientWithResponses(server, WithHTTPClient(t))
	if err != nil {
		return nil, err
	}
	return &Client{generated}, nil
}

// First is the body of an answer that has come as one of several, such as 202 or, with Prefer: wait, 200.
func First[T any](bodies ...*T) *T {
	for _, body := range bodies {
		if body != nil {
			return body
		}
	}
	return nil
}
