package models

import "slices"

// Scope is a part of what an account may do, given to a key of it. docs/keys.md says what belongs to which.
type Scope string

// Scopes of account keys. A key of a session has all of them, for its session.
const (
	ScopeSend   Scope = "send"   // what goes out to people
	ScopeRead   Scope = "read"   // what is there
	ScopeManage Scope = "manage" // what should be: sessions, webhooks, groups, retention
)

// AllScopes are all that there are, in the order in which they are shown.
func AllScopes() []Scope { return []Scope{ScopeSend, ScopeRead, ScopeManage} }

// SortScopes brings scopes into one order, each once.
func SortScopes(given []Scope) []Scope {
	return slices.DeleteFunc(AllScopes(), func(s Scope) bool { return !slices.Contains(given, s) })
}
