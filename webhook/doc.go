// Package webhook holds the rules of webhook deliveries: which events there are, how a body looks and is signed, when a
// failed delivery is tried again, how many an endpoint bears side by side, and the HTTP client that hands one over and
// cannot be turned on our own network.
//
// It is not the delivery itself: it knows no database, no queue and no tenant. jobs/deliver_webhook.go acts on what is
// decided here.
package webhook
