package message

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func draft(t testing.TB, body string) *Draft {
	t.Helper()
	d := new(Draft)
	require.NoError(t, json.Unmarshal([]byte(body), d), body)
	return d
}

// fields lists what Validate complains of.
func fields(d *Draft) (list []string) {
	for _, p := range Validate(d, now) {
		list = append(list, p.Field)
	}
	return list
}

func TestValidate(t *testing.T) {
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	for body, want := range map[string][]string{
		// Each type, as it should be.
		`{"to":"6281234567890","message":"hi"}`: nil,
		`{"to":"6281234567890","type":"text","message":"hi @6281234567890","linkPreview":false,"mentions":["+62 812-3456-7890","12345@lid"],"replyTo":"3EB0","forwarded":true}`: nil,
		`{"to":"1-2@g.us","message":"x"}`: {"to"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://example.com/x.jpg","caption":"c","filename":"x.jpg","mimetype":"image/jpeg"}`: nil,
		`{"to":"6281234567890","type":"voice","mediaId":"5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f"}`:                                                nil,
		`{"to":"6281234567890","type":"document","mediaBase64":"aGk="}`:                                                                         nil,
		`{"to":"6281234567890","type":"location","location":{"latitude":-90,"longitude":180}}`:                                                  nil,
		`{"to":"6281234567890","type":"contact","contact":{"name":"Sari","phone":"+62 812 3456 789"}}`:                                          nil,
		`{"to":"6281234567890","type":"contact","contacts":[{"name":"S","vcard":"BEGIN:VCARD\nFN:S\nEND:VCARD\n"}]}`:                            nil,
		`{"to":"6281234567890","type":"poll","poll":{"question":"q","options":["a","b"],"choices":0}}`:                                          nil,
		`{"type":"reaction","messageId":"3EB0C0FFEE","message":"👍🏽"}`:                                                                           nil,
		`{"type":"reaction","messageId":"3EB0C0FFEE","message":""}`:                                                                             nil,
		`{"type":"edit","messageId":"3EB0C0FFEE","message":"x"}`:                                                                                nil,
		`{"type":"delete","messageId":"3EB0C0FFEE"}`:                                                                                            nil,
		`{"to":"6281234567890","message":"hi","caption":"","contacts":[],"mediaUrl":""}`:                                                        nil, // empty is absent

		// What is missing, too much, or not of this type.
		`{}`:                                  {"message", "to"},
		`{"to":"6281234567890"}`:              {"message"},
		`{"to":"6281234567890","message":""}`: {"message"},
		`{"type":"fax"}`:                      {"type"},
		`{"type":"vote"}`:                     {"type"},
		`{"to":"6281234567890","mediaUrl":"https://example.com/x","caption":"x"}`:                                                                  {"type"},
		`{"to":"6281234567890","type":"text","message":"x","caption":"c","poll":{}}`:                                                               {"caption", "poll", "poll.question", "poll.options"},
		`{"to":"6281234567890","type":"image"}`:                                                                                                    {"mediaUrl"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://e.com/x","mediaId":"5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f"}`:                      {"mediaUrl"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://e.com/x","message":"m"}`:                                                         {"message"},
		`{"to":"6281234567890","type":"voice","mediaUrl":"https://e.com/x","caption":"c"}`:                                                         {"caption"},
		`{"to":"6281234567890","type":"contact","contact":{"name":"a","phone":"6281234567890"},"contacts":[{"name":"a","phone":"6281234567890"}]}`: {"contact"},
		`{"type":"reaction","message":"👍"}`:                                                                                                        {"messageId"},
		`{"type":"reaction","messageId":"x"}`:                                                                                                      {"message"},
		`{"type":"reaction","messageId":"x","message":"👍","mentions":["6281234567890"]}`:                                                           {"mentions"},
		`{"type":"delete","messageId":"x","message":"m"}`:                                                                                          {"message"},

		// Values.
		`{"to":"0812345678","message":"x"}`:                                                                                      {"to"},
		`{"to":"6281234567890","message":"` + strings.Repeat("é", MaxText) + `"}`:                                                nil,
		`{"to":"6281234567890","message":"` + strings.Repeat("é", MaxText+1) + `"}`:                                              {"message"},
		`{"to":"6281234567890","message":"a\u0000b"}`:                                                                            {"message"},
		`{"to":"6281234567890","message":"x","mentions":["1@g.us","status@broadcast","abc"]}`:                                    {"mentions[0]", "mentions[1]", "mentions[2]"},
		`{"to":"6281234567890","message":"x","mentions":["12345678901@g.us"]}`:                                                   {"mentions[0]"},
		`{"to":"6281234567890","message":"x","mentions":[` + many(257, `"6281234567890"`) + `]}`:                                 {"mentions"},
		`{"to":"6281234567890","message":"x","replyTo":"a b"}`:                                                                   {"replyTo"},
		`{"to":"6281234567890","message":"x","priority":"urgent"}`:                                                               {"priority"},
		`{"to":"6281234567890","message":"x","metadata":[1]}`:                                                                    {"metadata"},
		`{"to":"6281234567890","message":"x","metadata":null}`:                                                                   {"metadata"},
		`{"to":"6281234567890","message":"x","metadata":{"a":1e400}}`:                                                            {"metadata"},
		`{"to":"6281234567890","message":"x","metadata":{"a":"\u0000"}}`:                                                         {"metadata"},
		`{"to":"6281234567890","message":"x","metadata":{"a":"` + strings.Repeat("x", 1024) + `"}}`:                              {"metadata"},
		`{"to":"6281234567890","message":"x","metadata":{"a":["\ud800",12345678901234567890]}}`:                                  nil,
		`{"to":"6281234567890","type":"image","mediaUrl":"ftp://e.com/x"}`:                                                       {"mediaUrl"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://u:p@e.com/x"}`:                                                 {"mediaUrl"},
		`{"to":"6281234567890","type":"image","mediaUrl":"file:///etc/passwd"}`:                                                  {"mediaUrl"},
		`{"to":"6281234567890","type":"image","mediaId":"7"}`:                                                                    {"mediaId"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://e.com/x","caption":"` + strings.Repeat("x", 1025) + `"}`:       {"caption"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://e.com/x","filename":"../x"}`:                                   {"filename"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://e.com/x","filename":".."}`:                                     {"filename"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://e.com/x","filename":"a\nb"}`:                                   {"filename"},
		`{"to":"6281234567890","type":"image","mediaUrl":"https://e.com/x","mimetype":"jpeg"}`:                                   {"mimetype"},
		`{"to":"6281234567890","type":"location","location":{"latitude":90.01,"longitude":-180.01}}`:                             {"location.latitude", "location.longitude"},
		`{"to":"6281234567890","message":" \n"}`:                                                                                 {"message"},
		`{"to":"6281234567890","type":"contact","contact":{"name":" ","phone":"1","vcard":"x"}}`:                                 {"contact.name", "contact.phone"},
		`{"to":"6281234567890","type":"contact","contacts":[{"name":"a","vcard":"x"},{"name":"b","phone":"0812"},{"name":"c"}]}`: {"contacts[0].vcard", "contacts[1].phone", "contacts[2].phone"},
		`{"to":"6281234567890","type":"contact","contacts":[` + many(51, `{"name":"a","phone":"6281234567890"}`) + `]}`:          {"contacts"},
		`{"to":"6281234567890","type":"poll","poll":{"question":"","options":["a"],"choices":1}}`:                                {"poll.question", "poll.options"},
		`{"to":"6281234567890","type":"poll","poll":{"question":"q","options":["a","a"," "],"choices":4}}`:                       {"poll.options[1]", "poll.options[2]", "poll.choices"},
		`{"to":"6281234567890","type":"poll","poll":{"question":"q","options":[` + many(13, `"a"`) + `]}}`:                       {"poll.options"},
		`{"type":"reaction","messageId":"x","message":"ok"}`:                                                                     {"message"},
		`{"type":"reaction","messageId":"x y","message":"👍"}`:                                                                    {"messageId"},

		// Times.
		`{"to":"6281234567890","message":"x","sendAt":"2026-03-31T11:59:59Z"}`:                                    nil,
		`{"to":"6281234567890","message":"x","sendAt":"2026-03-31T12:00:01Z"}`:                                    {"sendAt"},
		`{"to":"6281234567890","message":"x","sendAt":"1999-01-01T00:00:00Z","ttl":1}`:                            nil,
		`{"to":"6281234567890","message":"x","sendAt":"2026-03-02T00:00:00Z","expiresAt":"2026-03-01T23:59:59Z"}`: {"expiresAt"},
		`{"to":"6281234567890","message":"x","expiresAt":"2026-03-01T12:00:00Z"}`:                                 {"expiresAt"},
		`{"to":"6281234567890","message":"x","expiresAt":"2027-03-01T12:00:00Z"}`:                                 {"expiresAt"},
		`{"to":"6281234567890","message":"x","expiresAt":"2026-03-01T13:00:00Z","ttl":5}`:                         {"ttl"},
		`{"to":"6281234567890","message":"x","ttl":0}`:                                                            {"ttl"},
		`{"to":"6281234567890","message":"x","ttl":2592001}`:                                                      {"ttl"},
	} {
		assert.ElementsMatch(t, want, fields(draft(t, body)), "%.200s", body)
	}
}

func TestEveryTypeHasARule(t *testing.T) {
	for _, kind := range Types() {
		r, ok := RuleOf(kind)
		require.True(t, ok, kind)
		require.NotEmpty(t, r.Needs, kind)
	}
	require.Len(t, rules, len(Types()))
}

func TestSchedule(t *testing.T) {
	at := func(d *Draft) string {
		sendAt, expiresAt := d.Schedule(now, time.Hour)
		if sendAt == nil {
			return fmt.Sprint("now, ", expiresAt.Sub(now))
		}
		return fmt.Sprint(sendAt.Sub(now), ", ", expiresAt.Sub(now))
	}
	assert.Equal(t, "now, 1h0m0s", at(&Draft{}))
	assert.Equal(t, "2h0m0s, 3h0m0s", at(draft(t, `{"sendAt":"2026-03-01T14:00:00Z"}`)), "the default counts from then on")
	assert.Equal(t, "2h0m0s, 2h0m10s", at(draft(t, `{"sendAt":"2026-03-01T14:00:00Z","ttl":10}`)))
	assert.Equal(t, "now, 10s", at(draft(t, `{"sendAt":"2026-03-01T11:00:00Z","ttl":10}`)), "what is past is now")
	assert.Equal(t, "2h0m0s, 4h0m0s", at(draft(t, `{"sendAt":"2026-03-01T14:00:00Z","expiresAt":"2026-03-01T16:00:00Z"}`)))
}

func TestDetails(t *testing.T) {
	require.Nil(t, draft(t, `{"to":"6281234567890","message":"x"}`).Details())
	d := draft(t, `{"mentions":["+62 812-3456-7890","6281234567890@c.us"],"poll":{"question":"q","options":["a","b"]},"contact":{"name":"S","phone":"1"}}`).Details()
	require.Equal(t, []string{"6281234567890@s.whatsapp.net"}, d.Mentions, "each person once, as a JID")
	require.Equal(t, 1, d.Poll.Choices, "one choice by default")
	require.Equal(t, []Card{{Name: "S", Phone: "1"}}, d.Contacts)
}

func TestVCard(t *testing.T) {
	c := Card{Name: "Sari; \"the\\boss\"\nEND:VCARD", Phone: "+6281234567890"}.Filled()
	require.Equal(t, "BEGIN:VCARD\r\nVERSION:3.0\r\nN:;Sari\\; \"the\\\\boss\"\\nEND:VCARD;;;\r\nFN:Sari\\; \"the\\\\boss\"\\nEND:VCARD\r\nTEL;type=CELL;waid=6281234567890:+6281234567890\r\nEND:VCARD", c.VCard)
	require.Equal(t, "x", Card{VCard: "x"}.Filled().VCard)
}

func TestIsEmoji(t *testing.T) {
	for _, text := range []string{"👍", "❤️", "❤", "👍🏽", "👨‍👩‍👧‍👦", "🇮🇩", "1️⃣", "#️⃣", "☺️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "‼️", "↔️", "©️"} {
		assert.True(t, IsEmoji(text), "%q", text)
	}
	for _, text := range []string{"", "a", "1", "ok", "👍👍", "👍 ", " ", "é", "\n", "+", "\xff", "👍a", strings.Repeat("\u200d👍", 20), "́", "٣", "中"} {
		assert.False(t, IsEmoji(text), "%q", text)
	}
}

func FuzzDraft(f *testing.F) {
	for _, body := range []string{`{"to":"6281234567890","message":"hi","metadata":{"a":"\ud800"}}`, `{"type":"poll","poll":{"question":"q","options":["a","b"]}}`,
		`{"type":"contact","to":"6281234567890","contacts":[{"name":"\ud800","phone":"6281234567890"}]}`, `{"type":"reaction","messageId":"x","message":"👍"}`,
		`{"type":"location","location":{"latitude":1e308,"longitude":-0}}`, `{"to":"12345@lid","message":"\u0000","ttl":-1}`, `{"sendAt":"9999-12-31T23:59:59Z"}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var d Draft
		if json.Unmarshal(body, &d) != nil {
			return
		}
		if problems := Validate(&d, now); len(problems) > 0 {
			for _, p := range problems {
				if p.Field == "" || p.Message == "" {
					t.Fatalf("%s: %+v", body, p)
				}
			}
			return
		}
		details := d.Details()
		if details != nil {
			for i := range details.Contacts {
				details.Contacts[i] = details.Contacts[i].Filled()
			}
		}
		var metadata json.RawMessage
		if len(d.Metadata) > 0 {
			var err error
			if metadata, err = Object(d.Metadata, MaxMetadata); err != nil {
				t.Fatal(err)
			}
		}
		stored, err := json.Marshal(map[string]any{"details": details, "metadata": metadata, "content": d.Text(), "caption": d.Caption, "filename": d.Filename})
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if strings.Contains(string(stored), `\u0000`) && !strings.Contains(string(stored), `\\u0000`) || strings.Contains(string(stored), `\ud8`) && !strings.Contains(string(stored), `\\ud8`) {
			t.Fatalf("jsonb would refuse %s", stored)
		}
		sendAt, expiresAt := d.Schedule(now, time.Hour)
		if sendAt != nil && !expiresAt.After(*sendAt) || !expiresAt.After(now) {
			t.Fatalf("%s expires before it is sent", body)
		}
	})
}
