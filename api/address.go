package api

import (
	"regexp"
	"strings"

	"kurir/fault"
)

// Servers of WhatsApp addresses.
const (
	serverPerson  = "s.whatsapp.net"
	serverContact = "c.us" // another spelling of a person's
)

var (
	digitsOnly = regexp.MustCompile(`^[0-9]{7,15}$`) // E.164: country code and number
	groupID    = regexp.MustCompile(`^[0-9]{5,25}(-[0-9]{5,25})?$`)
	someID     = regexp.MustCompile(`^[0-9]{5,25}$`)
	separators = strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "")
)

// parseAddress brings a recipient to its one form, a JID: digits, +digits (with the usual separators) and @c.us become
// …@s.whatsapp.net; @g.us, @lid and @newsletter stay.
func parseAddress(to string) (string, error) {
	to = strings.TrimSpace(to)
	user, server, isJID := strings.Cut(to, "@")
	if !isJID {
		number := strings.TrimPrefix(separators.Replace(user), "+")
		if !digitsOnly.MatchString(number) {
			return "", fault.Field("to", "expected a phone number with country code, 7 to 15 digits, or a WhatsApp address")
		}
		return number + "@" + serverPerson, nil
	}
	valid := false
	switch server = strings.ToLower(server); server {
	case serverPerson, serverContact:
		server, valid = serverPerson, digitsOnly.MatchString(user)
	case "g.us":
		valid = groupID.MatchString(user)
	case "lid", "newsletter":
		valid = someID.MatchString(user)
	default:
		return "", fault.Field("to", "expected an address at s.whatsapp.net, c.us, g.us, lid or newsletter")
	}
	if !valid {
		return "", fault.Field("to", "expected digits before @"+server)
	}
	return user + "@" + server, nil
}
