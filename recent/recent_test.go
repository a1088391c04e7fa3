package recent_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/recent"
)

func TestValuesAreForgottenInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := recent.New[string, int](10, time.Second)
		v.Add("a", 1)
		time.Sleep(999 * time.Millisecond) // of the bubble's clock
		for _, read := range []func(string) (int, bool){v.Get, v.Peek} {
			got, ok := read("a")
			require.True(t, ok)
			require.Equal(t, 1, got)
		}
		time.Sleep(time.Millisecond)
		for _, read := range []func(string) (int, bool){v.Get, v.Peek} {
			got, ok := read("a")
			require.False(t, ok, "asking does not make it stay")
			require.Zero(t, got)
		}
		v.Add("a", 2)
		time.Sleep(600 * time.Millisecond)
		v.Add("a", 3)
		time.Sleep(600 * time.Millisecond)
		got, ok := v.Get("a")
		require.True(t, ok, "it stays as long as the newest one")
		require.Equal(t, 3, got)
	})
}

func TestTheLeastUsedGoes(t *testing.T) {
	v := recent.New[string, int](2, time.Hour)
	v.Add("a", 1)
	v.Add("b", 2)
	v.Get("a")
	v.Peek("b")
	v.Add("c", 3)
	require.ElementsMatch(t, []string{"a", "c"}, v.Keys())
	v.Remove("a")
	v.Remove("a")
	require.Equal(t, []string{"c"}, v.Keys())
	v.Purge()
	require.Empty(t, v.Keys())
	_, ok := v.Get("c")
	require.False(t, ok)
}

// Values cost nothing while nobody asks for them, and end with what holds them.
func TestNothingRuns(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 10 {
		recent.New[string, int](10, time.Second).Add("a", 1)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), before)
}
