package limits

// Decision is the answer to a request for one thing more.
type Decision struct {
	Allowed bool
	Limit   int // of the tier
	Left    int // after this one, if allowed; never negative
}

// CanCreateSession decides whether a user with have sessions may have one more. have counts every session that is not
// deleted. A user with more than his limit, after a downgrade, keeps them and gets no new one.
func CanCreateSession(l Limits, have int) Decision {
	d := Decision{Allowed: have < l.Sessions, Limit: l.Sessions}
	if d.Allowed {
		d.Left = l.Sessions - have - 1
	}
	return d
}
