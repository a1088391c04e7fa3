package ratchet

import (
	"context"
	"slices"

	"go.mau.fi/libsignal/state/record"
	"go.mau.fi/whatsmeow/store"
)

// maxStates is how many former states libsignal keeps of a session.
const maxStates = 40

// States are a device's keys of which a message turns only those that it was encrypted under. Two devices that write to each other for
// the first time at once have two states of their session, and the next message may come under either. libsignal tries one after the
// other, and turns those that do not fit as well: what is encrypted under these afterwards, nobody can read.
func States(inner store.SessionStore) store.SessionStore { return states{inner} }

type states struct{ store.SessionStore }

// PutSession implements store.SessionStore. The present state is the one that was used; the former ones stay as they were.
func (s states) PutSession(ctx context.Context, address string, session []byte) error {
	session, err := s.untouched(ctx, address, session)
	if err != nil {
		return err
	}
	return s.SessionStore.PutSession(ctx, address, session)
}

func (s states) untouched(ctx context.Context, address string, session []byte) ([]byte, error) {
	after, err := store.SignalProtobufSerializer.Session.Deserialize(session)
	if err != nil || len(after.PreviousStates) == 0 {
		return session, err
	}
	former, err := s.SessionStore.GetSession(ctx, address)
	if err != nil || former == nil {
		return session, err
	}
	before, err := store.SignalProtobufSerializer.Session.Deserialize(former)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{string(after.SessionState.SenderBaseKey): true} // each state has a key of its own
	after.PreviousStates = slices.DeleteFunc(append([]*record.StateStructure{before.SessionState}, before.PreviousStates...), func(state *record.StateStructure) bool {
		key := string(state.SenderBaseKey)
		again := known[key]
		known[key] = true
		return again
	})
	after.PreviousStates = after.PreviousStates[:min(len(after.PreviousStates), maxStates)]
	return store.SignalProtobufSerializer.Session.Serialize(after), nil
}
