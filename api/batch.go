package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"kurir/fault"
	"kurir/message"
	"kurir/models"
)

// batchBodyLimit is of a batch: a thousand messages of some length fit, a thousand of the longest don't.
const batchBodyLimit = 8 << 20

// batchPath ends the addresses that take bodies of that size.
const batchPath = "/messages/batch"

func large(o *huma.Operation) { o.MaxBodyBytes = batchBodyLimit }

// BatchInput sends several messages.
type BatchInput struct {
	SessionPath
	OnceHeader
	Body struct {
		Messages []message.Draft `json:"messages" minItems:"1" maxItems:"1000" nullable:"false" doc:"In the order in which they are to go out"`
	}
}

// BatchData is what was accepted.
type BatchData struct {
	Messages []SentData `json:"messages" doc:"In the order of the request"`
}

// sendBatch accepts all messages or none, in one transaction.
func (a *API) sendBatch(ctx context.Context, in *BatchInput) (*Reply[BatchData], error) {
	session, err := a.sessionUID(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := a.mayMessage(ctx, callerOf(ctx).user); err != nil { // before a thousand messages are looked at
		return nil, err
	}
	now, request := time.Now(), newResourceID(ctx)
	list := make([]*models.NewMessage, 0, len(in.Body.Messages))
	var wrong *fault.Error
	for i := range in.Body.Messages {
		m, err := a.compose(ctx, session, &in.Body.Messages[i], now)
		if err != nil {
			var f *fault.Error
			if err := inside(fmt.Sprintf("messages[%d]", i), err); !errors.As(err, &f) || f.Kind != fault.Invalid || len(f.Details) == 0 {
				return nil, atMessage(i, err)
			}
			if wrong = joined(wrong, f); len(wrong.Details) >= maxDetails {
				return nil, wrong
			}
			continue
		}
		m.ID = models.SeriesID(request, i)
		list = append(list, m)
	}
	if wrong != nil {
		return nil, wrong
	}
	if err := a.proved(callerOf(ctx).user); err != nil {
		return nil, err
	}
	if err := a.counted(ctx, list, func() error { return a.accepter.AcceptAll(ctx, list) }); err != nil {
		return nil, err
	}
	data := BatchData{Messages: make([]SentData, len(list))}
	for i, m := range list {
		id := m.ID.String()
		data.Messages[i] = SentData{ID: id, MessageID: id, JobID: id, Status: "pending"}
	}
	return reply(data), nil
}

// joined collects the wrong fields of several messages.
func joined(all, more *fault.Error) *fault.Error {
	if all == nil {
		return more
	}
	all.Details = append(all.Details, more.Details...)
	all.Details = all.Details[:min(len(all.Details), maxDetails)]
	return all
}

// atMessage says in the sentence of a fault which message of the batch it is about.
func atMessage(i int, err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || len(f.Details) > 0 || f.Kind == fault.Unavailable || f.Kind == fault.Internal {
		return err
	}
	c := *f
	c.Sentence = fmt.Sprintf("messages[%d]: %s", i, f.Sentence)
	return &c
}
