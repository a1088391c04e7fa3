// Package password says which passwords an account may have. It is one pure rule, for registering, changing, resetting and for
// what administrators choose; hashing is its callers'.
package password

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"

	"kurir/fault"
)

// Bounds in bytes: bcrypt reads no more than the upper one.
const (
	Min = 8
	Max = 72
)

//go:embed common.txt
var list string // lower case, a line each; common.LICENSE.txt says where it comes from

var common = sync.OnceValue(func() map[string]bool {
	words := map[string]bool{}
	for word := range strings.Lines(list) {
		words[strings.TrimSuffix(word, "\n")] = true
	}
	return words
})

// Check says what is wrong with a password for the account of a mail address: a fault of the named field, or nil.
func Check(field, plain, email string) error {
	switch {
	case len(plain) < Min || len(plain) > Max:
		return fault.Field(field, "expected 8 to 72 bytes")
	case equal(plain, email):
		return fault.Field(field, "the mail address is no password")
	case isCommon(plain):
		return fault.Field(field, "this password is one of those that are tried first: choose another one")
	}
	return nil
}

// equal compares with a mail address, and with its part before the @.
func equal(plain, email string) bool {
	local, _, _ := strings.Cut(email, "@")
	return strings.EqualFold(plain, email) || strings.EqualFold(plain, local)
}

// isCommon also finds a common password behind capitals, and between digits and signs.
func isCommon(plain string) bool {
	word := strings.ToLower(plain)
	core := strings.TrimFunc(word, func(r rune) bool { return !unicode.IsLetter(r) })
	return common()[word] || common()[core]
}
