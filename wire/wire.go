// Package wire is the protocol between the gateway and its worker nodes: the types, an HTTP client for each
// direction and the HTTP server adapter of a worker. It is not the public API and knows no database.
//
// Gateway and worker share an authentication token (WORKER_AUTH_TOKEN), which lets a worker register. The answer
// carries a term, which grows with every registration, and a secret bound to worker and term. From then on both
// sides send the secret: the worker in X-Worker-Secret, the gateway as Bearer token beside X-Kurir-Term.
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"kurir/message"
)

// Protocol is the version of what this package describes. Fields are added without raising it, since each side
// ignores those that it does not know; it rises when one side could no longer work with the other.
const Protocol = 1

// Header names of the protocol.
const (
	HeaderTerm   = "X-Kurir-Term"    // on calls to a worker: the term that the gateway believes is current
	HeaderSecret = "X-Worker-Secret" // on calls to the gateway: the secret of the worker's term
	HeaderToken  = "X-Worker-Token"  // on calls to the gateway: WORKER_AUTH_TOKEN (Authorization: Bearer works too)
)

// Codes of refusals. They stand in the error envelope's "code".
const (
	CodeStaleTerm       = "stale_term"        // 409: another term is current
	CodeStaleEpoch      = "stale_epoch"       // 409: the session has a higher epoch here, or was released at this one
	CodeStaleGeneration = "stale_generation"  // 409: a newer holder of the lane has already sent
	CodeNotConnected    = "not_connected"     // 503: the session is not connected now; nothing was sent
	CodeSessionNotFound = "session_not_found" // 404: this worker does not hold the session
	CodeLeaseLost       = "lease_lost"        // 503: the worker's lease has lapsed; nothing was sent
	CodeFull            = "worker_full"       // 503: no room for another session
	CodeWorkerLive      = "worker_live"       // 409: another process holds a live lease under this ID
	CodeWorkerRemoved   = "worker_removed"    // 403: an administrator removed this worker; only a new process may come back
	CodeUnsupported     = "unsupported"       // 501: the engine cannot do this

	CodeUnsupportedProtocol = "unsupported_protocol" // 409: the gateway does not speak this worker's Protocol
)

// Session states as a worker reports them, lower case as in the public API.
const (
	StatusInitializing = "initializing"
	StatusQRRequired   = "qr_required"
	StatusConnected    = "connected"
	StatusDisconnected = "disconnected"
	StatusReconnecting = "reconnecting"
	StatusError        = "error"
)

// Register is the body of POST /admin/workers/register.
type Register struct {
	WorkerID    string `json:"workerId"`
	Endpoint    string `json:"endpoint"`    // where the gateway reaches the worker, http://host:port
	MaxSessions int    `json:"maxSessions"` // room
	Engine      string `json:"engine,omitempty"`
	Version     string `json:"version,omitempty"`
	Description string `json:"description,omitempty"`
	Protocol    int    `json:"protocol,omitempty"` // absent: 1
	// PreviousTerm is the term that this process held before and that has ended on its side: it holds nothing any
	// more. With that term's secret it proves that the process is the same, so the gateway need not wait for the
	// lease to lapse by its own count.
	PreviousTerm int64 `json:"previousTerm,omitempty"`
}

// Registered answers Register.
type Registered struct {
	WorkerID    string `json:"workerId"`
	Status      string `json:"status"` // "registered"
	Term        int64  `json:"term"`
	Secret      string `json:"secret"`
	LeaseMs     int64  `json:"leaseMs"`     // duration, counted from when the worker sent the request
	HeartbeatMs int64  `json:"heartbeatMs"` // how often the gateway wants to hear from the worker
}

// Metrics is what a worker says of itself.
type Metrics struct {
	_            struct{} `additionalProperties:"true"` // for the gateway's validation: a newer worker may say more
	SessionCount int      `json:"sessionCount"`
	CPUUsage     float64  `json:"cpuUsage"`                      // percent of the worker's limit, or of its machine, 0 to 100
	MemoryUsage  float64  `json:"memoryUsage"`                   // likewise
	MessageCount int64    `json:"messageCount" required:"false"` // these two may be left out, for the gateway's validation
	Uptime       int64    `json:"uptime" required:"false"`       // seconds
}

// HeldSession is one line of a heartbeat's session list.
type HeldSession struct {
	_         struct{} `additionalProperties:"true"` // for the gateway's validation: a newer worker may say more
	SessionID string   `json:"sessionId"`
	Epoch     int64    `json:"epoch"`
	Status    string   `json:"status"`
}

// What a worker says of itself in a heartbeat.
const (
	HeartbeatOnline      = "online"
	HeartbeatMaintenance = "maintenance" // it is about to leave and takes no further session
	HeartbeatOffline     = "offline"     // it leaves for good and holds nothing any more
)

// Heartbeat is the body of PUT /admin/workers/{id}/heartbeat.
type Heartbeat struct {
	Status   string        `json:"status"`
	Term     int64         `json:"term"`
	Metrics  Metrics       `json:"metrics"`
	Sessions []HeldSession `json:"sessions,omitzero"` // absent (nil): unknown, never none; empty: none
}

// HeartbeatAnswer renews the lease.
type HeartbeatAnswer struct {
	LeaseMs int64    `json:"leaseMs"`        // duration, counted from when the worker sent the heartbeat
	Drop    []string `json:"drop,omitempty"` // sessions that this worker must let go of
	// HandOver tells a worker in maintenance to wait: the gateway is moving its sessions to others. Absent: nobody
	// moves them, or no longer.
	HandOver bool `json:"handOver,omitempty"`
}

// CreateSession is the body of POST /session/create. It is idempotent: a session that is already held under this
// epoch answers its present state, a higher epoch replaces the older one, a lower one is stale_epoch.
type CreateSession struct {
	SessionID   string `json:"sessionId"` // the session's uid
	UserID      string `json:"userId"`
	SessionName string `json:"sessionName"`
	Epoch       int64  `json:"epoch"`
	// Proxy is the URL, with user name and password, by way of which the network is reached; empty: none. RejectCalls has the engine
	// refuse every call. A repetition at the same epoch may change both: another proxy is another connection.
	Proxy       string `json:"proxy,omitempty"`
	RejectCalls bool   `json:"rejectCalls,omitempty"`
}

// SessionState is what a worker knows of one session.
type SessionState struct {
	SessionID   string     `json:"sessionId"`
	Epoch       int64      `json:"epoch"`
	Status      string     `json:"status"`
	Reason      string     `json:"reason,omitempty"`
	PhoneNumber string     `json:"phoneNumber,omitempty"` // digits with a leading +
	QR          string     `json:"qr,omitempty"`          // the text that the QR picture encodes
	QRExpiresAt *time.Time `json:"qrExpiresAt,omitempty"`
	Until       *time.Time `json:"until,omitempty"` // of an error that ends by itself, as a ban may
}

// Release is the body of POST /session/{id}/release: finish the sends in hand, disconnect, keep the credentials.
type Release struct {
	Epoch int64 `json:"epoch"`
}

// Health answers GET /health of a worker.
type Health struct {
	Status       string  `json:"status"` // "ok", or "draining"
	SessionCount int     `json:"sessionCount"`
	MaxSessions  int     `json:"maxSessions"`
	CPUUsage     float64 `json:"cpuUsage"`
	MemoryUsage  float64 `json:"memoryUsage"`
	Uptime       int64   `json:"uptime"`
	MessageCount int64   `json:"messageCount"`
	Version      string  `json:"version"`
	Engine       string  `json:"engine"`
	Term         int64   `json:"term"`
}

// Commands that every worker node knows. An engine or a version that lacks one refuses it with CodeUnsupported.
const (
	CommandPing      = "ping"      // answers Health
	CommandReconnect = "reconnect" // opens every session's network connection anew, at the same epoch; answers Reconnected
	CommandLogLevel  = "log_level" // takes LogLevel and answers it
)

// Command is the body of POST /command: what is asked of the node as a whole, not of one session.
type Command struct {
	Command string          `json:"command"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// Reconnected answers CommandReconnect.
type Reconnected struct {
	Sessions int `json:"sessions"` // whose connections were closed and are being opened again
}

// LogLevel is the data of CommandLogLevel.
type LogLevel struct {
	Level string `json:"level"` // "debug", "info", "warn" or "error"
}

// Send is the body of POST /session/{id}/send. It is idempotent by WhatsappID.
type Send struct {
	MessageID  string         `json:"messageId"`
	WhatsappID string         `json:"whatsappId"`
	Epoch      int64          `json:"epoch"`
	Generation int64          `json:"generation"` // of the lane's holder; lower than one already seen is stale_generation
	To         string         `json:"to"`         // JID, 6281234567890@s.whatsapp.net
	Type       string         `json:"type"`       // one of message.Types
	Message    string         `json:"message,omitempty"`
	MediaURL   string         `json:"mediaUrl,omitempty"` // not used: only the gateway fetches URLs, see Media
	Caption    string         `json:"caption,omitempty"`
	Filename   string         `json:"filename,omitempty"`
	Media      *message.Media `json:"media,omitempty"` // to be fetched from the gateway by its ID
	message.Details
	Typing int64 `json:"typingMs,omitempty"` // show "typing" for so long before the message, in milliseconds
	Seq    int64 `json:"seq,omitempty"`      // position in the session's lane; for the simulator's report only
}

// Outcomes of a send.
const (
	OutcomeSent    = "sent"
	OutcomeFailed  = "failed"  // for good, with a code
	OutcomeUnknown = "unknown" // it may have gone out: ask again with the same WhatsappID
	// OutcomeThrottled says that nothing went out because the network asks for a pause, of RetryAfterMs. Code is
	// CodeRateLimited or CodeTemporaryBan.
	OutcomeThrottled = "throttled"
)

// Why a network asks for a pause.
const (
	CodeRateLimited  = "rate_limited"
	CodeTemporaryBan = "temporary_ban"
)

// SendResult answers Send.
type SendResult struct {
	Outcome      string    `json:"outcome"`
	Code         string    `json:"code,omitempty"`         // of a failure: "not_on_whatsapp", "unsupported", ...
	Error        string    `json:"error,omitempty"`        // sentence
	Timestamp    time.Time `json:"timestamp"`              // the network's time of acceptance
	RetryAfterMs int64     `json:"retryAfterMs,omitempty"` // with OutcomeThrottled
}

// Types of worker events.
const (
	EventSessionStatus   = "session.status"   // StatusData
	EventSessionQR       = "session.qr"       // QRData
	EventMessageReceived = "message.received" // ReceivedData
	EventMessageReceipt  = "message.receipt"  // ReceiptData
)

// Event is one thing that happened to a session.
type Event struct {
	_         struct{}        `additionalProperties:"true"` // for the gateway's validation: a newer worker may say more
	EventID   string          `json:"eventId"`              // for logs, see EventID
	SessionID string          `json:"sessionId"`
	Epoch     int64           `json:"epoch"`
	Seq       int64           `json:"seq"` // 1, 2, 3, ... within the worker's term
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
	Trace     string          `json:"trace,omitempty" doc:"Traceparent of the span that brought it, where the worker makes traces"`
}

// EventBatch is the body of POST /admin/workers/{id}/events. Seqs are consecutive.
type EventBatch struct {
	Term   int64   `json:"term"`
	Events []Event `json:"events"`
}

// EventBatchAnswer acknowledges every event below Next. A batch that begins above Next stored nothing.
type EventBatchAnswer struct {
	Next int64 `json:"next"`
}

// StatusData is the data of session.status.
type StatusData struct {
	Status      string `json:"status"`
	Reason      string `json:"reason,omitempty"`
	PhoneNumber string `json:"phoneNumber,omitempty"`
	// Until is when an error ends by itself, as a ban may: the worker connects again then. Nil where nobody knows.
	Until *time.Time `json:"until,omitempty"`
}

// QRData is the data of session.qr.
type QRData struct {
	QR        string    `json:"qr"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Contact is a person or group on the network. Phone is nil where it cannot be resolved.
type Contact struct {
	Phone *string `json:"phone"`
	LID   *string `json:"lid"`
	Name  *string `json:"name"`
}

// ReceivedData is the data of message.received.
type ReceivedData struct {
	WhatsappID string         `json:"whatsappId"`
	Chat       string         `json:"chat"`   // JID of the conversation
	Sender     string         `json:"sender"` // JID of the author
	From       Contact        `json:"from"`
	FromMe     bool           `json:"fromMe"` // sent on the linked phone itself
	Type       string         `json:"type"`   // one of message's types
	Message    string         `json:"message,omitempty"`
	MediaURL   string         `json:"mediaUrl,omitempty"`
	Caption    string         `json:"caption,omitempty"`
	Filename   string         `json:"filename,omitempty"`
	Media      *message.Media `json:"media,omitempty"`      // as the gateway answered when the worker handed it over
	MediaError string         `json:"mediaError,omitempty"` // why there is none, though the message has one
	// Again says that the network tells this message more than once, under its one WhatsappID but maybe with another Timestamp. The
	// gateway stores the copy that it gets first.
	Again bool `json:"again,omitempty"`
	message.Details
}

// ReceiptData is the data of message.receipt.
type ReceiptData struct {
	WhatsappID  string `json:"whatsappId"`
	Chat        string `json:"chat"`
	Participant string `json:"participant,omitempty"`
	Status      string `json:"status"` // "sent", "delivered", "read" or "played"
}

// EventID names an event by what the network knows of it, so that a redelivery through another worker has the same
// ID in logs: 32 hex digits of a hash of session, kind, message and participant. The gateway knows a redelivery by the data.
func EventID(session, kind, message, participant string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{session, kind, message, participant}, "\x00")))
	return hex.EncodeToString(sum[:16])
}
