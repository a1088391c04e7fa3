package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/wire"
	"kurir/worker"
)

// Every end that WhatsApp puts to a connection is a status, a reason, and whether it is tried again.
func TestEndings(t *testing.T) {
	t.Parallel()
	e := &Engine{log: slog.New(slog.DiscardHandler)}
	l := &link{c: &conn{engine: e, log: e.log}}
	for _, c := range []struct {
		event          any
		status, reason string
		again          bool // by itself
		unlinked       bool
	}{
		{&events.LoggedOut{Reason: events.ConnectFailureLoggedOut}, wire.StatusDisconnected, "logged_out", false, true},
		{&events.LoggedOut{OnConnect: true, Reason: events.ConnectFailureLoggedOut}, wire.StatusDisconnected, "logged_out", false, true},
		{&events.LoggedOut{OnConnect: true, Reason: events.ConnectFailureMainDeviceGone}, wire.StatusError, "account_locked", false, true},
		{&events.LoggedOut{OnConnect: true, Reason: events.ConnectFailureUnknownLogout}, wire.StatusError, "banned", false, true},
		{&events.TemporaryBan{Code: events.TempBanSentToTooManyPeople, Expire: time.Hour}, wire.StatusError, "banned", true, false},
		{&events.TemporaryBan{}, wire.StatusError, "banned", true, false},
		{&events.ClientOutdated{}, wire.StatusError, "client_outdated", false, false},
	} {
		var end *ending
		require.ErrorAs(t, l.ending(c.event), &end)
		require.Equal(t, []any{c.status, c.reason, c.again, c.unlinked}, []any{end.status, end.reason, !end.until.IsZero(), end.unlinked}, "%T %+v", c.event, c.event)
		if c.again {
			require.Greater(t, time.Until(end.until), 50*time.Minute)
		}
	}
	require.True(t, e.outdated.Load())
	require.True(t, endBanned.until.IsZero(), "a ban of one session is not every session's")
	for _, event := range []any{&events.CATRefreshError{Error: errors.New("no")}, &events.ConnectFailure{Reason: events.ConnectFailureExperimental}} {
		require.Equal(t, reasonRefused, reasonOf(l.ending(event)))
	}
	require.NoError(t, l.ending(&events.KeepAliveRestored{}))
}

// A change of what is wrong is told, and what is the same as before is not.
func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	var told []string
	c := &conn{out: func(e worker.Event) {
		d := e.Data.(wire.StatusData)
		told = append(told, fmt.Sprint(d.Status, " ", d.Reason, " ", d.Until != nil))
	}}
	soon := time.Now().Add(time.Hour)
	for range 2 {
		c.setStatus(wire.StatusReconnecting, reasonStorage)
	}
	for range 2 {
		c.setStatus(wire.StatusReconnecting, reasonLost)
	}
	c.ended(&ending{status: wire.StatusError, reason: reasonBanned, until: soon})
	for range 2 {
		c.ended(endBanned)
	}
	require.Equal(t, []string{"reconnecting storage_unavailable false", "reconnecting connection_lost false", "error banned true", "error banned false"}, told)
}

func TestReasonsOfTrouble(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		reasonLeaseLost: worker.ErrLeaseLost, reasonUnreachable: fmt.Errorf("%w: dial", errUnreachable), reasonStorage: fmt.Errorf("%w: x", errStorage),
		reasonRefused: errRefused, reasonLost: errPanic,
	} {
		require.Equal(t, want, reasonOf(err))
	}
}

// After a send that WhatsApp or whatsmeow ends with an error, the gateway has to know whether to ask again.
func TestOutcomesOfErrors(t *testing.T) {
	t.Parallel()
	server := func(code int) error { return fmt.Errorf("%w %d", whatsmeow.ErrServerReturnedError, code) }
	for _, c := range []struct {
		err           error
		outcome, code string
	}{
		{server(404), wire.OutcomeFailed, "not_on_whatsapp"},
		{server(401), wire.OutcomeFailed, "not_authorized"},
		{server(429), wire.OutcomeThrottled, wire.CodeRateLimited},
		{server(463), wire.OutcomeThrottled, wire.CodeTemporaryBan},
		{server(500), wire.OutcomeUnknown, "error_500"},
		{whatsmeow.ErrMessageTimedOut, wire.OutcomeUnknown, ""},
		{context.DeadlineExceeded, wire.OutcomeUnknown, ""},
		{&whatsmeow.DisconnectedError{}, wire.OutcomeUnknown, ""},
		{fmt.Errorf("x: %w", whatsmeow.ErrNotInGroup), wire.OutcomeFailed, wire.CodeGroupNotFound},
		{whatsmeow.ErrUnknownServer, wire.OutcomeFailed, wire.CodeInvalidRequest},
		{errors.New("anything else"), wire.OutcomeUnknown, ""},
	} {
		got := outcomeOf(c.err)
		require.Equal(t, []string{c.outcome, c.code}, []string{got.Outcome, got.Code}, c.err)
		require.False(t, got.Timestamp.IsZero())
		require.Equal(t, c.outcome == wire.OutcomeThrottled, got.RetryAfterMs > 0)
	}
}

func TestReplacementsAreCounted(t *testing.T) {
	t.Parallel()
	var r replacements
	now := time.Now()
	for range replacementsAllowed {
		require.False(t, r.tooMany(now))
	}
	require.True(t, r.tooMany(now.Add(time.Minute)))
	require.False(t, r.tooMany(now.Add(replacementsWithin+time.Minute)), "those were long ago")
}

func TestTheLogNamesNobody(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	l := logger{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Sub("Recv").Warnf("from %s in %d", "6281234567890:3@s.whatsapp.net", 3)
	l.Debugf("<message>secret</message>")
	require.NotContains(t, out.String(), "62812345")
	require.NotContains(t, out.String(), "secret")
	require.Contains(t, out.String(), "s.whatsapp.net in 3")

	subject := waBinary.Node{Tag: "subject", Content: []byte("Ann's\nbirthday")}
	node := waBinary.Node{Tag: "notification", Attrs: waBinary.Attrs{"notify": "Ann <3", "from": "1@g.us"}, Content: []waBinary.Node{subject}}
	for _, warn := range []func(string, ...any){l.Warnf, l.Errorf} {
		warn("Node handling took %s for %s", 6*time.Second, node.XMLString())
		warn("Node handling is taking long for %s (started %s ago)", node.XMLString(), 30*time.Second)
		warn("Continuing handling of %s in background as it's taking too long", node.XMLString())
		warn("Unexpected node in grouped receipt participants: %s", subject.XMLString())
		warn("Failed to fetch prekeys: %v", &whatsmeow.IQError{RawNode: &node})
	}
	require.NotContains(t, out.String(), "Ann")
	require.NotContains(t, out.String(), "birthday")
	require.Contains(t, out.String(), "Node handling took 6s for <notification …>")
	require.Contains(t, out.String(), "participants: <subject …>")
}
