package api

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kurir/address"
	"kurir/fault"
	"kurir/jobs"
	"kurir/models"
	"kurir/wire"
)

// callTimeout is for a session's worker to answer what is passed on to it. A worker gives its network less.
const callTimeout = 10 * time.Second

// Faults of what is passed on. Their sentences are ours: what a worker says goes to the log.
var (
	errNotConnected     = fault.New(fault.Unavailable, wire.CodeNotConnected, "The session is not connected at this moment. Try again.").After(5 * time.Second)
	errWorkerTimeout    = fault.New(fault.Timeout, "worker_timeout", "The session's worker did not answer in time. Try again.")
	errOutcomeUnknown   = fault.New(fault.Timeout, "outcome_unknown", "There was no answer in time, so nobody knows whether it was done. Look before you ask again.")
	errUnsupported      = fault.New(fault.Unsupported, wire.CodeUnsupported, "The session's engine cannot do this.")
	errBadWorkerAnswer  = fault.New(fault.BadGateway, "bad_worker_answer", "The session's worker answered something that makes no sense. If this was to change something, it may have been done.")
	errEngineFailed     = fault.New(fault.BadGateway, wire.CodeEngineFailed, "The network could not be asked.")
	errRateLimited      = fault.New(fault.Limited, wire.CodeRateLimited, "WhatsApp asks for a pause. Try again later.").After(time.Minute)
	errContactNotFound  = fault.New(fault.NotFound, wire.CodeContactNotFound, "Nobody has this address.")
	errGroupNotFound    = fault.New(fault.NotFound, wire.CodeGroupNotFound, "The session is in no such group.")
	errLabelNotFound    = fault.New(fault.NotFound, wire.CodeLabelNotFound, "The session has no such label.")
	errNotGroupAdmin    = fault.New(fault.Forbidden, wire.CodeNotGroupAdmin, "Only an administrator of the group may do this.")
	errInviteInvalid    = fault.New(fault.Conflict, wire.CodeInviteInvalid, "This invitation was revoked, or leads nowhere.")
	errNetworkRefuses   = fault.New(fault.Invalid, "invalid_request", "WhatsApp does not take this.")
	errSessionWithoutIt = fault.New(fault.Unavailable, models.ErrMigrating.Code, "The session is not at its worker at this moment. Try again.").After(2 * time.Second)
)

// refusals are what the codes of a worker mean to a client. Every other code makes no sense here.
var refusals = map[string]*fault.Error{
	wire.CodeNotConnected: errNotConnected, wire.CodeUnsupported: errUnsupported, wire.CodeNotFound: errUnsupported, // by a worker that is older
	wire.CodeLeaseLost: errSessionWithoutIt, wire.CodeStaleEpoch: errSessionWithoutIt, wire.CodeSessionNotFound: errSessionWithoutIt,
	wire.CodeStaleTerm: errSessionWithoutIt, wire.CodeUnauthenticated: errSessionWithoutIt, // another term began while we asked
	wire.CodeRateLimited: errRateLimited, wire.CodeContactNotFound: errContactNotFound, wire.CodeGroupNotFound: errGroupNotFound,
	wire.CodeLabelNotFound: errLabelNotFound, wire.CodeNotGroupAdmin: errNotGroupAdmin, wire.CodeInviteInvalid: errInviteInvalid,
	wire.CodeAlreadyLinked: errAlreadyLinked, wire.CodeQRNotReady: errQRNotReady, wire.CodeInvalidRequest: errNetworkRefuses, wire.CodeTooLarge: errNetworkRefuses,
}

// passes documents what routes answer whose work the session's worker does.
func passes(o *huma.Operation) {
	o.Errors = append(o.Errors, http.StatusNotImplemented, http.StatusBadGateway, http.StatusGatewayTimeout)
}

// pass asks something of the network of a session that is connected.
func pass[I, O any](ctx context.Context, a *API, s *models.Session, call wire.Call[I, O], in I) (O, error) {
	if err := ready(s); err != nil {
		var none O
		return none, err
	}
	return ask(ctx, a, s, call, in)
}

// ready refuses what needs a connected session.
func ready(s *models.Session) error {
	if err := notRunning(s); err != nil {
		return err
	}
	if s.LinkedAt == nil {
		return models.ErrNotLinked
	}
	if err := onTheMove(s); err != nil {
		return err
	}
	if s.Status != models.SessionConnected {
		return errNotConnected
	}
	return nil
}

// ask asks something of a session's network.
func ask[I, O any](ctx context.Context, a *API, s *models.Session, call wire.Call[I, O], in I) (O, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.callTimeout())
	defer cancel()
	out, err := jobs.Pass(ctx, a.workers, s, call, in)
	if err != nil {
		err = passFault(call.Name, call.Writes, err)
	}
	return out, err
}

func (c *Config) callTimeout() time.Duration {
	if c.CallTimeout > 0 {
		return c.CallTimeout
	}
	return callTimeout
}

// passFault says what an error of a call means. Where the call was to change something and may have, it says so. Of what a
// worker said, only the code gets into the log: its sentence may name people.
func passFault(call string, writes bool, err error) error {
	var f *fault.Error
	var timeout net.Error
	code := wire.Code(err)
	if code != "" {
		err = wire.Refuse(code, "of "+call)
	}
	late := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
	switch known, ok := refusals[code]; {
	case errors.As(err, &f):
		return err
	case ok && code != "":
		return known.WithCause(err)
	case code == wire.CodeBadAnswer:
		return errBadWorkerAnswer.WithCause(err)
	case code == "" && wire.NotSent(err):
		return jobs.ErrWorkerUnavailable.WithCause(err)
	case writes && (code == "" || code == wire.CodeEngineTimeout || code == wire.CodeEngineFailed || code == wire.CodeInternal):
		return errOutcomeUnknown.WithCause(err)
	case late, code == wire.CodeEngineTimeout:
		return errWorkerTimeout.WithCause(err)
	case code == "":
		return jobs.ErrWorkerUnavailable.WithCause(err)
	case code == wire.CodeEngineFailed, code == wire.CodeInternal:
		return errEngineFailed.WithCause(err)
	}
	return errBadWorkerAnswer.WithCause(err)
}

// parseField reads an address in a field.
func parseField(field, text string) (string, error) {
	jid, err := address.Parse(text)
	if err != nil {
		return "", fault.Field(field, err.Error())
	}
	return jid, nil
}

// parsePerson reads the address of a person.
func parsePerson(field, text string) (string, error) {
	jid, err := parseField(field, text)
	if err == nil && !strings.HasSuffix(jid, "@"+address.Person) && !strings.HasSuffix(jid, "@lid") {
		err = fault.Field(field, "expected the address of a person")
	}
	return jid, err
}

// JIDPage asks for a part of a list that is sorted by JID.
type JIDPage struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before"`
}

func (p JIDPage) page() (wire.Page, error) {
	if p.Cursor == "" {
		return wire.Page{Limit: p.Limit}, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	jid, parseErr := address.Parse(string(raw))
	if err != nil || parseErr != nil || jid != string(raw) {
		return wire.Page{}, errCursor
	}
	return wire.Page{Limit: p.Limit, After: jid}, nil
}

// cut bounds what a worker answered by what was asked for, and makes the cursor of the next page.
func cut[T any](list []T, p JIDPage, more bool, jid func(T) string) ([]T, *string) {
	if len(list) > p.Limit {
		list, more = list[:p.Limit], true
	}
	if !more || len(list) == 0 {
		return list, nil
	}
	next := base64.RawURLEncoding.EncodeToString([]byte(jid(list[len(list)-1])))
	return list, &next
}
