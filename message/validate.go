package message

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/uax29/v2/graphemes"

	"kurir/address"
)

// Problem is what is wrong with one field, in words for the client.
type Problem struct {
	Field   string
	Message string
}

// problems collects what is wrong.
type problems []Problem

func (p *problems) add(field, format string, args ...any) {
	*p = append(*p, Problem{field, fmt.Sprintf(format, args...)})
}

// Validate tells everything that is wrong with a draft, nothing if it can be accepted. What needs a look into the
// database (media, the messages that it is about) is left to the caller.
func Validate(d *Draft, now time.Time) []Problem {
	var p problems
	rule, ok := rules[d.Kind()]
	if !ok {
		p.add("type", "expected one of %s", strings.Join(Types(), ", "))
		return p
	}
	d.fits(rule, &p)
	d.texts(&p)
	d.people(&p)
	d.content(&p)
	d.times(now, &p)
	if len(d.Metadata) > 0 {
		if _, err := Object(d.Metadata, MaxMetadata); err != nil {
			p.add("metadata", "%s", err)
		}
	}
	if d.Priority != "" && d.Priority != "high" && d.Priority != "normal" {
		p.add("priority", "expected high or normal")
	}
	return p
}

// fits compares the fields that are there with those that the type takes and needs.
func (d *Draft) fits(rule Rule, p *problems) {
	there := d.present()
	foreign := slices.DeleteFunc(slices.Clone(there), func(name string) bool { return name == "to" || slices.Contains(rule.Takes, name) })
	if d.Type == "" && len(foreign) > 0 {
		p.add("type", "needed with %s: a message without a type is a text", strings.Join(foreign, ", "))
		return
	}
	for _, name := range foreign {
		p.add(name, "a message of type %s does not take this", d.Kind())
	}
	for _, group := range rule.Needs {
		n := 0
		for _, name := range group {
			if slices.Contains(there, name) {
				n++
			}
		}
		switch {
		case n == 0 && len(group) == 1:
			p.add(group[0], "a message of type %s needs this", d.Kind())
		case n == 0:
			p.add(group[0], "a message of type %s needs one of %s", d.Kind(), strings.Join(group, ", "))
		case n > 1:
			p.add(group[0], "expected only one of %s", strings.Join(group, ", "))
		}
	}
}

// texts checks lengths and characters of what people read.
func (d *Draft) texts(p *problems) {
	limit := func(field, text string, most int) {
		if utf8.RuneCountInString(text) > most {
			p.add(field, "expected at most %d characters", most)
		}
		if strings.ContainsRune(text, 0) {
			p.add(field, "the character NUL is not allowed")
		}
	}
	limit("message", d.Text(), MaxText)
	limit("caption", d.Caption, MaxCaption)
	limit("filename", d.Filename, MaxFilename)
	if d.Message != nil {
		switch kind := d.Kind(); {
		case kind == Reaction && *d.Message != "" && !IsEmoji(*d.Message):
			p.add("message", "expected one emoji, or nothing to take the reaction back")
		case (kind == Text || kind == Edit) && Blank(*d.Message):
			p.add("message", "expected a text: there is nothing but white space")
		}
	}
	if d.Filename != "" && !plainName(d.Filename) {
		p.add("filename", "expected a file's name, without a path and control characters")
	}
	if d.MIMEType != "" && (len(d.MIMEType) > 100 || !mimeType.MatchString(d.MIMEType)) {
		p.add("mimetype", "expected a media type such as image/jpeg")
	}
	if d.MediaURL != "" && !fetchable(d.MediaURL) {
		p.add("mediaUrl", "expected an address that begins with https:// or http://, without a user name")
	}
	if d.MediaID != "" && !uuidForm.MatchString(d.MediaID) {
		p.add("mediaId", "expected the ID of a medium")
	}
	if len(d.MessageID) > 128 || !messageName(d.MessageID) {
		p.add("messageId", "expected a message's ID, ours or WhatsApp's")
	}
	if len(d.ReplyTo) > 128 || !messageName(d.ReplyTo) {
		p.add("replyTo", "expected a message's ID, ours or WhatsApp's")
	}
}

// Blank reports whether a text shows nothing: a phone would show an empty bubble, and WhatsApp's own clients don't send it.
func Blank(text string) bool { return strings.TrimSpace(text) == "" }

var (
	mimeType = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*(; ?[a-z]+=[A-Za-z0-9-]+)?$`)
	uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)
)

// messageName keeps what may name a message to plain ASCII.
func messageName(id string) bool {
	return strings.IndexFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// plainName reports whether a name can only be a file's.
func plainName(name string) bool {
	return name != "." && name != ".." && strings.TrimSpace(name) != "" && strings.IndexFunc(name, func(r rune) bool {
		return r == '/' || r == '\\' || unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Bidi_Control, r)
	}) < 0
}

// fetchable looks at the form alone; where it leads is found out when it is fetched.
func fetchable(text string) bool {
	u, err := url.Parse(text)
	return err == nil && len(text) <= 2048 && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil &&
		strings.IndexFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) < 0
}

// people checks addresses, the recipient's and those of who is named, and brings the former to its one form: to look into the
// numbering plans is what costs most of an accept.
func (d *Draft) people(p *problems) {
	if d.To != "" {
		if jid, err := address.Parse(d.To); err != nil {
			p.add("to", "%s", err)
		} else {
			d.To = jid
		}
	}
	if len(d.Mentions) > MaxMentions {
		p.add("mentions", "expected at most %d", MaxMentions)
		return
	}
	for i, person := range d.Mentions {
		if _, err := mention(person); err != nil {
			p.add(fmt.Sprintf("mentions[%d]", i), "%s", err)
		}
	}
}

var errMention = errors.New("expected a person: a phone number, or an address at s.whatsapp.net or lid")

func mention(person string) (string, error) {
	jid, err := address.Parse(person)
	if err == nil && !strings.HasSuffix(jid, "@"+address.Person) && !strings.HasSuffix(jid, "@"+address.LID) {
		return "", errMention
	}
	return jid, err
}

// content checks location, contacts and poll.
func (d *Draft) content(p *problems) {
	if l := d.Location; l != nil {
		within := func(field string, value, most float64) {
			if math.IsNaN(value) || math.Abs(value) > most {
				p.add(field, "expected a number from -%g to %g", most, most)
			}
		}
		within("location.latitude", l.Latitude, 90)
		within("location.longitude", l.Longitude, 180)
		short(p, "location.name", l.Name, 200)
		short(p, "location.address", l.Address, 500)
	}
	if d.Contact != nil {
		d.Contact.check("contact", p)
	}
	if len(d.Contacts) > MaxContacts {
		p.add("contacts", "expected at most %d", MaxContacts)
		return
	}
	for i := range d.Contacts {
		d.Contacts[i].check(fmt.Sprintf("contacts[%d]", i), p)
	}
	if d.Poll != nil {
		d.Poll.check(p)
	}
}

func short(p *problems, field, text string, most int) {
	if utf8.RuneCountInString(text) > most || strings.ContainsRune(text, 0) {
		p.add(field, "expected at most %d characters, without NUL", most)
	}
}

func (c *Card) check(field string, p *problems) {
	short(p, field+".name", c.Name, 200)
	short(p, field+".vcard", c.VCard, MaxVCard)
	if strings.TrimSpace(c.Name) == "" {
		p.add(field+".name", "expected a name")
	}
	switch {
	case (c.Phone == "") == (c.VCard == ""):
		p.add(field+".phone", "expected one of phone and vcard")
	case c.VCard != "":
		if text := strings.ToUpper(strings.TrimSpace(c.VCard)); !strings.HasPrefix(text, "BEGIN:VCARD") || !strings.HasSuffix(text, "END:VCARD") {
			p.add(field+".vcard", "expected a vCard, from BEGIN:VCARD to END:VCARD")
		}
	default:
		if _, err := address.Phone(c.Phone); err != nil {
			p.add(field+".phone", "%s", err)
		}
	}
}

func (q *DraftPoll) check(p *problems) {
	short(p, "poll.question", q.Question, MaxQuestion)
	if strings.TrimSpace(q.Question) == "" {
		p.add("poll.question", "expected a question")
	}
	if n := len(q.Options); n < MinOptions || n > MaxOptions {
		p.add("poll.options", "expected %d to %d options", MinOptions, MaxOptions)
		return
	}
	for i, option := range q.Options {
		field := fmt.Sprintf("poll.options[%d]", i)
		short(p, field, option, MaxOption)
		if strings.TrimSpace(option) == "" {
			p.add(field, "expected a text")
		} else if slices.Contains(q.Options[:i], option) {
			p.add(field, "there is this option already")
		}
	}
	if q.Choices != nil && (*q.Choices < 0 || *q.Choices > len(q.Options)) {
		p.add("poll.choices", "expected 0 to %d, as many as there are options", len(q.Options))
	}
}

// times checks the schedule.
func (d *Draft) times(now time.Time, p *problems) {
	const ahead = MaxAheadSeconds * time.Second
	from := now
	if d.SendAt != nil && d.SendAt.After(now) {
		from = *d.SendAt
		if from.After(now.Add(ahead)) {
			p.add("sendAt", "expected a time within 30 days")
			return
		}
	}
	switch {
	case d.ExpiresAt != nil && d.TTL != nil:
		p.add("ttl", "expected only one of expiresAt and ttl")
	case d.ExpiresAt != nil && !d.ExpiresAt.After(from):
		p.add("expiresAt", "expected a time after sendAt, and after now")
	case d.ExpiresAt != nil && d.ExpiresAt.After(from.Add(ahead)):
		p.add("expiresAt", "expected a time within 30 days from sendAt")
	case d.TTL != nil && (*d.TTL < 1 || *d.TTL > MaxAheadSeconds):
		p.add("ttl", "expected 1 to %d seconds", MaxAheadSeconds)
	}
}

// Object checks an object of the client's and writes it anew, without what JSON can say and PostgreSQL's jsonb can't
// hold: halves of surrogate pairs, and numbers beyond any range. The error is a sentence.
func Object(m json.RawMessage, limit int) (json.RawMessage, error) {
	if len(m) > limit {
		return nil, fmt.Errorf("expected at most %d bytes", limit)
	}
	var object map[string]any
	if json.Unmarshal(m, &object) != nil || object == nil { // numbers beyond a float64's range fail here
		return nil, errObject
	}
	if holdsNUL(object) {
		return nil, errors.New("the character NUL is not allowed")
	}
	exact := json.NewDecoder(strings.NewReader(string(m)))
	exact.UseNumber()
	if err := exact.Decode(&object); err != nil {
		return nil, errObject
	}
	return json.Marshal(object)
}

var errObject = errors.New("expected a JSON object")

func holdsNUL(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.ContainsRune(v, 0)
	case []any:
		return slices.ContainsFunc(v, holdsNUL)
	case map[string]any:
		for name, inner := range v {
			if holdsNUL(name) || holdsNUL(inner) {
				return true
			}
		}
	}
	return false
}

// IsEmoji reports whether a text is one emoji: one cluster of characters that is shown as one, with a picture in it.
// Which pictures a phone knows depends on its age, so there is no list.
func IsEmoji(text string) bool {
	if len(text) > 64 || !utf8.ValidString(text) {
		return false
	}
	clusters := graphemes.FromString(text)
	if !clusters.Next() || clusters.Value() != text {
		return false
	}
	picture := false
	for _, r := range text {
		switch {
		case r == '\ufe0f' || r == '\u20e3', r > 0x7f && unicode.Is(unicode.So, r), r > 0x2000 && unicode.Is(unicode.Sm, r):
			picture = true
		case unicode.IsLetter(r) || unicode.IsControl(r) || unicode.IsSpace(r):
			return false
		}
	}
	return picture
}
