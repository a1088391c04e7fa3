package api

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"kurir/fault"
)

// Failure is the body of every answer that is not a success.
type Failure struct {
	Success   bool           `json:"success" enum:"false" doc:"Always false"`
	Sentence  string         `json:"error" doc:"What went wrong, for people" example:"There is no such session."`
	Code      string         `json:"code" doc:"What went wrong, for programs; docs/errors.md lists all" example:"session_not_found"`
	RequestID string         `json:"requestId" doc:"Also in the X-Request-Id header; names the request in our logs"`
	Details   []fault.Detail `json:"details,omitempty" doc:"The fields that are wrong"`

	status     int
	retryAfter int // seconds
}

// Error and GetStatus make it what huma writes; GetHeaders adds what belongs to it.
func (f *Failure) Error() string { return f.Sentence }

// GetStatus is the HTTP status.
func (f *Failure) GetStatus() int { return f.status }

// GetHeaders are the headers of the answer.
func (f *Failure) GetHeaders() http.Header {
	h := http.Header{}
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="kurir"`)
	}
	return h
}

// statusOf maps kinds to HTTP, once.
var statusOf = map[fault.Kind]int{
	fault.Internal: 500, fault.Invalid: 422, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404,
	fault.TooLarge: 413,
	fault.Conflict: 409, fault.Limited: 429, fault.Unavailable: 503, fault.Unsupported: 501, fault.BadGateway: 502, fault.Timeout: 504,
}

const internalSentence = "Something went wrong on our side. The request ID helps us to find it."

// failureOf is the edge between faults and HTTP. What is no fault is ours: a fixed sentence, and the cause goes to the log.
func failureOf(err error, requestID string) *Failure {
	var f *fault.Error
	var fe *fiber.Error
	switch {
	case errors.As(err, &f) && f.Kind != fault.Internal:
		return &Failure{Sentence: f.Sentence, Code: f.Code, Details: f.Details, RequestID: requestID,
			status: statusOf[f.Kind], retryAfter: int(math.Ceil(f.RetryAfter.Seconds()))}
	case errors.As(err, &fe):
		return plainFailure(fe.Code, requestID)
	}
	return plainFailure(http.StatusInternalServerError, requestID)
}

// plainFailure is the failure of a status that no handler had a say in.
func plainFailure(status int, requestID string) *Failure {
	f := &Failure{RequestID: requestID, status: status}
	switch status {
	case http.StatusBadRequest:
		f.Code, f.Sentence = "bad_request", "The request cannot be read."
	case http.StatusNotFound:
		f.Code, f.Sentence = "route_not_found", "There is nothing at this address. /docs lists what there is."
	case http.StatusMethodNotAllowed:
		f.Code, f.Sentence = "method_not_allowed", "This address does not know this method."
	case http.StatusRequestEntityTooLarge:
		f.Code, f.Sentence = "too_large", "The request's body is too large."
	case http.StatusUnsupportedMediaType:
		f.Code, f.Sentence = "unsupported_media_type", "Send JSON, with Content-Type: application/json."
	case http.StatusRequestTimeout:
		f.Code, f.Sentence = "request_timeout", "The request came too slowly."
	case http.StatusRequestHeaderFieldsTooLarge:
		f.Code, f.Sentence = "headers_too_large", "The request's headers are too large."
	case http.StatusNotAcceptable:
		f.Code, f.Sentence = "not_acceptable", "This address answers in none of the accepted types."
	default:
		if status >= 500 {
			f.status = http.StatusInternalServerError
			f.Code, f.Sentence = "internal", internalSentence
		} else {
			f.Code, f.Sentence = "bad_request", "The request cannot be served."
		}
	}
	return f
}

// validationFailure is huma's view of a request that does not fit the schema, in our form.
func validationFailure(ctx huma.Context, status int, message string, errs ...error) huma.StatusError {
	requestID := ""
	if ctx != nil {
		requestID = requestIDOf(ctx.Context())
	}
	var known *Failure
	for _, err := range errs {
		if errors.As(err, &known) {
			return known
		}
	}
	f := plainFailure(status, requestID)
	switch {
	case status == http.StatusBadRequest && slices.ContainsFunc(errs, beyondTypes):
		f.status = http.StatusUnprocessableEntity
	case status == http.StatusBadRequest && len(errs) > 0: // huma's status for a body that it cannot parse
		f.Code, f.Sentence = "malformed_json", "The request's body is not valid JSON."
		return f
	case status == http.StatusBadRequest:
		f.status, f.Code, f.Sentence = http.StatusUnprocessableEntity, "invalid_request", "The request needs a JSON body."
		return f
	case status != http.StatusUnprocessableEntity:
		return f
	}
	f.Code, f.Sentence = "invalid_request", "The request is not valid."
	for _, err := range errs {
		if detail, ok := detailOf(err); ok && len(f.Details) < maxDetails {
			f.Details = append(f.Details, detail)
		}
	}
	slices.SortStableFunc(f.Details, func(a, b fault.Detail) int { return strings.Compare(a.Field, b.Field) })
	if len(f.Details) > 0 {
		f.Sentence = f.Details[0].Field + ": " + f.Details[0].Message
	}
	return f
}

// maxDetails bounds an answer: a body can have thousands of fields that are wrong.
const maxDetails = 20

func detailOf(err error) (fault.Detail, bool) {
	var detailer huma.ErrorDetailer
	if !errors.As(err, &detailer) {
		return fault.Detail{}, false
	}
	d := detailer.ErrorDetail()
	switch {
	case beyondTypes(err):
		d.Message = "a value does not fit its field"
	case strings.HasPrefix(d.Message, timeOfParameter):
		d.Message = expectedTime
	}
	if rest, ok := strings.CutPrefix(d.Message, missingBefore); ok { // huma names the object that lacks it
		if name, ok := strings.CutSuffix(rest, missingAfter); ok {
			return fault.Detail{Field: short(fieldName(d.Location + "." + name)), Message: "is missing"}, true
		}
	}
	return fault.Detail{Field: short(fieldName(d.Location)), Message: short(d.Message)}, true
}

// expectedTime is said of what is no time; timeOfParameter is how huma begins to say that of a parameter, in Go's layout.
const expectedTime, timeOfParameter = "expected an RFC 3339 time such as 2026-01-31T12:00:00Z", "invalid date/time for format "

// What huma says of a field that is missing, around its name.
const missingBefore, missingAfter = "expected required property ", " to be present"

// beyondTypes finds what the schema lets pass and Go's types do not, such as 1e400.
func beyondTypes(err error) bool {
	var detailer huma.ErrorDetailer
	if !errors.As(err, &detailer) {
		return false
	}
	message := detailer.ErrorDetail().Message
	return strings.HasPrefix(message, "json: ") || strings.HasPrefix(message, "parsing time ")
}

// short keeps what a client sent from coming back at length.
func short(text string) string {
	if len(text) <= 200 {
		return text
	}
	return strings.ToValidUTF8(text[:200], "") + "…"
}

// fieldName turns huma's location, body.to or query.limit, into the client's name of the field.
func fieldName(location string) string {
	for _, prefix := range []string{"body.", "query.", "path.", "header."} {
		if name, ok := strings.CutPrefix(location, prefix); ok {
			return name
		}
	}
	return location
}
