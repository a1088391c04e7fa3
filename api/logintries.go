package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"kurir/fault"
	"kurir/limits"
	"kurir/throttle"
)

var errLoginThrottled = fault.New(fault.Limited, "login_throttled", "Too many failed logins. Wait before you try again.")

// attempt is somebody's wish to log in, as limits see it. It is the same whether there is such an account or not.
type attempt struct {
	l                                *limiting
	rules                            limits.Logins
	atAccount, from, account, knowns string // keys
	name                             string // of the account
}

// accountName stands for the account with a mail address.
func accountName(email string) string {
	sum := sha256.Sum256([]byte(email))
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

// attemptOf is an attempt at an account from the address of the request.
func (a *API) attemptOf(ctx context.Context, email string) attempt {
	account, address := accountName(email), neighbours(addressOf(ctx))
	const prefix = "kurir:login:"
	return attempt{name: account, l: a.limiter, rules: a.cfg.Requests.Logins, atAccount: prefix + "pair:" + account + ":" + address, from: prefix + "from:" + address,
		account: prefix + "at:" + account, knowns: prefix + "known:" + account + ":" + address}
}

func (t attempt) asks(n int) []throttle.Ask {
	return []throttle.Ask{{Key: t.atAccount, Policy: t.rules.AtAccount(), N: n}, {Key: t.from, Policy: t.rules.FromAddress(), N: n},
		{Key: t.account, Policy: t.rules.OfAccount(), N: n}}
}

// take asks Redis, or memory where that is down.
func (t attempt) take(ctx context.Context, asks ...throttle.Ask) []throttle.Taken {
	taken, err := t.l.store.Take(ctx, asks...)
	if err != nil {
		t.l.unchecked(limits.OfLogins, err)
		taken, _ = t.l.memory.Take(ctx, asks...) // never fails
	}
	return taken
}

// may says whether the attempt may be made, after the time that it is to wait.
func (t attempt) may(ctx context.Context) (time.Duration, error) {
	taken := t.take(ctx, append(t.asks(0), throttle.Ask{Key: t.knowns, Policy: t.rules.Known()})...)
	d := t.rules.CanTryLogin(limits.Tries{AtAccount: taken[0].Quota, FromAddress: taken[1].Quota, OfAccount: taken[2].Quota,
		Known: taken[3].Left < taken[3].Limit})
	if !d.Allowed {
		t.l.metrics.RateLimited(limits.OfLogins)
		return 0, errLoginThrottled.After(d.Retry)
	}
	return d.Delay, nil
}

func (t attempt) failed(ctx context.Context) { t.take(ctx, t.asks(1)...) }

// succeeded forgets what failed from this address at this account, and remembers the address. What failed at other accounts
// stays: a guesser may have an account of his own.
func (t attempt) succeeded(ctx context.Context) {
	t.take(ctx, throttle.Ask{Key: t.knowns, Policy: t.rules.Known(), N: 1})
	_ = t.l.memory.Clear(ctx, t.atAccount)
	if err := t.l.store.Clear(ctx, t.atAccount); err != nil {
		t.l.unchecked(limits.OfLogins, err)
	}
}

// waiting bounds how many attempts wait at once; others are not delayed.
const waiting = 1000

// pause delays an attempt at an account that is under attack.
func (a *API) pause(ctx context.Context, d time.Duration) {
	if d == 0 || a.delayed.Add(1) > waiting {
		if d > 0 {
			a.delayed.Add(-1)
		}
		return
	}
	defer a.delayed.Add(-1)
	select {
	case <-time.After(d):
	case <-ctx.Done():
	case <-a.background.Done():
	}
}
