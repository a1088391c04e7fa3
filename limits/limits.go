// Package limits says what each tier allows: data, and pure rules over it. It counts nothing and stores nothing; the
// caller brings the figures, counted under a lock where it matters, and acts on the decision.
package limits

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Tier is what a user's account is worth, as the database writes it.
type Tier string

// The tiers, from low to high.
const (
	Basic Tier = "BASIC"
	Pro   Tier = "PRO"
	Max   Tier = "MAX"
)

// Tiers returns every tier, from low to high.
func Tiers() []Tier { return []Tier{Basic, Pro, Max} }

// ParseTier reads a tier in upper or lower case.
func ParseTier(text string) (Tier, error) {
	tier := Tier(strings.ToUpper(text))
	if !slices.Contains(Tiers(), tier) {
		return "", fmt.Errorf("tier %q is none of basic, pro, max", text)
	}
	return tier, nil
}

// rank orders the tiers; -1 is none of them.
func (t Tier) rank() int { return slices.Index(Tiers(), t) }

// Limits is what a tier allows.
type Limits struct {
	Sessions        int // that are not deleted, whatever their status
	MessagesPerHour int // accepted, per user; a batch counts each
}

// Config holds the limits of every tier. An operator may change them; Default is where he starts from.
type Config map[Tier]Limits

// Default returns the limits of the customer's brief.
func Default() Config {
	return Config{
		Basic: {Sessions: 1, MessagesPerHour: 100},
		Pro:   {Sessions: 5, MessagesPerHour: 1_000},
		Max:   {Sessions: 20, MessagesPerHour: 10_000},
	}
}

// Validate reports every tier that is missing, unknown or has a negative limit. A limit of 0 is a way to close a tier.
func (c Config) Validate() error {
	var errs []error
	for _, tier := range Tiers() {
		l, ok := c[tier]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("tier %s has no limits", tier))
		case l.Sessions < 0:
			errs = append(errs, fmt.Errorf("tier %s: %d sessions", tier, l.Sessions))
		case l.MessagesPerHour < 0:
			errs = append(errs, fmt.Errorf("tier %s: %d messages per hour", tier, l.MessagesPerHour))
		}
	}
	for _, tier := range slices.Sorted(maps.Keys(c)) {
		if tier.rank() < 0 {
			errs = append(errs, fmt.Errorf("tier %q is unknown", tier))
		}
	}
	return errors.Join(errs...)
}

// For returns what a tier allows. An unknown tier gets what Basic gets: a row that we do not understand is no reason to
// give more.
func (c Config) For(t Tier) Limits {
	if l, ok := c[t]; ok {
		return l
	}
	return c[Basic]
}

// AllowedSelfService reports whether somebody may give himself the wanted tier when he registers, where highest is what
// the operator allows. Anything unknown is refused.
func AllowedSelfService(highest, wanted Tier) bool {
	return wanted.rank() >= 0 && wanted.rank() <= highest.rank()
}
