package whatsapp

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"

	"kurir/wire"
)

// pauses are what WhatsApp's refusals of a message ask for. WhatsApp tells no times: these are ours.
var pauses = map[int]struct {
	code  string
	after time.Duration
}{
	429: {wire.CodeRateLimited, time.Minute},       // rate-overlimit
	420: {wire.CodeRateLimited, time.Minute},       // the same, of old
	463: {wire.CodeTemporaryBan, 30 * time.Minute}, // no messages to people who have not written first
}

// finals are refusals that repeating will not change.
var finals = map[int][2]string{
	400: {"bad_request", "WhatsApp refused the message as malformed"},
	401: {"not_authorized", "the session may not write there"},
	403: {"forbidden", "the session may not write there"},
	404: {"not_on_whatsapp", "the recipient is not on WhatsApp"},
	405: {"not_allowed", "WhatsApp does not allow this message"},
	406: {"not_acceptable", "WhatsApp does not accept this message"},
	479: {"bad_request", "WhatsApp refused the message as malformed"},
	550: {"not_allowed", "WhatsApp does not let the session delete this"},
}

// outcomeOf tells what an error of a send means. In doubt it may have gone out: asking again under the same ID shows it once.
func outcomeOf(err error) wire.SendResult {
	now := time.Now().UTC()
	if errors.Is(err, whatsmeow.ErrServerReturnedError) {
		text := err.Error()
		code, _ := strconv.Atoi(text[strings.LastIndexByte(text, ' ')+1:]) // whatsmeow tells it in words only
		if p, ok := pauses[code]; ok {
			return throttled(p.code, p.after)
		}
		if f, ok := finals[code]; ok {
			return *failed(f[0], f[1])
		}
		return wire.SendResult{Outcome: wire.OutcomeUnknown, Code: "error_" + strconv.Itoa(code), Error: "WhatsApp answered with an error", Timestamp: now}
	}
	switch {
	case errors.Is(err, whatsmeow.ErrUnknownServer), errors.Is(err, whatsmeow.ErrBroadcastListUnsupported), errors.Is(err, whatsmeow.ErrRecipientADJID):
		return *failed(wire.CodeInvalidRequest, "the recipient is no address that WhatsApp delivers to")
	case errors.Is(err, whatsmeow.ErrGroupNotFound), errors.Is(err, whatsmeow.ErrNotInGroup):
		return *failed(wire.CodeGroupNotFound, "there is no such group, or the session is not in it")
	case errors.Is(err, whatsmeow.ErrIQRateOverLimit):
		return throttled(wire.CodeRateLimited, pauses[429].after)
	case errors.Is(err, errNoKeys):
		return wire.SendResult{Outcome: wire.OutcomeUnknown, Code: codeNoKeys, Error: "WhatsApp did not give the keys of the recipient's phone", Timestamp: now}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, whatsmeow.ErrMessageTimedOut):
		return wire.SendResult{Outcome: wire.OutcomeUnknown, Error: "WhatsApp did not answer in time", Timestamp: now}
	}
	return wire.SendResult{Outcome: wire.OutcomeUnknown, Error: "the connection ended before WhatsApp's answer", Timestamp: now}
}

func throttled(code string, after time.Duration) wire.SendResult {
	return wire.SendResult{Outcome: wire.OutcomeThrottled, Code: code, Error: "WhatsApp asks for a pause", RetryAfterMs: after.Milliseconds(), Timestamp: time.Now().UTC()}
}
