package webhook

import (
	"strings"
	"testing"
	"time"
)

// BenchmarkSign is one body with its signatures: with one secret, and with two, as after a rotation. Half a kilobyte is what an event
// of a text has.
func BenchmarkSign(b *testing.B) {
	body := []byte(strings.Repeat("x", 512))
	for name, secrets := range map[string][]string{"one secret": {NewSecret()}, "two secrets": {NewSecret(), NewSecret()}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := Sign(secrets, "01a202ce-33e6-70ae-991a-904df10c8393", time.Now(), body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
