package api

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"kurir/address"
	"kurir/fault"
	"kurir/models"
	"kurir/webhook"
)

// HistoryFilter chooses messages of a session.
type HistoryFilter struct {
	Direction string    `query:"direction" enum:"inbound,outbound" doc:"What came in, or what went out"`
	Status    []string  `query:"status" maxItems:"9" enum:"pending,sending,sent,delivered,read,failed,unknown,cancelled,expired" doc:"One or several, with commas" example:"[\"failed\",\"expired\"]"`
	Type      []string  `query:"type" maxItems:"15" enum:"text,image,video,audio,voice,document,sticker,location,contact,poll,reaction,edit,delete,vote,unknown" doc:"One or several, with commas"`
	Chat      string    `query:"chat" maxLength:"128" doc:"Phone number or WhatsApp address of the conversation"`
	Since     time.Time `query:"since" doc:"Not before this time: of the accept or, for messages that came in, the network's"`
	Until     time.Time `query:"until" doc:"Before this time"`
	Query     string    `query:"q" maxLength:"200" doc:"Words of the text, caption or file name: all of them, \"a phrase\", one OR another, -without. Whole words, without regard to case and accents" example:"invoice \"second reminder\" -paid"`
}

// HistoryInput asks for a page of a session's messages.
type HistoryInput struct {
	SessionPath
	Page
	HistoryFilter
}

// History is a page of messages, newest first.
type History struct {
	Messages   []webhook.Message `json:"messages"`
	NextCursor *string           `json:"nextCursor" doc:"null: that was all. A page may be short, or empty, and more follow: each looks through a bounded number of messages"`
}

func (a *API) listMessages(ctx context.Context, in *HistoryInput) (*Reply[History], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	if f.Before, err = in.after(); err != nil {
		return nil, err
	}
	f.Limit = in.Limit
	page, err := models.History(ctx, a.db.Pool, s.UID, f)
	if err != nil {
		return nil, stored(err)
	}
	list := History{Messages: make([]webhook.Message, 0, len(page.Messages))}
	for i := range page.Messages {
		list.Messages = append(list.Messages, messageResource(&page.Messages[i], s))
	}
	if page.Next != uuid.Nil {
		next := encodeCursor(page.Next)
		list.NextCursor = &next
	}
	return reply(list), nil
}

// filter reads what the query says, without its cursor.
func (in *HistoryFilter) filter() (f models.MessageFilter, err error) {
	f = models.MessageFilter{Direction: strings.ToUpper(in.Direction), Statuses: upper(in.Status), Types: upper(in.Type), Query: in.Query,
		Since: notBefore1970(in.Since), Until: notBefore1970(in.Until)}
	if strings.ContainsRune(in.Query, 0) || !utf8.ValidString(in.Query) {
		return f, fault.Field("q", "expected words")
	}
	if in.Chat != "" {
		if f.Chat, err = address.Parse(in.Chat); err != nil {
			return f, fault.Field("chat", "expected a phone number or a WhatsApp address")
		}
	}
	return f, nil
}

func upper(list []string) []string {
	out := make([]string, 0, len(list))
	for _, s := range list {
		out = append(out, strings.ToUpper(s))
	}
	return out
}

// notBefore1970 keeps times in the range of the IDs, which count from then. The zero time is none.
func notBefore1970(t time.Time) time.Time {
	if epoch := time.Unix(0, 0); !t.IsZero() && t.Before(epoch) {
		return epoch
	}
	return t
}
