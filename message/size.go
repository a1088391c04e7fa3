package message

import (
	"fmt"
	"strconv"
	"strings"
)

// MostMedia is what WhatsApp's clients take of a document, in bytes.
const MostMedia = 2 << 30

// Size is how large a medium may be, in bytes. As a setting it is a number, or one with KB or MB, which count in 1,024.
type Size int64

// UnmarshalText reads it.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit := strings.ToUpper(strings.TrimSpace(string(text))), int64(1)
	for suffix, size := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = strings.TrimSpace(rest), size
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > MostMedia/unit {
		return fmt.Errorf("%q is no size", text)
	}
	*s = Size(n * unit)
	return nil
}
