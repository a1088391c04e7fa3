package jobs

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// A lane that nobody can read fails those that share its statement once, and keeps to itself after that.
func TestALaneThatCannotBeReadKeepsToItself(t *testing.T) {
	db := modelstest.DB(t)
	_, s := modelstest.Ready(t, db)
	l := alive(t, db)
	h, ok, err := models.TakeLane(t.Context(), db.Pool, s.UID, l.runner)
	require.NoError(t, err)
	require.True(t, ok)
	_, err = db.Pool.Exec(t.Context(), `UPDATE sessions SET settings = '{"pacing": "quick"}'`)
	require.NoError(t, err)
	claim := func() {
		t.Helper()
		_, err := l.claim(t.Context(), &h, 1)
		var one *models.LaneError
		require.ErrorAs(t, err, &one)
		require.Equal(t, s.UID, one.Lane)
	}
	claim()
	_, alone := l.groups.slow.Get(s.UID)
	require.True(t, alone)
	blocked := make(chan struct{})
	defer close(blocked)
	began := make(chan struct{})
	other := together(l.groups.slow, func(w models.Want) uuid.UUID { return w.Hold.Lane }, func(context.Context, []models.Want) ([]*models.Claim, error) {
		close(began)
		<-blocked
		return nil, nil
	})
	former := l.groups.claims.Run
	l.groups.claims = other
	go func() { _, _ = other.Do(models.Want{Hold: &models.Hold{}}) }()
	<-began // a group is under way
	l.groups.claims.Run = former
	claim()
}
