package whatsapp

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"

	waLog "go.mau.fi/whatsmeow/util/log"
)

// logger takes what whatsmeow says. Its debugging prints whole stanzas and is left out. Some warnings and errors print them too, with
// people's names and what is in clear, of which the tag is left; the rest names people, whose digits are left out.
type logger struct{ log *slog.Logger }

var (
	digits = regexp.MustCompile(`[0-9]{5,}`)
	stanza = regexp.MustCompile(`(?s)(<[a-zA-Z][a-zA-Z0-9_:-]*)(?: |/?>).*`)
)

// redact leaves out numbers that may be somebody's, and the text from a stanza on.
func redact(text string) string {
	return digits.ReplaceAllString(stanza.ReplaceAllString(text, "$1 …>"), "…")
}

func (l logger) say(level slog.Level, format string, args []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "whatsmeow", "text", redact(fmt.Sprintf(format, args...)))
	}
}

// Errorf implements waLog.Logger. Most of it is about one message or one stanza.
func (l logger) Errorf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// failedAsMeant is what whatsmeow warns of with every message that comes in: its handler has failed until the gateway has stored it, see
// message.
const failedAsMeant = "Handler for %s failed"

// Warnf implements waLog.Logger.
func (l logger) Warnf(format string, args ...any) {
	if format == failedAsMeant {
		l.say(slog.LevelDebug, format, args)
		return
	}
	l.say(slog.LevelInfo, format, args)
}

// Infof implements waLog.Logger.
func (l logger) Infof(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

// Debugf implements waLog.Logger.
func (l logger) Debugf(string, ...any) {}

// Sub implements waLog.Logger.
func (l logger) Sub(module string) waLog.Logger { return logger{l.log.With("module", module)} }
