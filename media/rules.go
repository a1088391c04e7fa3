package media

import (
	"bytes"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/gabriel-vasile/mimetype"

	"kurir/fault"
	"kurir/message"
)

// Rule is what one kind of medium may be.
type Rule struct {
	Max   int64    // bytes
	Types []string // empty: anything
}

// Rules are those of every kind: the types of messages that carry a medium.
type Rules map[string]Rule

// oggOpus is the one form of voice notes. Network and phones want it with its parameter.
const oggOpus = "audio/ogg; codecs=opus"

// DefaultRules are what WhatsApp's own clients take. Whatever else there is can be sent as a document.
func DefaultRules() Rules {
	audio := []string{"audio/aac", "audio/amr", "audio/mpeg", "audio/mp4", "audio/ogg", oggOpus}
	return Rules{
		message.Image:    {Max: 16 << 20, Types: []string{"image/jpeg", "image/png", "image/webp", "image/gif"}},
		message.Video:    {Max: 16 << 20, Types: []string{"video/mp4", "video/3gpp"}},
		message.Audio:    {Max: 16 << 20, Types: audio},
		message.Voice:    {Max: 16 << 20, Types: []string{oggOpus}},
		message.Document: {Max: 100 << 20},
		message.Sticker:  {Max: 500 << 10, Types: []string{"image/webp"}},
	}
}

// Faults of contents.
var (
	ErrTooLarge = fault.New(fault.TooLarge, "media_too_large", "The medium is too large.")
	ErrEmpty    = fault.New(fault.Invalid, "media_empty", "The medium is empty.")
	ErrType     = fault.New(fault.Invalid, "media_type_not_allowed", "The medium is not of a type that can be sent so.")
	errKind     = fault.Field("kind", "expected one of "+strings.Join(kinds(), ", "))
)

func kinds() []string {
	return slices.DeleteFunc(message.Types(), func(kind string) bool { return !message.HasMedia(kind) })
}

// Most is the size of the largest medium that any kind takes.
func (r Rules) Most() (most int64) {
	for _, rule := range r {
		most = max(most, rule.Max)
	}
	return most
}

// of is the rule of a kind; "" is a kind that is not known yet: anything that some kind takes.
func (r Rules) of(kind string) (Rule, error) {
	if kind == "" {
		return Rule{Max: r.Most()}, nil
	}
	rule, ok := r[kind]
	if !ok {
		return Rule{}, errKind
	}
	return rule, nil
}

// Check says whether a medium may be sent as the given kind of message.
func (r Rules) Check(kind, mimetype string, size int64) error {
	rule, err := r.of(kind)
	if err != nil {
		return err
	}
	if err := rule.allows(kind, mimetype); err != nil {
		return err
	}
	if size > rule.Max {
		return rule.tooLarge(kind)
	}
	return nil
}

func (r Rule) allows(kind, mimetype string) error {
	if len(r.Types) == 0 || slices.Contains(r.Types, mimetype) {
		return nil
	}
	f := *ErrType
	f.Sentence = fmt.Sprintf("The content is %s; %s takes %s.", mimetype, kind, strings.Join(r.Types, ", "))
	return &f
}

func (r Rule) tooLarge(kind string) error {
	f := *ErrTooLarge
	what := "A medium"
	if kind != "" {
		what = strings.ToUpper(kind[:1]) + kind[1:]
	}
	f.Sentence = fmt.Sprintf("%s may have up to %s.", what, sizeOf(r.Max))
	return &f
}

func sizeOf(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KB", n>>10)
	}
	return fmt.Sprintf("%d MB", n>>20)
}

// sniffed bytes at the beginning of a content tell its type.
const sniffed = 3072

// aliases are other names of types that rules know by one.
var aliases = map[string]string{"audio/x-m4a": "audio/mp4", "audio/mp3": "audio/mpeg", "audio/x-aac": "audio/aac", "application/ogg": "audio/ogg"}

// Sniff finds a content's type in its first bytes. What senders say of it is never believed.
func Sniff(head []byte) string {
	found, _, err := mime.ParseMediaType(mimetype.Detect(head[:min(len(head), sniffed)]).String())
	if err != nil {
		return "application/octet-stream"
	}
	if name, ok := aliases[found]; ok {
		found = name
	}
	if found == "audio/ogg" && bytes.Contains(head[:min(len(head), 64)], []byte("OpusHead")) {
		return oggOpus
	}
	return found
}
