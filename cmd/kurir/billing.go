package main

import (
	"errors"
	"net/url"
	"time"
)

// Bounds of BILLING_CLOSE_AFTER: what was sent just before midnight has to be known, and a bill must not wait for ever.
const (
	soonestClose = time.Hour
	latestClose  = 28 * 24 * time.Hour
)

// checkBilling tells what is wrong with how months are closed.
func (c *config) checkBilling() (faults []error) {
	if d := time.Duration(c.BillingAfter); d < soonestClose || d > latestClose {
		faults = append(faults, errors.New("BILLING_CLOSE_AFTER must be between 1h and 28d"))
	}
	if c.BillingURL == "" {
		return faults
	}
	if u, err := url.Parse(c.BillingURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		faults = append(faults, errors.New("BILLING_WEBHOOK_URL: expected an http or https URL"))
	}
	if c.WebhookSecret == "" {
		faults = append(faults, errors.New("BILLING_WEBHOOK_URL needs WEBHOOK_SECRET, which signs what it is told"))
	}
	return faults
}
