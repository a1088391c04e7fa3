package api

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"kurir/fault"
	"kurir/jobs"
	"kurir/media"
	"kurir/models"
)

// Each operation tells which statuses it may answer with, and which codes with each: this table says so. Rather a code too
// many than one too few: the tests of the API fail where an operation answers a code that it is not said to have.

// where says of which operations something holds.
type where func(o *huma.Operation) bool

func either(conditions ...where) where {
	return func(o *huma.Operation) bool {
		return slices.ContainsFunc(conditions, func(w where) bool { return w(o) })
	}
}

func both(conditions ...where) where {
	return func(o *huma.Operation) bool {
		return !slices.ContainsFunc(conditions, func(w where) bool { return !w(o) })
	}
}

func not(w where) where { return func(o *huma.Operation) bool { return !w(o) } }

func nowhere(*huma.Operation) bool { return false }

func everywhere(*huma.Operation) bool { return true }

// named are operations by their IDs.
func named(ids ...string) where {
	return func(o *huma.Operation) bool { return slices.Contains(ids, o.OperationID) }
}

// at are operations whose address has a part.
func at(parts ...string) where {
	return func(o *huma.Operation) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(o.Path+"/", part+"/") })
	}
}

func needs(levels ...access) where {
	return func(o *huma.Operation) bool {
		need, _ := o.Metadata[metaAccess].(access)
		return slices.Contains(levels, need)
	}
}

func has(meta string) where {
	return func(o *huma.Operation) bool { on, ok := o.Metadata[meta].(bool); return ok && on }
}

func says(meta string) where {
	return func(o *huma.Operation) bool { text, _ := o.Metadata[meta].(string); return text != "" }
}

func takesJSON(o *huma.Operation) bool {
	return o.RequestBody != nil && o.RequestBody.Content["application/json"] != nil
}

func takesABody(o *huma.Operation) bool { return o.RequestBody != nil }

// isScoped are operations that ask a scope of an account's key.
func isScoped(o *huma.Operation) bool {
	scope, ok := o.Metadata[metaScope].(models.Scope)
	return ok && scope != anyScope
}

// isPassed are operations that a session's worker carries out at once.
func isPassed(o *huma.Operation) bool { return slices.Contains(o.Errors, http.StatusNotImplemented) }

var (
	tenants  = needs(accessToken, accessAccount, accessSession, accessAdmin)
	workers  = needs(accessWorker)
	sending  = has(metaSends)
	withFile = named("send", "send-message", "send-by-key", "upload-media", "worker-put-media")
	composed = either(sending, named("send", "send-message", "send-by-key"))
)

// inPages are lists that go on at a cursor.
func inPages(o *huma.Operation) bool {
	return slices.ContainsFunc(o.Parameters, func(p *huma.Param) bool { return p.Name == "cursor" })
}

var malformedJSON = &Failure{Code: "malformed_json", Sentence: "The request's body is not valid JSON.", status: http.StatusBadRequest}

// failureOfOperations is one code, by a fault that has it, and the operations that may answer it.
type failureOfOperations struct {
	err error
	of  where
}

// serverFailures are the codes of answers 5xx.
func serverFailures() (codes []string) {
	for _, d := range documentedFailures {
		if f := failureOf(d.err, ""); f.status >= 500 {
			codes = append(codes, f.Code)
		}
	}
	return codes
}

var documentedFailures = []failureOfOperations{
	{plainFailure(http.StatusBadRequest, ""), everywhere},
	{malformedJSON, takesJSON},
	{plainFailure(http.StatusRequestTimeout, ""), takesABody},
	{plainFailure(http.StatusRequestEntityTooLarge, ""), takesABody},
	{plainFailure(http.StatusUnsupportedMediaType, ""), takesABody},
	{plainFailure(http.StatusInternalServerError, ""), everywhere},
	{errNUL, everywhere}, // invalid_request
	{errLeaving, everywhere},
	{databaseFault(nil), everywhere},
	{errTookTooLong, everywhere},

	{plainFailure(http.StatusNotFound, ""), nowhere}, // what is no operation answers
	{plainFailure(http.StatusMethodNotAllowed, ""), nowhere},
	{errNoVersion, nowhere},
	{plainFailure(http.StatusNotAcceptable, ""), named("get-session-qr", "list-usage")},
	{plainFailure(http.StatusRequestHeaderFieldsTooLarge, ""), nowhere},
	{errNotReady, nowhere},

	{errNoCredential, not(needs(accessPublic))},
	{errBadToken, tenants},
	{errBadKey, either(needs(accessAccount, accessSession), tenants)},
	{errBadTicket, has(metaTicket)},
	{errForbidden, tenants},
	{errMissingScope, isScoped},
	{errAddressLimit, everywhere},
	{errCredentialLimit, tenants},
	{errNewKeys, has(metaMakesKey)},
	{errOperationsLimit, has(metaOperation)},
	{models.ErrIdempotencyMismatch, says(metaIdempotent)},
	{models.ErrIdempotencyRunning, says(metaIdempotent)},

	{errRegistration, named("register")},
	{errRegistrations, named("register")},
	{errTier, named("register")},
	{errLogin, named("login")},
	{errLoginThrottled, named("login", "change-password", "update-profile", "close-account")},
	{errBusy, named("register", "login", "change-password", "reset-password", "update-profile", "close-account", "create-user", "reset-user-password")},
	{errNotVerified, either(sending, named("login", "retry-message"))},
	{errPassword, named("change-password", "update-profile", "close-account")},
	{models.ErrEmailTaken, named("register", "update-profile", "verify-email", "create-user", "update-user")},
	{models.ErrAddressChanges, named("update-profile")},
	{models.ErrMailedToken, named("reset-password", "verify-email")},
	{models.ErrAccountChanged, either(named("update-profile", "change-password", "close-account", "verify-email", "reset-password"), at("/admin/users"))},
	{models.ErrLastAdministrator, named("close-account", "update-user", "delete-user")},
	{models.ErrNoUser, either(at("/{userId}"), named("list-all-sessions", "list-logs", "list-usage"))},
	{models.ErrNoAccountKey, at("/{keyId}")},
	{models.ErrManyAccountKeys, named("create-api-key")},
	{models.ErrKeyExpired, named("rotate-api-key")},
	{models.ErrRotationUnderWay, named("rotate-api-key", "rotate-session-key")},
	{errSecretRotating, named("rotate-webhook-secret", "rotate-account-webhook-secret")},

	{models.ErrGone, either(at("/sessions/{id}"), named("send-by-key", "worker-put-media", "worker-get-media", "list-jobs", "list-deliveries"))},
	{models.ErrSessionTaken, named("create-session")},
	{models.ErrSessionDeleting, named("create-session")},
	{models.ErrSessionLimit, named("create-session")},
	{models.ErrNoWorker, named("create-session", "start-session", "restart-session", "migrate-session")},
	{models.ErrNotLinked, either(composed, isPassed, named("send-batch", "retry-message", "start-session"))},
	{models.ErrLoggingOut, named("start-session", "restart-session")},
	{models.ErrMigrating, named("start-session", "restart-session", "migrate-session")},
	{errOnTheMove, either(isPassed, named("get-session-qr"))},
	{errQRNotReady, named("get-session-qr", "get-pairing-code", "create-link")},
	{errAlreadyLinked, named("get-session-qr", "get-pairing-code", "create-link")},
	{errNoLink, named("delete-link")},

	{jobs.ErrWorkerUnavailable, isPassed},
	{jobs.ErrTooManyCalls, isPassed},
	{errNotConnected, isPassed},
	{errWorkerTimeout, isPassed},
	{errOutcomeUnknown, isPassed},
	{errUnsupported, isPassed},
	{errBadWorkerAnswer, isPassed},
	{errEngineFailed, isPassed},
	{errRateLimited, isPassed},
	{errContactNotFound, both(isPassed, at("/contacts", "/presence", "/participants", "/groups", "/pairing-code"))},
	{errGroupNotFound, both(isPassed, at("/groups"))},
	{errNotGroupAdmin, both(isPassed, at("/groups"))},
	{errInviteInvalid, both(isPassed, at("/groups"))},
	{errLabelNotFound, at("/{labelId}")},

	{errMessageLimit, either(sending, named("retry-message"))},
	{models.ErrQuotaMoved, either(sending, named("retry-message"))},
	{errWhichSession, named("send-by-key")},
	{errNoMessage, either(at("/{messageId}"), composed, named("send-batch", "mark-read"))},
	{errNotPending, named("cancel-message")},
	{errNotSent, either(composed, named("retry-message"))},
	{errTooLate, either(composed, named("retry-message"))},
	{errNotEditable, either(composed, named("retry-message"))},
	{errNotRevocable, either(composed, named("retry-message"))},
	{errNoReaction, either(composed, named("retry-message"))},
	{errNotForwardable, named("forward-message")},
	{models.ErrNotRetryable, named("retry-message")},
	{errExportLimit, named("export-messages")},
	{errCursor, inPages},

	{models.ErrNoMedia, either(at("/{mediaId}"), composed, named("send-batch"))},
	{media.ErrTooLarge, either(composed, withFile, named("send-batch"))},
	{media.ErrEmpty, either(composed, withFile, named("send-batch"))},
	{media.ErrType, either(composed, withFile, named("send-batch"))},
	{media.ErrStore, either(composed, withFile, at("/media", "/{mediaId}"), named("send-batch"))},
	{errForm, withFile},
	{errUploads, withFile},
	{errUploadsBusy, withFile},
	{errRange, at("/{mediaId}")},

	{errNoWebhook, at("/webhook", "/webhook-deliveries")},
	{models.ErrWebhookInactive, at("/test", "/replay")},
	{models.ErrEventNotKept, named("replay-delivery")},
	{models.ErrReplaying, named("replay-webhook", "replay-account-webhook")},
	{errNoDelivery, at("/{deliveryId}")},
	{errTooManyStreams, at("/events")},
	{errNoJob, at("/{jobId}")},

	{errNoWorker, either(at("/{workerId}"), named("broadcast", "migrate-session", "worker-metrics"))},
	{errWorkerExists, named("announce-worker")},
	{errEndpointUsed, named("announce-worker", "update-worker", "register-worker")},
	{models.ErrNotRunning, named("migrate-session")},
	{models.ErrAlreadyHere, named("migrate-session")},
	{models.ErrTarget, named("migrate-session")},
	{models.ErrWorkerLive, named("register-worker")},
	{models.ErrWorkerRemoved, workers},
	{models.ErrStaleTerm, workers},
	{errProtocol, named("register-worker")},
}

// exampleRequestID stands in examples of failures.
const exampleRequestID = "0199c0de-0000-7000-8000-0000000000ff"

// exampleOf is how a fault looks to a client.
func exampleOf(err error) *Failure {
	if f, ok := err.(*Failure); ok { //nolint:errorlint // the table's own, never wrapped
		f := *f
		f.RequestID = exampleRequestID
		return &f
	}
	f := failureOf(err, exampleRequestID)
	if errors.Is(err, errRange) {
		f.status = http.StatusRequestedRangeNotSatisfiable
	}
	if f.Code == "invalid_request" {
		f.Details = []fault.Detail{{Field: "limit", Message: "expected number <= 200"}}
		f.Sentence = f.Details[0].Field + ": " + f.Details[0].Message
	}
	return f
}

// describeFailures puts one answer for each status of a failure into the document, with an example for each of its codes, and
// has operations refer to those that they may give. Which of the codes it may be is the description there.
func (a *API) describeFailures() {
	api := a.huma.OpenAPI()
	api.Components.Responses = map[string]*huma.Response{}
	schema := &huma.Schema{Ref: "#/components/schemas/Failure"}
	for _, row := range documentedFailures {
		f := exampleOf(row.err)
		name := failureName(f.status)
		if api.Components.Responses[name] == nil {
			api.Components.Responses[name] = &huma.Response{Description: http.StatusText(f.status), Headers: failureHeaders(f.status),
				Content: map[string]*huma.MediaType{"application/json": {Schema: schema, Examples: map[string]*huma.Example{}}}}
		}
		api.Components.Responses[name].Content["application/json"].Examples[f.Code] = &huma.Example{Value: f}
	}
	var codes []any
	for _, response := range api.Components.Responses {
		for code := range response.Content["application/json"].Examples {
			if !slices.Contains(codes, any(code)) {
				codes = append(codes, code)
			}
		}
	}
	slices.SortFunc(codes, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	api.Components.Schemas.Map()["Failure"].Properties["code"].Enum = codes
	for _, item := range api.Paths {
		for _, o := range operationsOf(item) {
			describeFailuresOf(o)
		}
	}
}

func describeFailuresOf(o *huma.Operation) {
	codes := map[int][]string{}
	for _, row := range documentedFailures {
		if f := exampleOf(row.err); row.of(o) && !slices.Contains(codes[f.status], f.Code) {
			codes[f.status] = append(codes[f.status], f.Code)
		}
	}
	for status := range o.Responses {
		if status >= "400" {
			delete(o.Responses, status)
		}
	}
	for status, list := range codes {
		slices.Sort(list)
		o.Responses[strconv.Itoa(status)] = &huma.Response{Ref: "#/components/responses/" + failureName(status),
			Description: "`" + strings.Join(list, "`, `") + "`"}
	}
}

// failureName is Conflict for 409, and so on.
func failureName(status int) string { return strings.ReplaceAll(http.StatusText(status), " ", "") }

func retryAfter(description string, example int) *huma.Param {
	return &huma.Param{Description: description, Schema: &huma.Schema{Type: huma.TypeInteger}, Example: example}
}

// passingConflicts names the conflicts that tell when to try again.
func passingConflicts() string {
	var codes []string
	for _, row := range documentedFailures {
		if f := exampleOf(row.err); f.status == http.StatusConflict && f.retryAfter > 0 {
			codes = append(codes, "`"+f.Code+"`")
		}
	}
	slices.Sort(codes)
	return strings.Join(slices.Compact(codes), ", ")
}

func failureHeaders(status int) map[string]*huma.Param {
	headers := map[string]*huma.Param{"X-Request-Id": {Description: "Names the request in our logs", Schema: &huma.Schema{Type: huma.TypeString}, Example: exampleRequestID}}
	f := &huma.Response{Headers: headers}
	switch status {
	case http.StatusUnauthorized:
		headers["WWW-Authenticate"] = &huma.Param{Description: "Always Bearer", Schema: &huma.Schema{Type: huma.TypeString}, Example: `Bearer realm="kurir"`}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		headers["Retry-After"] = retryAfter("After how many seconds it may pass", 60)
	case http.StatusConflict:
		headers["Retry-After"] = retryAfter("With "+passingConflicts()+": after how many seconds it may pass", 1)
	}
	if status == http.StatusTooManyRequests {
		addRateHeaders(f)
	}
	return headers
}

func operationsOf(item *huma.PathItem) []*huma.Operation {
	return slices.DeleteFunc([]*huma.Operation{item.Get, item.Put, item.Post, item.Patch, item.Delete}, func(o *huma.Operation) bool { return o == nil })
}
