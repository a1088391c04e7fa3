package limits

import (
	"errors"
	"time"
)

// Logins says how failed logins are slowed down, so that passwords can't be guessed and nobody can lock somebody else out.
type Logins struct {
	Failures   int           // of an address at one account, per window; then it waits
	PerAddress int           // of an address at all accounts, per window
	PerAccount int           // of all addresses at an account, per hour: then it is under attack
	Delay      time.Duration // of an attempt at such an account, from an address that it does not know
}

// DefaultLogins returns what is good for most.
func DefaultLogins() Logins {
	return Logins{Failures: 5, PerAddress: 50, PerAccount: 50, Delay: time.Second}
}

// Validate reports limits under which nobody could log in.
func (l Logins) Validate() error {
	if l.Failures < 1 || l.PerAddress < 1 || l.PerAccount < 1 || l.Delay < 0 || l.Delay > 10*time.Second {
		return errors.New("failed logins per account and per address must be 1 or more, the delay from 0 to 10s")
	}
	return nil
}

// loginWindow is that of failures.
const loginWindow = 15 * time.Minute

// AtAccount counts the failures of an address at one account.
func (l Logins) AtAccount() Policy {
	return Policy{Name: OfLogins, Limit: l.Failures, Window: loginWindow, Slots: slotsOf}
}

// FromAddress counts the failures of an address at all accounts.
func (l Logins) FromAddress() Policy {
	return Policy{Name: OfLogins, Limit: l.PerAddress, Window: loginWindow, Slots: slotsOf}
}

// OfAccount counts the failures of all addresses at an account.
func (l Logins) OfAccount() Policy {
	return Policy{Name: OfLogins, Limit: l.PerAccount, Window: time.Hour, Slots: slotsOf}
}

// Known remembers from which addresses an account was logged into: for at least 30 days.
func (l Logins) Known() Policy {
	return Policy{Name: OfLogins, Limit: 1 << 30, Window: 30 * 24 * time.Hour, Slots: slotsOf}
}

// Tries is what is known about an attempt to log in before the password is looked at.
type Tries struct {
	AtAccount   Quota // of the address at the account
	FromAddress Quota // of the address
	OfAccount   Quota // of the account
	Known       bool  // the account was logged into from this address
}

// LoginDecision says what to do with an attempt.
type LoginDecision struct {
	Allowed bool
	Retry   time.Duration
	Delay   time.Duration // before the password is looked at
}

// CanTryLogin decides about an attempt. It depends on what failed before, never on whether the account exists.
//
// An address that has not failed is always let in: refusing it would be a way to lock the owner out. While many addresses
// guess at one account, an attempt from an address that the account does not know takes longer, and has one try instead of
// several. An address that the account knows feels neither that, nor what others behind the same address did at other
// accounts.
func (l Logins) CanTryLogin(t Tries) LoginDecision {
	failed := t.AtAccount.Limit - t.AtAccount.Left
	attacked := !t.OfAccount.Allowed && !t.Known
	switch {
	case !t.AtAccount.Allowed:
		return LoginDecision{Retry: t.AtAccount.Retry}
	case !t.FromAddress.Allowed && !t.Known:
		return LoginDecision{Retry: t.FromAddress.Retry}
	case attacked && failed > 0:
		return LoginDecision{Retry: t.AtAccount.Reset}
	case attacked:
		return LoginDecision{Allowed: true, Delay: l.Delay}
	}
	return LoginDecision{Allowed: true}
}
