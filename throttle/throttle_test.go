package throttle

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"kurir/embedded/embeddedtest"
	"kurir/limits"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

const patience = 20 * time.Second

func connect(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	require.NoError(t, err)
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// servers are all that Kurir runs on.
func servers(t testing.TB) map[string]*redis.Client {
	t.Helper()
	return map[string]*redis.Client{"redis": connect(t, embeddedtest.Redis(t)), "miniredis": connect(t, "redis://"+miniredis.RunT(t).Addr())}
}

// What Redis counts is what memory counts, whatever is asked and whenever.
func TestRedisCountsAsMemoryDoes(t *testing.T) {
	for name, client := range servers(t) {
		t.Run(name, func(t *testing.T) {
			run := 0
			rapid.Check(t, func(t *rapid.T) {
				run++
				now := time.UnixMilli(1_790_000_000_000)
				r, m := NewRedis(client, patience), NewMemory(10)
				r.now = func() int64 { return now.UnixMilli() }
				m.now = func() time.Time { return now }
				p := limits.Policy{Limit: rapid.IntRange(0, 12).Draw(t, "limit"), Window: time.Minute, Slots: rapid.IntRange(1, 6).Draw(t, "slots"), Late: rapid.IntRange(0, 1).Draw(t, "late")}
				key := fmt.Sprintf("test:%d", run)
				var former []Taken
				for range rapid.IntRange(1, 25).Draw(t, "steps") {
					now = now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 1, 999, 5_000, 10_000, 31_000, 61_000, 500_000, -7_000}).Draw(t, "pass")) * time.Millisecond)
					if len(former) > 0 && rapid.IntRange(0, 3).Draw(t, "give") == 0 {
						back, n := former[rapid.IntRange(0, len(former)-1).Draw(t, "which")], rapid.IntRange(1, 4).Draw(t, "back")
						require.NoError(t, r.Give(context.Background(), back, n))
						if c, ok := m.counters.Get(key); ok {
							c.Give(n, back.Slot)
						}
					}
					ask := Ask{Key: key, Policy: p, N: rapid.IntRange(0, 5).Draw(t, "n")}
					a, err := r.Take(context.Background(), ask)
					require.NoError(t, err)
					b, err := m.Take(context.Background(), ask)
					require.NoError(t, err)
					require.Equal(t, b, a)
					if a[0].Allowed && ask.N > 0 {
						former = append(former, a[0])
					}
				}
			})
		})
	}
}

// All processes together let in exactly the limit, in one pipeline with others, each of which stands alone.
func TestParallelTakesLetInExactlyTheLimit(t *testing.T) {
	client := connect(t, embeddedtest.Redis(t))
	p := limits.Policy{Limit: 100, Window: time.Hour, Slots: 60}
	other := limits.Policy{Limit: 7, Window: time.Hour, Slots: 60}
	var mu sync.Mutex
	counted := map[string]int{}
	var group sync.WaitGroup
	for range 4 {
		r := NewRedis(client, patience)
		for range 50 {
			group.Go(func() {
				for range 2 {
					taken, err := r.Take(context.Background(), Ask{Key: "all", Policy: p, N: 1}, Ask{Key: "few", Policy: other, N: 1})
					mu.Lock()
					if err != nil {
						counted[err.Error()]++
					} else {
						for _, one := range taken {
							if one.Allowed {
								counted[one.Ask.Key]++
							}
						}
					}
					mu.Unlock()
				}
			})
		}
	}
	group.Wait()
	require.Equal(t, map[string]int{"all": 100, "few": 7}, counted)
}

// A counter that may not be made is missing after a flush; one that is installed counts on, and only a later one replaces it.
func TestInstall(t *testing.T) {
	for name, client := range servers(t) {
		t.Run(name, func(t *testing.T) {
			now := time.UnixMilli(1_790_000_000_000)
			r := NewRedis(client, patience)
			r.now = func() int64 { return now.UnixMilli() }
			p := limits.Limits{MessagesPerHour: 10}.Messages()
			take := func(n int) Taken {
				t.Helper()
				taken, err := r.Take(t.Context(), Ask{Key: "k", Policy: p, N: n, Strict: true})
				require.NoError(t, err)
				return taken[0]
			}
			require.True(t, take(1).Missing)
			require.NoError(t, r.Install(t.Context(), "k", p, 7, map[int64]int64{0: 2, 30: 3, 62: 100}))
			require.NoError(t, r.Install(t.Context(), "k", p, 7, map[int64]int64{0: 9}))
			require.NoError(t, r.Install(t.Context(), "k", p, 6, map[int64]int64{0: 9}))
			got := take(1)
			require.Equal(t, int64(7), got.Epoch)
			require.Equal(t, 4, got.Left)
			require.Equal(t, 32*time.Minute-20*time.Second, got.Reset, "what is 30 minutes old comes back when its slot is 62 old")
			require.NoError(t, r.Give(t.Context(), got, 1))
			require.Equal(t, 5, take(0).Left)

			require.NoError(t, r.Install(t.Context(), "k", p, 8, map[int64]int64{1: 9}))
			require.NoError(t, r.Give(t.Context(), got, 1), "what was counted before is nothing to the new one")
			require.Equal(t, 1, take(0).Left)
			require.NoError(t, r.Forget(t.Context(), "k", 7))
			require.False(t, take(0).Missing)
			require.NoError(t, r.Forget(t.Context(), "k", 8))
			require.True(t, take(0).Missing)
			require.NoError(t, r.Install(t.Context(), "k", p, 9, nil))
			require.Equal(t, 10, take(0).Left)
			now = now.Add(3 * time.Hour)
			require.Equal(t, int64(9), take(1).Epoch, "its epoch outlives what it counted")
			require.NoError(t, r.Clear(t.Context(), "k"))
			require.True(t, take(0).Missing)

			first, err := r.First(t.Context(), "once", time.Minute)
			require.NoError(t, err)
			require.True(t, first)
			first, err = r.First(t.Context(), "once", time.Minute)
			require.NoError(t, err)
			require.False(t, first)
			require.Greater(t, client.PTTL(t.Context(), "once").Val(), time.Duration(0))
		})
	}
}

func TestEveryKeyExpires(t *testing.T) {
	client := connect(t, embeddedtest.Redis(t))
	r := NewRedis(client, patience)
	p := limits.Policy{Limit: 5, Window: time.Minute, Slots: 6}
	for n := range 7 {
		_, err := r.Take(t.Context(), Ask{Key: fmt.Sprint("k", n), Policy: p, N: n}, Ask{Key: "looked", Policy: p})
		require.NoError(t, err)
	}
	require.NoError(t, r.Install(t.Context(), "installed", p, 1, nil))
	keys := client.Keys(t.Context(), "*").Val()
	require.ElementsMatch(t, []string{"k1", "k2", "k3", "k4", "k5", "installed"}, keys, "looking and being refused make nothing")
	for _, key := range keys {
		require.InDelta(t, 80_000, client.PTTL(t.Context(), key).Val().Milliseconds(), 10_000, key)
	}
}

func TestScriptsAreLoadedAgain(t *testing.T) {
	client := connect(t, embeddedtest.Redis(t))
	r := NewRedis(client, patience)
	p := limits.Policy{Limit: 5, Window: time.Minute, Slots: 6}
	for left := 4; left >= 0; left-- {
		require.NoError(t, client.ScriptFlush(t.Context()).Err())
		taken, err := r.Take(t.Context(), Ask{Key: "a", Policy: p, N: 1}, Ask{Key: "b", Policy: p, N: 1})
		require.NoError(t, err)
		require.Equal(t, []int{left, left}, []int{taken[0].Left, taken[1].Left})
	}
}

// A Redis that does not answer costs its callers little: after three of them nobody asks it for a second.
func TestRedisDown(t *testing.T) {
	dialled := 0
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1})
	defer client.Close()
	client.AddHook(countDials{&dialled})
	r := NewRedis(client, patience)
	for range 50 {
		_, err := r.Take(t.Context(), Ask{Key: "k", Policy: limits.Policy{Limit: 5, Window: time.Minute, Slots: 6}, N: 1})
		require.ErrorIs(t, err, ErrDown)
	}
	require.Equal(t, 3, dialled)
}

type countDials struct{ n *int }

func (c countDials) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c countDials) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { *c.n++; return next(ctx, cmd) }
}
func (c countDials) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestMemoryIsBounded(t *testing.T) {
	m := NewMemory(3)
	p := limits.Policy{Limit: 1, Window: time.Minute, Slots: 6}
	for i := range 10 {
		_, _ = m.Take(t.Context(), Ask{Key: fmt.Sprint(i), Policy: p, N: 1}, Ask{Key: "only looked at", Policy: p})
	}
	require.Equal(t, []string{"7", "8", "9"}, m.counters.Keys())
	taken, _ := m.Take(t.Context(), Ask{Key: "9", Policy: p, N: 1})
	require.False(t, taken[0].Allowed)
	require.NoError(t, m.Clear(t.Context(), "9"))
	taken, _ = m.Take(t.Context(), Ask{Key: "9", Policy: p, N: 1})
	require.True(t, taken[0].Allowed)
}
