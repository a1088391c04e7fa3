package whatsapp

import (
	"time"

	"kurir/wire"
)

// Reasons of a session's status. docs/whatsapp.md says what to do about each.
const (
	reasonUnreachable = "unreachable"         // WhatsApp does not answer
	reasonLost        = "connection_lost"     // it did, and the connection broke
	reasonAsked       = "reconnect_requested" // by an administrator
	reasonLeaseLost   = "lease_lost"
	reasonStorage     = "storage_unavailable" // the database of credentials does not answer
	reasonRefused     = "refused"             // WhatsApp does not let the session in now
	reasonReplaced    = "replaced"            // another client uses the session's credentials
	reasonLoggedOut   = "logged_out"          // the phone removed the device, or has been away for too long
	reasonLocked      = "account_locked"      // WhatsApp has locked the account
	reasonBanned      = "banned"              // WhatsApp has banned the number, for ever or until a time that it has told
	reasonOutdated    = "client_outdated"     // WhatsApp takes this version of the worker no more
	reasonQRTimeout   = "qr_timeout"
	reasonProxy       = "proxy_invalid"
	reasonProxyFailed = "proxy_unreachable" // WhatsApp does not answer by way of the session's proxy
	reasonClosed      = "closed"
)

// ending is why a connection ended, where it does not simply begin anew.
type ending struct {
	status, reason string
	until          time.Time // it is tried again then; zero: never
	unlinked       bool      // the device is no more
}

func (e *ending) Error() string { return "the connection ended: " + e.reason }

var (
	endReplaced  = &ending{status: wire.StatusDisconnected, reason: reasonReplaced}
	endLoggedOut = &ending{status: wire.StatusDisconnected, reason: reasonLoggedOut, unlinked: true}
	endLocked    = &ending{status: wire.StatusError, reason: reasonLocked, unlinked: true}
	endBanned    = &ending{status: wire.StatusError, reason: reasonBanned, unlinked: true}
	endOutdated  = &ending{status: wire.StatusError, reason: reasonOutdated}
	endQRTimeout = &ending{status: wire.StatusDisconnected, reason: reasonQRTimeout}
	endProxy     = &ending{status: wire.StatusError, reason: reasonProxy}
)
