package jobs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/models"
)

// Somebody writes at the moment at which the message to him is parked: no look at what is parked finds it, and it waits no longer
// all the same.
func TestSomebodyWritesWhileHisMessageIsParked(t *testing.T) {
	b := newPaceBench(t)
	b.settings(`{"pacing":{"newChatsPerHour":4}}`)
	b.send("first", "first") // uses up what can be used at once
	b.drain()
	b.shown()
	for _, chat := range []string{"a", "b"} {
		id := b.send(chat, chat)
		other := b.send("other", "other")
		hold, ok, err := models.TakeLane(t.Context(), b.db.Pool, b.session.UID, b.lanes.runner)
		require.NoError(t, err)
		require.True(t, ok)
		claim, err := models.ClaimMessages(t.Context(), b.db.Pool, &hold, sendClaim)
		require.NoError(t, err)
		require.NotEmpty(t, claim.Messages)
		r := b.sender.newRound(hold, claim)
		for i := range claim.Messages {
			r.one(t.Context(), b.net.client(), &claim.Messages[i])
		}
		b.hears(chat)
		b.exec(`UPDATE lanes SET next_due_at = NULL`)
		require.NoError(t, r.write(t.Context()))
		require.Equal(t, "PENDING new_chat_limit 0", b.state(other))
		require.Equal(t, "PENDING - 0", b.state(id))
		require.LessOrEqual(t, b.dueIn(), time.Duration(0))
		b.exec(`UPDATE lanes SET holder = NULL`)
		b.drain()
		require.Equal(t, []string{chat}, b.shown())
	}
}

// PostgreSQL's clock is what counts: a runner whose own is wrong neither lets messages expire nor spends their tries at once.
func TestARunnersClockDoesNotCount(t *testing.T) {
	b := newPaceBench(t)
	id := b.send("a", "one")
	hold, ok, err := models.TakeLane(t.Context(), b.db.Pool, b.session.UID, b.lanes.runner)
	require.NoError(t, err)
	require.True(t, ok)
	claim, err := models.ClaimMessages(t.Context(), b.db.Pool, &hold, sendClaim)
	require.NoError(t, err)
	require.Len(t, claim.Messages, 1)
	there := time.Now().Add(-2 * time.Hour) // so late it is for PostgreSQL
	claim.Guard.Now = there
	expires := there.Add(time.Hour)
	claim.Messages[0].ExpiresAt = &expires
	b.net.verdicts = []verdict{unknownUnseen}
	r := b.sender.newRound(hold, claim)
	r.one(t.Context(), b.net.client(), &claim.Messages[0])
	require.Len(t, r.outcomes, 1)
	require.Equal(t, models.MessageSending, r.outcomes[0].Status)
	require.Equal(t, id, r.outcomes[0].Message.ID)
	require.WithinDuration(t, there.Add(time.Second), *r.outcomes[0].NextAttemptAt, time.Minute)
}

// What a cap holds up for hours is looked at when the cap is gone.
func TestACapThatIsGoneHoldsNothing(t *testing.T) {
	b := newPaceBench(t)
	b.settings(`{"pacing":{"newChatsPerHour":4}}`)
	for _, chat := range []string{"a", "b", "c"} {
		b.send(chat, chat)
	}
	b.drain()
	require.Equal(t, []string{"a"}, b.shown())
	require.Greater(t, b.dueIn(), time.Minute)
	b.settings(`{"pacing":null}`)
	require.LessOrEqual(t, b.dueIn(), time.Duration(0))
	b.drain()
	require.Equal(t, []string{"b", "c"}, b.shown())
}
