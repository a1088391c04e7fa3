package limits

import (
	"errors"
	"fmt"
	"time"
)

// Names of what is limited: labels of metrics, and names of policies. The set is closed.
const (
	OfAddress       = "address"            // requests without a valid credential, by IP address
	OfCredential    = "credential"         // requests with one, by it; sends are not among them
	OfSessionOps    = "session_operations" // by user
	OfRegistrations = "registrations"      // by IP address
	OfLogins        = "logins"             // failed ones
	OfMessages      = "messages"           // by user, of the tier
	OfSessions      = "sessions"           // by user, of the tier
	OfNewKeys       = "new_keys"           // API keys that were made, by user
)

// Names returns all of them.
func Names() []string {
	return []string{OfAddress, OfCredential, OfSessionOps, OfRegistrations, OfLogins, OfMessages, OfSessions, OfNewKeys}
}

// Requests is how many requests are let in.
type Requests struct {
	Window        time.Duration // of the first two
	PerAddress    int           // without a valid credential
	PerCredential int
	SessionOps    int // per minute and user
	Registrations int // per hour and address
	Logins        Logins
}

// DefaultRequests returns the limits of the customer's brief.
func DefaultRequests() Requests {
	return Requests{Window: 15 * time.Minute, PerAddress: 1000, PerCredential: 1000, SessionOps: 60, Registrations: 10, Logins: DefaultLogins()}
}

// Validate reports limits that nobody could live with.
func (r Requests) Validate() error {
	var errs []error
	if r.Window < time.Second || r.Window > 24*time.Hour {
		errs = append(errs, fmt.Errorf("a window of %s is not between a second and a day", r.Window))
	}
	if r.PerAddress < 1 || r.PerCredential < 1 || r.SessionOps < 1 || r.Registrations < 1 {
		errs = append(errs, errors.New("requests per address and credential, session operations and registrations must be 1 or more"))
	}
	return errors.Join(append(errs, r.Logins.Validate())...)
}

// slotsOf cuts windows of requests: what is used comes back within a fifteenth of the window.
const slotsOf = 15

// Address is the policy for requests without a valid credential.
func (r Requests) Address() Policy {
	return Policy{Name: OfAddress, Limit: r.PerAddress, Window: r.Window, Slots: slotsOf}
}

// Credential is the policy for requests with one.
func (r Requests) Credential() Policy {
	return Policy{Name: OfCredential, Limit: r.PerCredential, Window: r.Window, Slots: slotsOf}
}

// Operations is the policy for operations on sessions.
func (r Requests) Operations() Policy {
	return Policy{Name: OfSessionOps, Limit: r.SessionOps, Window: time.Minute, Slots: slotsOf}
}

// Registering is the policy for registrations.
func (r Requests) Registering() Policy {
	return Policy{Name: OfRegistrations, Limit: r.Registrations, Window: time.Hour, Slots: slotsOf}
}

// newKeysPerHour is above how many keys an account can have: who replaces all of his at once is not held up.
const newKeysPerHour = 100

// NewKeys is the policy for making API keys: each has requests of its own, so they are not to be had without end.
func (r Requests) NewKeys() Policy {
	return Policy{Name: OfNewKeys, Limit: newKeysPerHour, Window: time.Hour, Slots: slotsOf}
}

// Messages is the policy for the messages of a user. A message is counted when it is let in, and is a fact when it is
// stored: Late makes sure that no hour of stored messages has more than the limit, as long as storing takes less than a
// minute.
func (l Limits) Messages() Policy {
	return Policy{Name: OfMessages, Limit: l.MessagesPerHour, Window: time.Hour, Slots: 60, Late: 1}
}

// With returns the limits with those that an administrator has set for one user. nil leaves the tier's.
func (l Limits) With(sessions, messagesPerHour *int) Limits {
	if sessions != nil {
		l.Sessions = *sessions
	}
	if messagesPerHour != nil {
		l.MessagesPerHour = *messagesPerHour
	}
	return l
}
