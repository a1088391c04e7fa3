package limits

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCanOpenStream(t *testing.T) {
	l := Streams{PerCredential: 2, PerUser: 3, PerProcess: 4}
	for _, c := range []struct {
		open    Streams
		allowed bool
		left    int
	}{
		{Streams{0, 0, 0}, true, 1},
		{Streams{1, 1, 1}, true, 0},
		{Streams{2, 2, 2}, false, 0},
		{Streams{0, 2, 2}, true, 0},
		{Streams{0, 3, 3}, false, 0},
		{Streams{0, 0, 3}, true, 0},
		{Streams{0, 0, 4}, false, 0},
		{Streams{5, 5, 5}, false, 0},
	} {
		d := CanOpenStream(l, c.open)
		require.Equal(t, []any{c.allowed, c.left}, []any{d.Allowed, d.Left}, "%+v", c.open)
	}
	require.NoError(t, DefaultStreams().Validate())
	for _, bad := range []Streams{{}, {0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {-1, 1, 1}} {
		require.Error(t, bad.Validate(), "%+v", bad)
	}
}
