package grouped_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/grouped"
)

var errBad = errors.New("bad")

// doubler answers twice the number, each group when the test lets it.
type doubler struct {
	grouped.Calls[int, int]
	let   chan struct{}
	began chan []int
}

func newDoubler(size, side int) *doubler {
	d := &doubler{let: make(chan struct{}), began: make(chan []int, 100)}
	d.Calls = grouped.Calls[int, int]{Size: size, Side: side, Timeout: 10 * time.Second, Alone: func(err error) bool { return errors.Is(err, errBad) },
		Run: func(_ context.Context, group []int) ([]int, error) {
			d.began <- group
			<-d.let
			answers := make([]int, len(group))
			for i, n := range group {
				switch n {
				case 13:
					return nil, errBad
				case 17:
					panic("seventeen")
				case 23:
					return nil, nil
				case 29:
					runtime.Goexit()
				}
				answers[i] = 2 * n
			}
			return answers, nil
		}}
	return d
}

func TestOneRunsAtOnceAndTheNextGather(t *testing.T) {
	d := newDoubler(3, 1)
	var all sync.WaitGroup
	ask := func(n int) {
		all.Go(func() {
			answer, err := d.Do(n)
			require.NoError(t, err)
			require.Equal(t, 2*n, answer)
		})
	}
	ask(1)
	require.Equal(t, []int{1}, <-d.began, "it waits for nobody")
	for n := 2; n <= 6; n++ {
		ask(n)
	}
	d.Waits(t, 5)
	close(d.let)
	require.Len(t, <-d.began, 3, "a group is bounded")
	require.Len(t, <-d.began, 2)
	all.Wait()
	require.Empty(t, d.began)
	ask(7)
	require.Equal(t, []int{7}, <-d.began)
	all.Wait()
}

func (d *doubler) Waits(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return d.Waiting() == n }, 5*time.Second, time.Millisecond)
}

// Between two groups lies a gap, in which the second grows. Who comes later waits for nobody, and a full group does not wait.
func TestGroupsGrowInTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var groups []int
		var calls sync.WaitGroup
		began := time.Now()
		c := grouped.Calls[int, time.Duration]{Size: 3, Side: 1, Timeout: time.Minute, Gap: 10 * time.Millisecond,
			Run: func(_ context.Context, group []int) ([]time.Duration, error) {
				groups = append(groups, len(group))
				return slices.Repeat([]time.Duration{time.Since(began)}, len(group)), nil
			}}
		at := func(when, want time.Duration) {
			calls.Go(func() {
				time.Sleep(when * time.Millisecond)
				if got, err := c.Do(0); err != nil || got != want*time.Millisecond {
					t.Errorf("what came at %d ms was answered at %v, %v", when, got, err)
				}
			})
		}
		at(1, 1) // alone
		at(2, 11)
		at(5, 11)
		at(22, 22)
		at(30, 32)
		at(40, 42)
		at(41, 42)
		at(43, 52)
		calls.Wait()
		require.Equal(t, []int{1, 2, 1, 1, 2, 1}, groups)

		groups = nil
		time.Sleep(time.Second)
		for range 7 { // a group of one, and then full ones as long as there are any
			calls.Go(func() { _, _ = c.Do(0) })
		}
		calls.Wait()
		require.Less(t, len(groups), 5)
	})
}

func TestGroupsSideBySide(t *testing.T) {
	d := newDoubler(10, 2)
	var all sync.WaitGroup
	for n := range 2 {
		all.Go(func() { _, _ = d.Do(n) })
		require.Equal(t, []int{n}, <-d.began)
	}
	all.Go(func() { _, _ = d.Do(3) })
	d.Waits(t, 1)
	require.Empty(t, d.began, "two groups at most")
	close(d.let)
	all.Wait()
}

// A call that is bad is found out by running each alone, and takes no other along; what nobody's call has caused is everybody's error.
func TestErrors(t *testing.T) {
	for bad, want := range map[int]string{13: "bad", 17: "panic in a group of calls: seventeen", 23: "not answered whole", 29: "ended the goroutine"} {
		d := newDoubler(10, 1)
		var all sync.WaitGroup
		all.Go(func() { _, _ = d.Do(0) })
		<-d.began
		for _, n := range []int{1, bad, 2} {
			all.Go(func() {
				answer, err := d.Do(n)
				switch {
				case n == bad:
					require.ErrorContains(t, err, want)
				case bad == 13:
					require.NoError(t, err)
					require.Equal(t, 2*n, answer)
				default:
					require.True(t, strings.Contains(err.Error(), want))
				}
			})
		}
		d.Waits(t, 3)
		close(d.let)
		all.Wait()
		answer, err := d.Do(4)
		require.NoError(t, err, "after %d", bad)
		require.Equal(t, 8, answer)
	}
}

// Calls that are run by themselves, after a group in which one was bad, are answered too when one of them ends its goroutine.
func TestOneAloneEndsItsGoroutine(t *testing.T) {
	c := grouped.Calls[int, int]{Size: 10, Side: 1, Timeout: 10 * time.Second, Alone: func(error) bool { return true }}
	first, let := make(chan bool), make(chan bool)
	c.Run = func(_ context.Context, group []int) ([]int, error) {
		switch {
		case group[0] == 0:
			first <- true
			<-let
		case len(group) > 1:
			return nil, errBad
		case group[0]%2 == 1:
			runtime.Goexit()
		}
		return group, nil
	}
	var all sync.WaitGroup
	all.Go(func() { _, _ = c.Do(0) })
	<-first
	for n := 1; n <= 10; n++ {
		all.Go(func() {
			answer, err := c.Do(n)
			if n%2 == 1 {
				require.ErrorContains(t, err, "ended the goroutine")
				return
			}
			require.NoError(t, err)
			require.Equal(t, n, answer)
		})
	}
	require.Eventually(t, func() bool { return c.Waiting() == 10 }, 5*time.Second, time.Millisecond)
	close(let)
	all.Wait()
}
