package message

import (
	"encoding/json"
	"testing"
)

// BenchmarkValidate is what reading and judging a message costs: of a text, and of one with all that a text can have.
func BenchmarkValidate(b *testing.B) {
	for name, body := range map[string]string{
		"text": `{"to":"6281234567890","type":"text","message":"Hello, your order is on its way and arrives tomorrow"}`,
		"everything": `{"to":"6281234567890","type":"text","message":"hi @6281234567890","linkPreview":false,"mentions":["+62 812-3456-7890","12345@lid"],"replyTo":"3EB0",` +
			`"forwarded":true,"ttl":3600,"priority":"high","metadata":{"order":{"id":17,"lines":[1,2,3]}}}`,
	} {
		raw := []byte(body)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var d Draft
				if err := json.Unmarshal(raw, &d); err != nil {
					b.Fatal(err)
				}
				if problems := Validate(&d, now); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}
