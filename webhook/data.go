package webhook

import (
	"encoding/json"
	"time"

	"kurir/message"
)

// Contact is a person, group or own number. Phone is null where it cannot be resolved.
type Contact struct {
	Phone *string `json:"phone" doc:"Number with country code and a leading +, null if it cannot be resolved" example:"+6281234567890"`
	LID   *string `json:"lid" doc:"WhatsApp's pseudonymous ID, null if unknown"`
	Name  *string `json:"name" doc:"The name that the person shows, null if unknown" example:"Sari"`
}

// Message is a message as its tenant sees it: the answer of GET /messages/{id} and the data of message.* events.
type Message struct {
	ID        string         `json:"id" format:"uuid"`
	SessionID string         `json:"sessionId" example:"shop"`
	Direction string         `json:"direction" enum:"inbound,outbound"`
	Chat      string         `json:"chat" doc:"JID of the conversation" example:"6281234567890@s.whatsapp.net"`
	From      *Contact       `json:"from" doc:"Author; null for an outbound message that has not been tried yet"`
	FromMe    bool           `json:"fromMe"`
	To        string         `json:"to" doc:"JID of the recipient" example:"6281234567890@s.whatsapp.net"`
	Type      string         `json:"type" enum:"text,image,video,audio,voice,document,sticker,location,contact,poll,reaction,edit,delete,vote,unknown" example:"text"`
	Message   string         `json:"message" doc:"The text"`
	MediaURL  *string        `json:"mediaUrl"`
	Caption   *string        `json:"caption"`
	Filename  *string        `json:"filename"`
	Media     *message.Media `json:"media,omitempty" doc:"The medium, once it is in our store"`
	message.Details
	Status      string            `json:"status" enum:"pending,sending,sent,delivered,read,failed,unknown,cancelled,expired"`
	ErrorCode   *string           `json:"errorCode" doc:"Why it failed, or, while it is pending or sending, why the last try came to nothing; for programs" example:"not_on_whatsapp"`
	Error       *string           `json:"error" doc:"The same for people"`
	WaitingFor  *string           `json:"waitingFor" doc:"Why a pending one waits: session, paused (by its owner), paused_by_administrator, schedule, media, pacing, new_chat_limit, cooldown, retry or turn"`
	Priority    string            `json:"priority" enum:"high,normal" doc:"Chooses between chats that wait"`
	Attempts    int               `json:"attempts" doc:"Sends that ended without a final outcome"`
	Metadata    json.RawMessage   `json:"metadata,omitempty"`
	WhatsappID  string            `json:"whatsappId"`
	SendAt      *time.Time        `json:"sendAt"`
	ExpiresAt   *time.Time        `json:"expiresAt"`
	CreatedAt   time.Time         `json:"createdAt"`
	SentAt      *time.Time        `json:"sentAt"`
	DeliveredAt *time.Time        `json:"deliveredAt"`
	ReadAt      *time.Time        `json:"readAt"`
	FinishedAt  *time.Time        `json:"finishedAt" doc:"When it failed, expired or was cancelled"`
	EditedAt    *time.Time        `json:"editedAt,omitempty"`
	DeletedAt   *time.Time        `json:"deletedAt,omitempty" doc:"When its author deleted it for everyone"`
	Reactions   []MessageReaction `json:"reactions,omitempty"`
}

// MessageReaction is one of the reactions that a message has.
type MessageReaction struct {
	From   *Contact  `json:"from" doc:"Who reacted; null where that is not known"`
	FromMe bool      `json:"fromMe"`
	Emoji  string    `json:"emoji" example:"👍"`
	At     time.Time `json:"at"`
}

// Reacted is the data of message.reaction: the message as it is now, or the reaction itself where we don't know that message, and
// what was done just now.
type Reacted struct {
	Message
	Reaction Reaction `json:"reaction"`
}

// Reaction is what somebody did about a message.
type Reaction struct {
	From    *Contact  `json:"from" doc:"Who reacted, or took it back; null where that is not known"`
	FromMe  bool      `json:"fromMe"`
	Emoji   string    `json:"emoji" doc:"Empty where it was taken back" example:"👍"`
	Removed bool      `json:"removed" doc:"It was taken back"`
	At      time.Time `json:"at"`
}

// SessionStatus is the data of session.status.
type SessionStatus struct {
	Status      string     `json:"status" enum:"initializing,qr_required,connected,disconnected,reconnecting,error"`
	Reason      *string    `json:"reason"`
	PhoneNumber *string    `json:"phoneNumber" doc:"The number that is linked; null before that, and after a log-out"`
	Until       *time.Time `json:"until,omitempty" doc:"Of the reason banned: when the ban ends, if WhatsApp has told"`
}

// SessionQR is the data of session.qr.
type SessionQR struct {
	QR        string    `json:"qr" doc:"The text that the QR picture encodes"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// SessionMigrated is the data of session.migrated: another worker holds the session now. Nothing has to be scanned again.
type SessionMigrated struct {
	From   string `json:"from" doc:"Worker that held it before" example:"worker-001"`
	To     string `json:"to" doc:"Worker that holds it now" example:"worker-002"`
	Reason string `json:"reason" enum:"offline,drain,removed,shutdown,rebalance,network,refused,admin" example:"drain"`
}

// Test is the data of webhook.test.
type Test struct {
	WebhookID string `json:"webhookId" format:"uuid"`
	Message   string `json:"message" example:"This is a test."`
}

// SessionThrottled is the data of session.throttled: the network asked for a pause. It is told when the pause begins, or becomes
// a ban; if it is extended, the session shows until when.
type SessionThrottled struct {
	Reason  string    `json:"reason" enum:"rate_limited,temporary_ban"`
	Until   time.Time `json:"until" doc:"Messages to people who did not write in the last 24 hours wait until then"`
	Replies bool      `json:"replies" doc:"Whether answers to people who did go on"`
}
