package api

import (
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/fault"
)

func TestCursor(t *testing.T) {
	t.Parallel()
	for _, id := range []uuid.UUID{uuid.Nil, uuid.Max, uuid.New(), uuid.Must(uuid.NewV7())} {
		text := encodeCursor(id)
		back, err := decodeCursor(text)
		require.NoError(t, err)
		require.Equal(t, id, back)
		for i := range text { // no character can be another one
			for _, c := range []byte("AZaz09-_=+/ \x00\xff") {
				if c == text[i] {
					continue
				}
				_, err := decodeCursor(text[:i] + string(c) + text[i+1:])
				require.True(t, fault.Is(err, "invalid_cursor"), "%q at %d of %q", c, i, text)
			}
			_, err := decodeCursor(text[:i])
			require.True(t, fault.Is(err, "invalid_cursor"))
		}
		for _, foreign := range []string{text + "=", text + "A", " " + text, text + "\n", strings.ToUpper(text) + "a", id.String()} {
			_, err := decodeCursor(foreign)
			require.True(t, fault.Is(err, "invalid_cursor"), "%q", foreign)
		}
	}
}

// The cursors of lists that count are like those of IDs, and neither is taken for the other.
func TestSequenceCursor(t *testing.T) {
	t.Parallel()
	for _, sequence := range []int64{1, 96, 1 << 40, math.MaxInt64} {
		text := encodeSequence(sequence)
		back, err := decodeSequence(text)
		require.NoError(t, err)
		require.Equal(t, sequence, back)
		_, err = decodeCursor(text)
		require.True(t, fault.Is(err, "invalid_cursor"))
		for i := range text {
			_, err := decodeSequence(text[:i] + strings.Map(func(r rune) rune { return r ^ 1 }, text[i:i+1]) + text[i+1:])
			require.True(t, fault.Is(err, "invalid_cursor"), "changed at %d", i)
		}
	}
	for _, foreign := range []string{"", "1", "96", encodeCursor(uuid.New()), encodeSequence(0), encodeSequence(-1)} {
		_, err := decodeSequence(foreign)
		require.True(t, fault.Is(err, "invalid_cursor"), "%q", foreign)
	}
}

// Whatever a client sends is either refused, or the one cursor of an ID.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "A", encodeCursor(uuid.Nil), encodeCursor(uuid.Max), encodeCursor(uuid.New()) + "=", "AZw", strings.Repeat("_", 28), "ÿ\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := decodeCursor(text)
		if err != nil {
			require.True(t, fault.Is(err, "invalid_cursor"))
			require.Equal(t, uuid.Nil, id)
			return
		}
		require.Equal(t, text, encodeCursor(id))
	})
}
