package placement

// Escape reports whether the sessions of from that cannot reach the network should be moved: only if another worker that
// is online and has room is better off, which means that a smaller share of its sessions is in trouble. Where all are in equal
// trouble it is the network itself, and moving would only add to it. A worker without sessions has none in trouble and
// counts as better off, unless it rests: then it has proved nothing. An outdated worker is never better off, and every other is
// better off than it: so nobody comes back, and where all are outdated nobody moves.
//
// Asked about two workers, Escape tells whether the second is better off than from. Callers let sessions escape only to
// such, and so never to a worker that Pick prefers but that is in the same trouble.
func Escape(workers []Worker, from string) bool {
	for i := range workers {
		if workers[i].ID == from {
			return workers[i].Troubled > 0 && anyBetterOff(workers, workers[i])
		}
	}
	return false
}

func anyBetterOff(workers []Worker, than Worker) bool {
	for _, w := range workers {
		if w.ID != than.ID && w.Room() && betterOff(w, than) {
			return true
		}
	}
	return false
}

// betterOff reports whether a smaller share of w's sessions is in trouble.
func betterOff(w, than Worker) bool {
	if w.Outdated || than.Outdated {
		return !w.Outdated
	}
	if w.Sessions <= 0 {
		return !w.Resting
	}
	return compareShares(w.Troubled, w.Sessions, than.Troubled, than.Sessions) < 0
}

// Ailing reports whether so many of a worker's sessions cannot reach the network that it is probably the worker's own
// fault: more than half, and at least three, because one or two may have a reason of their own. Sessions with
// a proxy do not count as troubled. Callers let it rest.
func Ailing(w Worker) bool {
	return w.Troubled >= 3 && 2*w.Troubled > w.Sessions
}
