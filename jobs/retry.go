package jobs

import (
	"time"

	"kurir/fault"
)

// backoff is the wait after the given number of failed attempts: 1 s, 2 s, 4 s … up to most.
func backoff(attempts int, most time.Duration) time.Duration {
	if attempts < 1 {
		attempts = 1
	}
	if attempts > 16 {
		return most
	}
	return min(time.Second<<(attempts-1), most)
}

// permanent reports whether trying again is in vain: the fault lies in what was asked, not in a part that is down.
func permanent(err error) bool {
	switch fault.Of(err) {
	case fault.Internal, fault.Unavailable, fault.Limited, fault.BadGateway, fault.Timeout:
		return false
	}
	return true
}
