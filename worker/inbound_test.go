package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
)

// shelf is a MediaStore that fails as often as it is told.
type shelf struct {
	failures int
	err      error
}

func (*shelf) Open(context.Context, string) (io.ReadCloser, error) { return nil, ErrMediaGone }

func (s *shelf) Put(_ context.Context, r io.Reader) (wire.Media, error) {
	b, err := io.ReadAll(r)
	if err == nil && s.failures > 0 {
		s.failures--
		err = s.err
	}
	return wire.Media{ID: "m", Size: int64(len(b))}, err
}

func medium(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader([]byte("x"))), nil
}

func arrived(chat, text string) Event {
	return Event{Type: wire.EventMessageReceived, Data: wire.ReceivedData{Chat: chat, Message: text, Type: "image"}}
}

func TestIntakeKeepsAChatInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		have := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(got)
		}
		store := &shelf{failures: 20, err: errors.New("away")}
		in := NewIntake(t.Context(), Session{ID: "s", Media: store}, func(e Event) {
			d := e.Data.(wire.ReceivedData)
			mu.Lock()
			got = append(got, d.Message)
			mu.Unlock()
			if d.Message == "picture" {
				require.NotNil(t, d.Media)
			}
		}, slog.New(slog.DiscardHandler))
		in.Message(arrived("a", "before"), nil)
		in.Message(arrived("a", "picture"), medium)
		in.Message(arrived("a", "after"), nil)
		in.Message(arrived("b", "elsewhere"), nil)
		synctest.Wait()
		require.Equal(t, []string{"before", "elsewhere"}, have())
		time.Sleep(10 * time.Minute) // of the bubble's clock
		synctest.Wait()
		require.Equal(t, []string{"before", "elsewhere", "picture", "after"}, have())
		in.Message(arrived("a", "at once again"), nil)
		require.Len(t, have(), 5)
		require.Empty(t, in.held)
		in.Close()
	})
}

// What a stranger has sent makes the network's library panic: it is one medium that fails, whichever part of it panics.
func TestIntakeOutlivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got counter
		in := NewIntake(t.Context(), Session{ID: "s", Media: &shelf{}}, got.sink, slog.New(slog.DiscardHandler))
		in.Message(arrived("a", "x"), func(context.Context) (io.ReadCloser, error) { panic("out of order") })
		in.Message(arrived("a", "behind it"), nil)
		in.Message(arrived("b", "x"), func(context.Context) (io.ReadCloser, error) { return io.NopCloser(panicking{}), nil })
		in.Message(arrived("c", "x"), medium)
		time.Sleep(intakePatience + time.Minute)
		require.EqualValues(t, 4, got.all.Load())
		require.EqualValues(t, 2, got.without.Load())
		require.Empty(t, in.slots)
		in.Close()
	})
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("out of order") }

func TestIntakeReportsNothingAfterItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := NewIntake(t.Context(), Session{Media: &shelf{failures: 1 << 30, err: errors.New("away")}}, func(e Event) {
			t.Errorf("reported %+v", e.Data)
		}, slog.New(slog.DiscardHandler))
		hangs := func(ctx context.Context) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		for range 3 * intakeMedia {
			in.Message(arrived("a", "x"), medium)
		}
		for _, chat := range []string{"b", "c", "d", "e", "f", "g"} {
			in.Message(arrived(chat, "x"), hangs)
		}
		time.Sleep(time.Minute)
		in.Close()
		in.Message(arrived("z", "late"), nil)
		in.Close()
	})
}

// counter counts what is reported, and which of it lacks its medium.
type counter struct{ all, without atomic.Int64 }

func (c *counter) sink(e Event) {
	c.all.Add(1)
	if e.Data.(wire.ReceivedData).MediaError == wire.CodeMediaUnavailable {
		c.without.Add(1)
	}
}

func TestAMediumThatFailsForMinutesIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got counter
		broken := func(context.Context) (io.ReadCloser, error) { return nil, errors.New("the network cannot give it") }
		in := NewIntake(t.Context(), Session{ID: "s", Media: &shelf{}}, got.sink, slog.New(slog.DiscardHandler))
		for chat := range 2 * intakeMedia { // more than there are slots: between two attempts others have them
			in.Message(arrived(string(rune('a'+chat)), "x"), broken)
			in.Message(arrived(string(rune('a'+chat)), "behind it"), nil)
		}
		in.Message(arrived("z", "x"), medium)
		synctest.Wait()
		require.EqualValues(t, 1, got.all.Load(), "the one that can be had")
		time.Sleep(intakePatience - time.Second)
		require.EqualValues(t, 1, got.all.Load())
		time.Sleep(time.Minute)
		require.EqualValues(t, 1+4*intakeMedia, got.all.Load(), "their chats go on")
		require.EqualValues(t, 2*intakeMedia, got.without.Load())
		require.Empty(t, in.rooms[0].places)
		in.Close()
	})
}

// Who waits for a message has it after a minute, with its medium or without.
func TestAMediumThatIsWaitedForIsLeftOutSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got counter
		in := NewIntake(t.Context(), Session{ID: "s", Media: &shelf{failures: 1 << 30, err: errors.New("away")}}, got.sink, slog.New(slog.DiscardHandler))
		done := in.Hurry()
		in.Message(arrived("a", "x"), medium)
		time.Sleep(intakePressed + 15*time.Second)
		require.EqualValues(t, 1, got.without.Load())
		done()
		in.Message(arrived("a", "x"), medium)
		time.Sleep(intakePressed + 15*time.Second)
		require.EqualValues(t, 1, got.without.Load(), "nobody waits any more")
		in.Close()
	})
}

func TestWhatAnIntakeHoldsBackIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got counter
		room := NewRoom(intakePlaces + 10)
		session := func() Session {
			return Session{ID: "s", Media: &shelf{failures: 1 << 30, err: errors.New("away")}, Room: room}
		}
		in := NewIntake(t.Context(), session(), got.sink, slog.New(slog.DiscardHandler))
		var read atomic.Int64
		go func() {
			in.Message(arrived("a", "x"), medium)
			for range 2 * intakePlaces {
				in.Message(arrived("a", "behind it"), nil)
				read.Add(1)
			}
		}()
		synctest.Wait()
		require.EqualValues(t, intakePlaces-1, read.Load(), "the reader waits")
		time.Sleep(intakePressed + 15*time.Second)
		require.EqualValues(t, 1, got.without.Load(), "sooner than if nobody waited")
		require.EqualValues(t, 1+2*intakePlaces, got.all.Load())

		other, done := NewIntake(t.Context(), session(), got.sink, slog.New(slog.DiscardHandler)), make(chan struct{})
		for range intakePlaces {
			in.Message(arrived("a", "x"), medium)
		}
		go func() {
			defer close(done)
			for range 11 {
				other.Message(arrived("b", "x"), medium)
			}
		}()
		synctest.Wait()
		require.Len(t, room.places, cap(room.places), "of all connections")
		in.Close()
		<-done
		require.Len(t, room.places, 11)
		go func() {
			for range intakePlaces {
				other.Message(arrived("b", "x"), medium)
			}
		}()
		synctest.Wait()
		other.Close() // while somebody waits
		synctest.Wait()
		require.Empty(t, room.places)
	})
}

func TestIntakeSaysWhyThereIsNoMedium(t *testing.T) {
	gone := func(context.Context) (io.ReadCloser, error) { return nil, ErrMediaGone }
	for want, c := range map[string]struct {
		store MediaStore
		fetch Fetch
	}{
		wire.CodeMediaGone:     {&shelf{}, gone},
		"media_refused":        {nil, medium},
		wire.CodeMediaTooLarge: {&shelf{1, errors.Join(ErrMediaRefused, &wire.Error{Status: 413, Code: wire.CodeMediaTooLarge})}, medium},
	} {
		told := make(chan wire.ReceivedData, 1)
		in := NewIntake(t.Context(), Session{Media: c.store}, func(e Event) { told <- e.Data.(wire.ReceivedData) }, slog.New(slog.DiscardHandler))
		in.Message(arrived("a", "x"), c.fetch)
		d := <-told
		require.Nil(t, d.Media)
		require.Equal(t, want, d.MediaError)
		in.Close()
	}
}

// The gateway's refusals tell what passes from what does not.
func TestMediaOfTheGateway(t *testing.T) {
	status, body := 0, ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer srv.Close()
	store := &gatewayMedia{wire.NewGateway(srv.Client(), srv.URL, "tok"), wire.MediaOwner{WorkerID: "w", Secret: "s", Term: 1, SessionID: "s"}}
	for _, c := range []struct {
		status        int
		body          string
		gone, refused bool
	}{
		{404, `{"success":false,"error":"x","code":"media_not_found"}`, true, false},
		{404, `not the gateway`, false, false},
		{404, `{"success":false,"error":"x","code":"session_not_found"}`, false, false},
		{413, `{"success":false,"error":"x","code":"media_too_large"}`, false, true},
		{422, `{"success":false,"error":"x","code":"media_empty"}`, false, true},
		{429, `{"success":false,"error":"x","code":"too_many_uploads"}`, false, false},
		{409, `{"success":false,"error":"x","code":"stale_term"}`, false, false},
		{503, `{"success":false,"error":"x","code":"database_unavailable"}`, false, false},
		{502, ``, false, false},
	} {
		status, body = c.status, c.body
		_, err := store.Open(t.Context(), "m")
		require.Error(t, err)
		require.Equal(t, c.gone, errors.Is(err, ErrMediaGone), c.body)
		_, err = store.Put(t.Context(), bytes.NewReader([]byte("x")))
		require.Error(t, err)
		require.Equal(t, c.refused, errors.Is(err, ErrMediaRefused), c.body)
	}
	status, body = 200, `{"success":true,"data":{"id":"5f6e3c0a-8d5e-8b1f-9a37-0c8f7c1d2e3f","size":1,"mimetype":"text/plain"}}`
	m, err := store.Put(t.Context(), bytes.NewReader([]byte("x")))
	require.NoError(t, err)
	require.EqualValues(t, 1, m.Size)
}

func TestAChoiceAboutCallsReachesTheEngine(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		create := func(epoch int64, reject bool) *conn {
			_, err := b.n.Create(b.Context(), 1, wire.CreateSession{SessionID: "s1", Epoch: epoch, RejectCalls: reject})
			require.NoError(b, err)
			return b.e.last()
		}
		c := create(1, true)
		require.True(b, c.s.RejectCalls())
		require.Same(b, c, create(1, false), "the connection goes on")
		require.False(b, c.s.RejectCalls())
		require.True(b, create(2, true).s.RejectCalls())
		require.NotNil(b, c.s.Media)
	})
}

// A presence is of the moment: it is not kept for a gateway that is away.
func TestPresenceIsDroppedWhenMuchWaits(t *testing.T) {
	b := &bench{T: t}
	n := New(Config{MaxEvents: 20, Logger: slog.New(slog.DiscardHandler)}, &engine{})
	tm := &term{lease: newLease(b.Context(), time.Now, time.Now(), time.Hour)}
	sink := n.sink(newSession(wire.CreateSession{SessionID: "s"}, tm.lease, 0), tm)
	acked := 0
	for range 10 {
		sink(Event{Type: wire.EventPresence, Data: wire.PresenceData{}, Ack: func() { acked++ }})
	}
	require.Equal(t, 3, n.outbox.len())
	require.Equal(t, 7, acked)
	sink(arrived("a", "x"))
	require.Equal(t, 4, n.outbox.len())
}
