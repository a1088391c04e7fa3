package jobs

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/media"
	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
)

// heldUntil is by PostgreSQL's clock.
func (b *paceBench) heldUntil(id uuid.UUID) time.Time {
	b.t.Helper()
	return modelstest.Scalar[time.Time](b.t, b.db, `SELECT next_attempt_at FROM messages WHERE id = $1`, id)
}

// heldFor is how long a message is held from now.
func (b *paceBench) heldFor(id uuid.UUID) time.Duration {
	b.t.Helper()
	return time.Until(b.heldUntil(id))
}

// A task that nobody has, because Redis lost it or its runner was killed, holds up its chat for seconds only.
func TestALostFetchIsSoonMadeAnew(t *testing.T) {
	b := newPaceBench(t)
	b.sender.media = &store{}
	id := b.image("a")
	b.drain()
	require.LessOrEqual(t, b.heldFor(id), fetchHold, "nobody has begun")
	_, _, ok, err := models.BeginFetch(t.Context(), b.db.Pool, id, fetchHold)
	require.NoError(t, err)
	require.True(t, ok)
	require.LessOrEqual(t, b.heldFor(id), fetchHold, "who began may die")
	require.LessOrEqual(t, fetchHold, 10*time.Second)
}

// A slow fetch renews its hold as long as it goes on.
func TestASlowFetchKeepsItsHold(t *testing.T) {
	b := newPaceBench(t)
	s := &store{}
	b.sender.media = s
	id := b.image("a")
	b.drain()
	s.then = func() {
		for range 2 {
			before := b.heldUntil(id)
			require.Eventually(t, func() bool { return b.heldUntil(id).After(before) }, 30*time.Second, 50*time.Millisecond)
		}
	}
	require.NoError(t, (&fetcher{b.sender}).run(t.Context(), FetchMedia{MessageID: id}))
	b.drain()
	require.Equal(t, []string{"image"}, b.shown())
}

// endless is a host that sends a byte now and then.
type endless struct{ asked chan struct{} }

func (e endless) Fetch(ctx context.Context, _ uuid.UUID, _, _ string) (message.Media, error) {
	close(e.asked)
	<-ctx.Done()
	return message.Media{}, ctx.Err()
}

// A fetch of a message that was cancelled meanwhile is given up, and counts for nothing.
func TestAFetchForNothingIsGivenUp(t *testing.T) {
	b := newPaceBench(t)
	e := endless{make(chan struct{})}
	b.sender.media = e
	id := b.image("a")
	b.drain()
	done := make(chan error)
	go func() { done <- (&fetcher{b.sender}).run(t.Context(), FetchMedia{MessageID: id}) }()
	<-e.asked
	ok, _, err := models.CancelMessage(t.Context(), b.db, &models.Message{ID: id, SessionUID: b.session.UID}, "shop")
	require.NoError(t, err)
	require.True(t, ok)
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(fetchTimeout / 2):
		t.Fatal("the fetch goes on")
	}
	require.Equal(t, "CANCELLED - 0", b.state(id))
}

// What waits in a queue is not lost: it is not to be queued again and again.
func TestFetchesInAQueueAreHeldOn(t *testing.T) {
	b := newPaceBench(t)
	b.sender.media = &store{}
	over, fresh := b.image("a"), b.image("b")
	b.drain()
	b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, over)
	n, err := models.ProlongFetches(t.Context(), b.db.Pool, fetchQueued, 100)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Greater(t, b.heldFor(over), fetchHold)
	require.LessOrEqual(t, b.heldFor(fresh), fetchHold)
	lanes, err := models.EndHolds(t.Context(), b.db.Pool, 100)
	require.NoError(t, err)
	require.Empty(t, lanes, "it is not met anew")
}

// A medium that the worker cannot have holds its chat up, in order, and nobody else's; it spends no attempt.
func TestAMediumThatIsNotAtHandHoldsUpItsChatOnly(t *testing.T) {
	b := newPaceBench(t)
	first := b.send("a", "with a medium")
	b.send("a", "behind it")
	b.send("b", "elsewhere")
	b.net.verdicts = []verdict{noMedium}
	b.drain()
	require.Equal(t, []string{"elsewhere"}, b.shown(), "the lane does not rest")
	require.Equal(t, "PENDING media 0", b.state(first))
	for range sendTries + 2 { // however often
		b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, first)
		_, err := models.EndHolds(t.Context(), b.db.Pool, 10)
		require.NoError(t, err)
		b.net.verdicts = []verdict{noMedium}
		b.drain()
		require.Empty(t, b.shown())
		require.Equal(t, "PENDING media 0", b.state(first))
	}
	require.LessOrEqual(t, b.heldFor(first), carryBackoff)
	require.Greater(t, b.heldFor(first), carryBackoff/2, "it is asked for less and less often")
	b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, first)
	_, err := models.EndHolds(t.Context(), b.db.Pool, 10)
	require.NoError(t, err)
	b.drain()
	require.Equal(t, []string{"with a medium", "behind it"}, b.shown())
}

// One that may have gone out stays in doubt while its medium is away, and one whose time is over ends.
func TestAMediumThatIsNotAtHandInDoubtAndAtItsEnd(t *testing.T) {
	b := newPaceBench(t)
	doubted, late := b.send("a", "in doubt"), b.send("b", "late")
	b.send("b", "behind it")
	b.net.verdicts = []verdict{unknownUnseen, noMedium}
	b.drain()
	b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, doubted)
	b.net.verdicts = []verdict{noMedium}
	b.drain()
	require.Equal(t, "SENDING media 1", b.state(doubted))
	b.exec(`UPDATE messages SET next_attempt_at = now(), expires_at = now() WHERE id = $1`, late)
	_, err := models.EndHolds(t.Context(), b.db.Pool, 10)
	require.NoError(t, err)
	b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, doubted)
	b.drain()
	require.Equal(t, []string{"in doubt", "behind it"}, b.shown())
	require.Equal(t, "EXPIRED - 0", b.state(late))
}

// why is what a message tells of its last try.
func (b *paceBench) why(id uuid.UUID) string {
	b.t.Helper()
	return modelstest.Scalar[string](b.t, b.db, `SELECT concat_ws(': ', error_code, error_message) FROM messages WHERE id = $1`, id)
}

// meets has the lane meet a held message anew.
func (b *paceBench) meets(id uuid.UUID) {
	b.t.Helper()
	b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, id)
	_, err := models.EndHolds(b.t.Context(), b.db.Pool, 10)
	require.NoError(b.t, err)
	b.drain()
}

// A message tells why it still waits from the first try that failed until its medium is here, and whoever has cancelled it is told
// nothing of that.
func TestAMessageTellsWhyItWaitsForItsMedium(t *testing.T) {
	b := newPaceBench(t)
	s := &store{fail: fault.New(fault.Unavailable, media.CodeUnreachable, "It is down.")}
	b.sender.media = s
	f := &fetcher{b.sender}
	id, given := b.image("a"), b.image("b")
	b.drain()
	require.Empty(t, b.why(id), "nothing was tried")
	for _, m := range []uuid.UUID{id, given} {
		require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: m}))
		require.Equal(t, "media_unreachable: It is down.", b.why(m))
	}
	b.meets(id)
	require.Equal(t, "PENDING media 0", b.state(id))
	require.Equal(t, "media_unreachable: It is down.", b.why(id), "while it is fetched again, too")

	s.fail = unreachableThrough(context.Canceled)
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	require.Equal(t, "media_unreachable: It is down.", b.why(id), "a fetch that was ended from here was no try")
	s.fail = unreachableThrough(media.ErrShare)
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	require.Equal(t, "media_unreachable: No.", b.why(id))
	s.fail = media.ErrStore.WithCause(errors.New("the disk is full"))
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	require.Equal(t, errNotFetched.Code+": "+errNotFetched.Sentence, b.why(id))

	m := &models.Message{ID: given, SessionUID: b.session.UID}
	m.ErrorCode, m.ErrorMessage = &errNotFetched.Code, &errNotFetched.Sentence // as who cancels has read it
	ok, _, err := models.CancelMessage(t.Context(), b.db, m, "shop")
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, b.why(given))
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM events WHERE type = 'message.cancelled' AND data->'errorCode' = 'null'`))

	s.fail = nil
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	require.Empty(t, b.why(id), "the medium is here")
	b.drain()
	require.Equal(t, []string{"image"}, b.shown())
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM events WHERE type = 'message.sent' AND data->'errorCode' = 'null'`))
}

// What a worker could not send yet, or never said anything of, tells so until it is sent.
func TestAMessageThatIsTriedAgainTellsWhy(t *testing.T) {
	b := newPaceBench(t)
	carried, doubted := b.send("a", "with a medium"), b.send("b", "in doubt")
	b.net.verdicts = []verdict{noMedium, unknownUnseen}
	b.drain()
	require.Equal(t, errNotAtHand.Code+": "+errNotAtHand.Sentence, b.why(carried))
	require.Contains(t, b.why(doubted), "outcome_unknown: ")
	b.meets(carried)
	b.exec(`UPDATE messages SET next_attempt_at = now() WHERE id = $1`, doubted)
	b.drain()
	require.Equal(t, []string{"with a medium", "in doubt"}, b.shown())
	require.Empty(t, b.why(carried)+b.why(doubted))
	require.Zero(t, modelstest.Scalar[int64](t, b.db, `SELECT count(*) FROM events WHERE data->>'errorCode' IS NOT NULL`))
}

func unreachableThrough(cause error) error {
	return fault.New(fault.Unavailable, media.CodeUnreachable, "No.").WithCause(cause)
}

// What is our doing is no try of the message's, however long it lasts; only its expiry ends that.
func TestAnOutageOfOursFailsNoMedium(t *testing.T) {
	b := newPaceBench(t)
	s := &store{}
	b.sender.media = s
	f := &fetcher{b.sender}
	id := b.image("a")
	b.drain()
	tries := func() int64 {
		return modelstest.Scalar[int64](t, b.db, `SELECT media_tries::bigint FROM messages WHERE id = $1`, id)
	}
	unreachable := fault.New(fault.Unavailable, media.CodeUnreachable, "No.")
	for _, why := range []error{errors.New("PostgreSQL is away"), media.ErrStore.WithCause(errors.New("the disk is full")), unreachable.WithCause(media.ErrShare),
		unreachable.WithCause(context.Canceled)} {
		s.fail = why
		for range fetchTries {
			require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
		}
		require.Equal(t, "PENDING media 0", b.state(id), "%v", why)
		require.Zero(t, tries(), "%v", why)
	}
	require.InDelta(t, fetchRest.Seconds(), b.heldFor(id).Seconds(), 10)
	b.exec(`UPDATE messages SET expires_at = now() + interval '20 seconds' WHERE id = $1`, id)
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	require.LessOrEqual(t, b.heldFor(id), 20*time.Second, "it may expire")
	s.fail = nil
	require.NoError(t, f.run(t.Context(), FetchMedia{MessageID: id}))
	b.drain()
	require.Equal(t, []string{"image"}, b.shown())
}

// A server that says when to come again is not asked before.
func TestRetryAfterIsHonoured(t *testing.T) {
	b := newPaceBench(t)
	s := &store{fail: fault.New(fault.Unavailable, media.CodeUnreachable, "Not now.").After(10 * time.Minute)}
	b.sender.media = s
	id := b.image("a")
	b.drain()
	require.NoError(t, (&fetcher{b.sender}).run(t.Context(), FetchMedia{MessageID: id}))
	require.InDelta(t, 600, b.heldFor(id).Seconds(), 10)
	require.EqualValues(t, 1, modelstest.Scalar[int64](t, b.db, `SELECT media_tries::bigint FROM messages WHERE id = $1`, id))
}
