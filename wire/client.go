package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Target is a worker as the gateway's database knows it.
type Target struct {
	WorkerID string
	Endpoint string // http://host:port
	Secret   string
	Term     int64
}

// Client is the gateway's view of one worker. It is a cheap value, made for a call or a few; the http.Client under
// it holds the connections and is shared. Refusals are *Error; deadlines come with the context.
type Client struct {
	http   *http.Client
	target Target
}

// NewClient makes a Client. See NewHTTPClient for the first argument.
func NewClient(httpClient *http.Client, t Target) *Client {
	t.Endpoint = strings.TrimRight(t.Endpoint, "/")
	return &Client{http: httpClient, target: t}
}

// Health asks how the worker is.
func (c *Client) Health(ctx context.Context) (Health, error) {
	var h Health
	err := c.call(ctx, http.MethodGet, "/health", nil, &h)
	return h, err
}

// Create has the worker hold a session and answers its state.
func (c *Client) Create(ctx context.Context, s CreateSession) (SessionState, error) {
	var st SessionState
	err := c.call(ctx, http.MethodPost, "/session/create", s, &st)
	return st, err
}

// Status answers the state of a session that the worker holds.
func (c *Client) Status(ctx context.Context, sessionID string) (SessionState, error) {
	var st SessionState
	err := c.call(ctx, http.MethodGet, sessionPath(sessionID, "/status"), nil, &st)
	return st, err
}

// QR answers the QR that is to be scanned now. CodeQRNotReady and CodeAlreadyLinked say that there is none.
func (c *Client) QR(ctx context.Context, sessionID string) (QRData, error) {
	var q QRData
	err := c.call(ctx, http.MethodGet, sessionPath(sessionID, "/qr"), nil, &q)
	return q, err
}

// Release has the worker finish the session's sends, disconnect it and keep its credentials. A nil error confirms
// that the worker holds it at no epoch up to this one and never will again.
func (c *Client) Release(ctx context.Context, sessionID string, epoch int64) error {
	return c.call(ctx, http.MethodPost, sessionPath(sessionID, "/release"), Release{Epoch: epoch}, nil)
}

// Delete has the worker let go of a session. With logout it unlinks the device and forgets the credentials first,
// which needs a session that is held here (else CodeSessionNotFound). Epoch fences as in Release; 0 means whatever
// epoch is held.
func (c *Client) Delete(ctx context.Context, sessionID string, epoch int64, logout bool) error {
	q := url.Values{}
	if epoch > 0 {
		q.Set("epoch", strconv.FormatInt(epoch, 10))
	}
	if logout {
		q.Set("logout", "true")
	}
	path := sessionPath(sessionID, "")
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

// Command asks something of the node as a whole and answers what it said. CodeUnsupported says that it does not know
// the command or cannot carry it out.
func (c *Client) Command(ctx context.Context, cmd Command) (json.RawMessage, error) {
	var out json.RawMessage
	err := c.call(ctx, http.MethodPost, "/command", cmd, &out)
	return out, err
}

// Send hands a message to the session's network. Of an error, NotSent tells whether the message may have gone out.
func (c *Client) Send(ctx context.Context, sessionID string, m Send) (SendResult, error) {
	var r SendResult
	if err := c.call(ctx, http.MethodPost, sessionPath(sessionID, "/send"), m, &r); err != nil {
		return SendResult{}, err
	}
	switch r.Outcome {
	case OutcomeSent, OutcomeFailed, OutcomeUnknown, OutcomeThrottled:
		return r, nil
	default:
		return SendResult{}, fmt.Errorf("worker %s: %w", c.target.WorkerID,
			&Error{Status: http.StatusOK, Code: CodeBadAnswer, Message: "the answer names no outcome"})
	}
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	h := http.Header{}
	h.Set("Authorization", "Bearer "+c.target.Secret)
	h.Set(HeaderTerm, strconv.FormatInt(c.target.Term, 10))
	err := call{http: c.http, method: method, url: c.target.Endpoint + path, header: h, in: in, out: out}.do(ctx)
	if err != nil {
		return fmt.Errorf("worker %s: %w", c.target.WorkerID, err)
	}
	return nil
}

func sessionPath(id, rest string) string { return "/session/" + url.PathEscape(id) + rest }
