package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Codes beside those of wire.go. CodeBadAnswer is the caller's own: no peer sends it.
const (
	CodeUnauthenticated = "unauthenticated" // 401: no secret, or not the current one
	CodeInvalidRequest  = "invalid_request" // 400: the body is not what the route takes
	CodeTooLarge        = "too_large"       // 413: the body is over the limit
	CodeNotFound        = "not_found"       // 404: there is no such route
	CodeQRNotReady      = "qr_not_ready"    // 409: there is no QR now, or it has expired
	CodeAlreadyLinked   = "already_linked"  // 409: the session needs no QR
	CodeEngineFailed    = "engine_failed"   // 502: the engine could not do it now
	CodeInternal        = "internal"        // 500: a fault of the worker; it may have acted
	CodeMediaNotFound   = "media_not_found" // 404: there is no such medium, or no longer
	CodeMediaTooLarge   = "media_too_large" // 413: the gateway takes no medium of that size
	CodeMediaEmpty      = "media_empty"     // 422: nor one without content
	// CodeMediaUnavailable, 503: the message's medium is not with the network yet, or can't be had now; nothing was sent. It
	// says nothing of other messages.
	CodeMediaUnavailable = "media_unavailable"
	CodeEngineTimeout    = "engine_timeout" // 504: the network did not answer; it may have acted
	CodeBadAnswer        = "bad_answer"     // the answer is not in the protocol's form
)

// Codes with which a network refuses a Call. CodeRateLimited is one, too (429).
const (
	CodeContactNotFound = "contact_not_found" // 404
	CodeGroupNotFound   = "group_not_found"   // 404: there is none, or the session is not in it
	CodeLabelNotFound   = "label_not_found"   // 404
	CodeNotGroupAdmin   = "not_group_admin"   // 403: only an administrator of the group may do that
	CodeInviteInvalid   = "invite_invalid"    // 409: the invitation was revoked, or never was
)

// Error is a refusal. A worker's Handler returns it to refuse a call, and the caller on the other side of the
// connection receives an equal one.
type Error struct {
	Status  int
	Code    string
	Message string // sentence for people
}

func (e *Error) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

// Refuse makes the Error of a code, with the status that belongs to it.
func Refuse(code, message string) *Error {
	return &Error{Status: statusOf(code), Code: code, Message: message}
}

// Code returns the code of the refusal in err's chain, or "" if err is no refusal.
func Code(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func statusOf(code string) int {
	switch code {
	case CodeInvalidRequest:
		return http.StatusBadRequest
	case CodeUnauthenticated:
		return http.StatusUnauthorized
	case CodeWorkerRemoved, CodeNotGroupAdmin:
		return http.StatusForbidden
	case CodeSessionNotFound, CodeNotFound, CodeMediaNotFound, CodeContactNotFound, CodeGroupNotFound, CodeLabelNotFound:
		return http.StatusNotFound
	case CodeStaleTerm, CodeStaleEpoch, CodeStaleGeneration, CodeWorkerLive, CodeUnsupportedProtocol,
		CodeQRNotReady, CodeAlreadyLinked, CodeInviteInvalid:
		return http.StatusConflict
	case CodeTooLarge, CodeMediaTooLarge:
		return http.StatusRequestEntityTooLarge
	case CodeMediaEmpty:
		return http.StatusUnprocessableEntity
	case CodeRateLimited:
		return http.StatusTooManyRequests
	case CodeEngineTimeout:
		return http.StatusGatewayTimeout
	case CodeUnsupported:
		return http.StatusNotImplemented
	case CodeEngineFailed:
		return http.StatusBadGateway
	case CodeNotConnected, CodeLeaseLost, CodeFull, CodeMediaUnavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// success and failure are the two forms of an answer as written, envelope the union of both as read.
type success struct {
	Success bool `json:"success"`
	Data    any  `json:"data"`
}

type failure struct {
	Success bool   `json:"success"`
	Error   string `json:"error"`
	Code    string `json:"code"`
}

type envelope struct {
	Success *bool           `json:"success"`
	Data    json.RawMessage `json:"data"`
	Error   string          `json:"error"`
	Code    string          `json:"code"`
}

// open decodes the answer of a call into out (nil: the data does not matter).
func open(status int, body []byte, out any) error {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil || e.Success == nil {
		return &Error{Status: status, Code: CodeBadAnswer, Message: "the answer has no envelope"}
	}
	ok := status >= 200 && status < 300
	if ok != *e.Success {
		return &Error{Status: status, Code: CodeBadAnswer, Message: "status and envelope contradict each other"}
	}
	if !ok && e.Code == "" {
		return &Error{Status: status, Code: CodeBadAnswer, Message: "the refusal has no code"}
	}
	if !ok {
		return &Error{Status: status, Code: e.Code, Message: e.Error}
	}
	if out == nil {
		return nil
	}
	if len(e.Data) == 0 || string(e.Data) == "null" {
		return &Error{Status: status, Code: CodeBadAnswer, Message: "the answer has no data"}
	}
	if err := json.Unmarshal(e.Data, out); err != nil {
		return &Error{Status: status, Code: CodeBadAnswer, Message: "the answer's data has another form"}
	}
	return nil
}
