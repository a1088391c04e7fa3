package kurir

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Error is a refusal of Kurir's. Code is for programs, and stays: the constants Code… are those that this version knows. Message is
// for people.
type Error struct {
	Status     int // of HTTP
	Code       string
	Message    string
	RequestID  string // names the request in Kurir's logs
	Details    []Detail
	RetryAfter time.Duration // 0 if Kurir did not say
}

// Detail is a field that is wrong.
type Detail struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is the sentence for people, with what finds it again.
func (e *Error) Error() string {
	return fmt.Sprintf("kurir: %s (%s, request %s)", e.Message, e.Code, e.RequestID)
}

// Is makes errors.Is(err, &Error{Code: CodeSessionNotFound}) ask for the code.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// longestFailure bounds what is read of a refusal: Kurir's are short, those of a proxy before it may be pages.
const longestFailure = 64 << 10

// errorOf reads a refusal and closes its answer. One that is not in Kurir's form comes from something in between: its code is "".
func errorOf(answer *http.Response) error {
	defer func() { _ = answer.Body.Close() }()
	e := &Error{Status: answer.StatusCode, Message: answer.Status, RequestID: answer.Header.Get("X-Request-Id")}
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, longestFailure))
	if err != nil {
		return e
	}
	var failure struct {
		Error, Code, RequestID string
		Details                []Detail
	}
	if json.Unmarshal(body, &failure) == nil && failure.Code != "" {
		e.Code, e.Message, e.RequestID, e.Details = failure.Code, failure.Error, failure.RequestID, failure.Details
	}
	return e
}
