// Package address brings the ways in which people write a recipient to one form, a JID of WhatsApp: user@server. It is a
// rule and performs no I/O: whether somebody is on WhatsApp is for the network to say.
package address

import (
	"errors"
	"regexp"
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nyaruka/phonenumbers"
)

// Servers of JIDs.
const (
	Person     = "s.whatsapp.net" // a phone number
	Group      = "g.us"
	LID        = "lid"        // a person's pseudonym
	Newsletter = "newsletter" // a channel

	contact = "c.us" // another spelling of Person
)

// longest bounds what is looked at.
const longest = 128

var (
	someDigits = regexp.MustCompile(`^[0-9]+$`)
	users      = map[string]*regexp.Regexp{
		Person:     regexp.MustCompile(`^[0-9]{7,15}$`), // E.164: country code and number
		Group:      regexp.MustCompile(`^[0-9]{5,25}(-[0-9]{5,25})?$`),
		LID:        regexp.MustCompile(`^[0-9]{5,25}$`),
		Newsletter: regexp.MustCompile(`^[0-9]{5,25}$`),
	}
	separators = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "", "/", "", "\u00a0", "", "\u2011", "")
)

// Reasons for a refusal, each a sentence for the client.
var (
	errForm        = errors.New("expected a phone number with country code, 7 to 15 digits, or a WhatsApp address")
	errServer      = errors.New("expected an address at s.whatsapp.net, c.us, g.us, lid or newsletter")
	errStatus      = errors.New("status updates cannot be sent: expected a person, a group or a channel")
	errLocal       = errors.New("this looks like a number without its country code: write 62812… instead of 0812…")
	errPrefix      = errors.New("leave out the 00 before the country code")
	errTrunk       = errors.New("leave out the 0 between country code and number")
	errCountry     = errors.New("no country code begins like this")
	errTooShort    = errors.New("the number is too short for its country")
	errTooLong     = errors.New("the number is too long for its country")
	errImpossible  = errors.New("no number of that country has this length")
	errPhoneNumber = errors.New("expected a phone number with country code")
)

// Parse returns the JID of a recipient: digits, +digits (with the usual separators) and …@c.us become
// …@s.whatsapp.net; …@g.us, …@lid and …@newsletter stay. What it returns, it returns again for its own result. The error
// is a sentence for the client.
func Parse(text string) (string, error) {
	text = strings.TrimSpace(text)
	if len(text) > longest {
		return "", errForm
	}
	user, server, isJID := strings.Cut(text, "@")
	if !isJID {
		number, err := Phone(text)
		if err != nil {
			return "", err
		}
		return number + "@" + Person, nil
	}
	server = strings.ToLower(server)
	if server == contact {
		server = Person
	}
	grammar, known := users[server]
	switch {
	case strings.HasSuffix(server, "broadcast"):
		return "", errStatus
	case !known:
		return "", errServer
	case !grammar.MatchString(user):
		return "", errors.New("expected digits before @" + server)
	}
	return user + "@" + server, nil
}

// Phone returns the digits of a phone number with country code. Digits are never changed: what the numbering plan would
// write otherwise may be how WhatsApp knows the account.
func Phone(text string) (string, error) {
	text = strings.TrimSpace(text)
	number := strings.TrimPrefix(separators.Replace(text), "+")
	switch {
	case len(text) > longest || !someDigits.MatchString(number):
		return "", errForm
	case strings.HasPrefix(number, "00"):
		return "", errPrefix
	case strings.HasPrefix(number, "0"):
		return "", errLocal
	case !users[Person].MatchString(number):
		return "", errForm
	}
	if _, known := fit.Get(number); known {
		return number, nil
	}
	if err := possible(number); err != nil {
		return "", err
	}
	fit.Add(number, struct{}{})
	return number, nil
}

// fit are numbers that passed, of whom people write to the same again and again: to look into the plans takes longer than all
// else that an accept does with a message.
var fit, _ = lru.New[string, struct{}](1 << 14) // fails for sizes below 1 only

// mexican is how WhatsApp knows Mexican accounts that are older than the plan of 2019, which dropped the 1.
var mexican = regexp.MustCompile(`^521[0-9]{10}$`)

// possible asks the numbering plans. IsPossible looks at country code and length only, which is what catches slips of
// the pen. IsValid would know the ranges in use, and refuse those that were opened after the library was released.
func possible(number string) error {
	if mexican.MatchString(number) {
		return nil
	}
	parsed, err := phonenumbers.Parse("+"+number, phonenumbers.UNKNOWN_REGION)
	switch {
	case errors.Is(err, phonenumbers.ErrInvalidCountryCode):
		return errCountry
	case err != nil:
		return errPhoneNumber
	}
	switch phonenumbers.IsPossibleNumberWithReason(parsed) {
	case phonenumbers.TOO_SHORT:
		return errTooShort
	case phonenumbers.TOO_LONG:
		return errTooLong
	case phonenumbers.INVALID_COUNTRY_CODE:
		return errCountry
	case phonenumbers.INVALID_LENGTH:
		return errImpossible
	}
	written := strings.TrimPrefix(phonenumbers.Format(parsed, phonenumbers.E164), "+")
	if isTrunk(number, written) {
		return errTrunk
	}
	return nil
}

// isTrunk reports whether a number is the one that the plan would write, but for a 0 that is dialled inside the country.
func isTrunk(number, written string) bool {
	if len(number) != len(written)+1 {
		return false
	}
	for i := 1; i <= 3 && i < len(number); i++ { // a country code has 1 to 3 digits
		if number[i] == '0' && number[:i]+number[i+1:] == written {
			return true
		}
	}
	return false
}
