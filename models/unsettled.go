package models

// What is not settled is little among what is, and partial indexes hold it: one what is free to be claimed, one what is held,
// one what was claimed. PostgreSQL uses a partial index only if the statement repeats its condition, so whoever looks for
// such messages asks for each kind by itself. Otherwise it would read the whole history.
const (
	freeOnes    = `m.status = 'PENDING' AND m.next_attempt_at IS NULL`
	heldOnes    = `m.status = 'PENDING' AND m.next_attempt_at IS NOT NULL`
	claimedOnes = `m.status = 'SENDING'`
)

func eachOf(columns, where, rest string, kinds ...string) string {
	text := ""
	for i, kind := range kinds {
		if i > 0 {
			text += " UNION ALL "
		}
		text += "(SELECT " + columns + " FROM messages m WHERE " + where + " AND " + kind + rest + ")"
	}
	return text
}

// unsettledOf selects unsettled messages m; rest is what follows the condition of each kind.
func unsettledOf(columns, where, rest string) string {
	return eachOf(columns, where, rest, freeOnes, heldOnes, claimedOnes)
}

// unsettledMessages selects those of the session $1.
func unsettledMessages(columns, rest string) string {
	return unsettledOf(columns, "m.session_uid = $1", rest)
}

// waitingMessages selects those of the session $1 that were never tried.
func waitingMessages(columns, rest string) string {
	return eachOf(columns, "m.session_uid = $1", rest, freeOnes, heldOnes)
}
