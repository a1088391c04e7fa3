package api

import (
	"context"
	"regexp"

	"kurir/wire"
)

// LabelsInput asks for a session's labels.
type LabelsInput struct {
	SessionPath
}

// LabelResource marks chats, in WhatsApp Business.
type LabelResource struct {
	ID    string `json:"id" example:"1"`
	Name  string `json:"name" example:"New customer"`
	Color int    `json:"color"`
}

// LabelList is all labels of a session: WhatsApp has 20 at most.
type LabelList struct {
	Labels []LabelResource `json:"labels"`
}

const maxLabels = 200

func (a *API) listLabels(ctx context.Context, in *LabelsInput) (*Reply[LabelList], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	labels, err := pass(ctx, a, s, wire.ListLabels, wire.Page{Limit: maxLabels})
	if err != nil {
		return nil, err
	}
	answer := LabelList{Labels: []LabelResource{}}
	for _, l := range first(labels.Labels, maxLabels) {
		answer.Labels = append(answer.Labels, LabelResource(l))
	}
	return reply(answer), nil
}

// LabelPath names a label and a chat.
type LabelPath struct {
	SessionPath
	LabelID string `path:"labelId" maxLength:"32" doc:"The label's ID" example:"1"`
	Chat    string `path:"chat" maxLength:"128" doc:"Phone number or WhatsApp address" example:"6281234567890"`
}

// LabeledChat says whether a chat has a label now.
type LabeledChat struct {
	LabelID string `json:"labelId" example:"1"`
	Chat    string `json:"chat" example:"6281234567890@s.whatsapp.net"`
	Labeled bool   `json:"labeled"`
}

var labelID = regexp.MustCompile(`^[0-9]{1,10}$`)

func (a *API) labelChat(ctx context.Context, in *LabelPath) (*Reply[LabeledChat], error) {
	return a.setLabel(ctx, in, true)
}

func (a *API) unlabelChat(ctx context.Context, in *LabelPath) (*Reply[LabeledChat], error) {
	return a.setLabel(ctx, in, false)
}

func (a *API) setLabel(ctx context.Context, in *LabelPath, on bool) (*Reply[LabeledChat], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if !labelID.MatchString(in.LabelID) {
		return nil, errLabelNotFound
	}
	chat, err := parseField("chat", in.Chat)
	if err != nil {
		return nil, err
	}
	if _, err := pass(ctx, a, s, wire.SetLabel, wire.LabelMark{Label: in.LabelID, Chat: chat, On: on}); err != nil {
		return nil, err
	}
	return reply(LabeledChat{in.LabelID, chat, on}), nil
}
