package turns_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/turns"
)

func TestTurns(t *testing.T) {
	two := &turns.Turns[string]{Most: 2}
	over, end := context.WithCancel(t.Context())
	end()
	first, ok := two.Take(over, "a")
	require.True(t, ok, "it is free")
	second, ok := two.Take(t.Context(), "a")
	require.True(t, ok)
	_, ok = two.Take(over, "a")
	require.False(t, ok)
	require.Equal(t, 2, two.Users("a"))
	other, ok := two.Take(over, "b")
	require.True(t, ok, "others have turns of their own")
	got := make(chan func())
	go func() {
		leave, _ := two.Take(t.Context(), "a")
		got <- leave
	}()
	first()
	(<-got)()
	second()
	other()
	require.Zero(t, two.Users("a"))
	require.Zero(t, two.Len())

	var one turns.Turns[string]
	leave, ok := one.Take(t.Context(), "a")
	require.True(t, ok)
	_, ok = one.Take(over, "a")
	require.False(t, ok)
	leave()
}
