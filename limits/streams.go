package limits

import "errors"

// Streams is how many event streams may be open at once, at one API process.
type Streams struct {
	PerCredential int // an API key, or a login
	PerUser       int // all of his credentials together
	PerProcess    int // of everybody
}

// DefaultStreams returns what is good for most.
func DefaultStreams() Streams { return Streams{PerCredential: 20, PerUser: 100, PerProcess: 5_000} }

// Validate reports limits that no stream could pass.
func (s Streams) Validate() error {
	if s.PerCredential < 1 || s.PerUser < 1 || s.PerProcess < 1 {
		return errors.New("streams per credential, user and process must be 1 or more")
	}
	return nil
}

// CanOpenStream decides whether there may be one stream more beside those that are open.
func CanOpenStream(l, open Streams) Decision {
	left := min(l.PerCredential-open.PerCredential, l.PerUser-open.PerUser, l.PerProcess-open.PerProcess)
	return Decision{Allowed: left > 0, Limit: l.PerCredential, Left: max(left-1, 0)}
}
