package main

import (
	"fmt"
	"net/http"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	people   = 100 // that each session writes to
	wordsOut = "Hello, your order is on its way and arrives tomorrow"
)

// personOf is a phone number on the simulated network, where those that end in 0000 are not.
func personOf(n uint64) string { return fmt.Sprintf("62812000%05d", 11111+n%people) }

// sends are texts from some sessions in turn, each to its people in turn.
func (r *rig) sends(phones []session) func(n uint64, t *vegeta.Target) {
	bodies := make([][]byte, people)
	for i := range bodies {
		bodies[i] = fmt.Appendf(nil, `{"to":"%s","type":"text","message":"%s"}`, personOf(uint64(i)), wordsOut)
	}
	urls, headers := make([]string, len(phones)), make([]http.Header, len(phones))
	for i, s := range phones {
		urls[i], headers[i] = r.api+"/api/v1/sessions/"+s.id+"/send", headersOf(s.key)
	}
	all := uint64(len(phones))
	return func(n uint64, t *vegeta.Target) {
		t.Method, t.URL, t.Header, t.Body = http.MethodPost, urls[n%all], headers[n%all], bodies[n/all%people]
	}
}
