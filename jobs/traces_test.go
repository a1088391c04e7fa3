package jobs

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/tracing"
	"kurir/webhook"
	"kurir/wire"
)

// nowhere takes everything.
type nowhere struct{}

func (nowhere) deliver(context.Context, *target, *models.DueDelivery) webhook.Result {
	return webhook.Result{Status: 204}
}

// Lanes without traces pay nothing for them, also for rows that were traced when they were made.
func TestRoundsWithoutTraces(t *testing.T) {
	caller := "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	s, d, to, ctx := &sender{}, &deliverer{}, &target{sink: nowhere{}}, t.Context()
	claim := &models.Claim{Messages: make([]models.Claimed, sendClaim)}
	due := make([]models.DueDelivery, deliverMost)
	claim.Messages[0].Trace, due[0].Trace = &caller, &caller
	require.Zero(t, testing.AllocsPerRun(100, func() {
		batch := s.batchOf(ctx, claim)
		noteSend(tracing.Span{}, claim.Messages[0].SessionUID, &claim.Messages[0], wire.SendResult{Outcome: wire.OutcomeFailed}, nil)
		batch.End()
		batch = d.batchOf(ctx, due)
		d.one(ctx, to, &due[0], batch)
		batch.End()
	}))
}
