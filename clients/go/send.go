package kurir

import "context"

// Draft is a message of one of the types that can be sent.
type Draft interface {
	SendText | SendImage | SendVideo | SendAudio | SendVoice | SendDocument | SendSticker | SendLocation | SendContact | SendPoll | SendReaction | SendEdit | SendDelete
}

// Post sends a draft from a session and returns where it stands: stored and pending; or, with Prefer: wait=N in params, sent or
// failed, if that is known in time. Params may be nil.
func Post[D Draft](ctx context.Context, c *Client, session string, d D, params *SendParams) (*SentData, error) {
	body, err := Compose(d)
	if err != nil {
		return nil, err
	}
	answer, err := c.SendWithResponse(ctx, session, params, body)
	if err != nil {
		return nil, err
	}
	return &First(answer.JSON202, answer.JSON200).Data, nil
}

// Compose is the body of a draft.
func Compose[D Draft](d D) (body Send, err error) {
	switch d := any(d).(type) {
	case SendText:
		err = body.FromSendText(d)
	case SendImage:
		err = body.FromSendImage(d)
	case SendVideo:
		err = body.FromSendVideo(d)
	case SendAudio:
		err = body.FromSendAudio(d)
	case SendVoice:
		err = body.FromSendVoice(d)
	case SendDocument:
		err = body.FromSendDocument(d)
	case SendSticker:
		err = body.FromSendSticker(d)
	case SendLocation:
		err = body.FromSendLocation(d)
	case SendContact:
		err = body.FromSendContact(d)
	case SendPoll:
		err = body.FromSendPoll(d)
	case SendReaction:
		err = body.FromSendReaction(d)
	case SendEdit:
		err = body.FromSendEdit(d)
	case SendDelete:
		err = body.FromSendDelete(d)
	}
	return body, err
}
