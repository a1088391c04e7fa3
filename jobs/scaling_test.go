package jobs

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/webhook"
)

// newOperator hears what operators are told, if it is signed, and answers the status that hear says.
func newOperator(t *testing.T, secret string, hear func(id string, body []byte) (status int)) *httptest.Server {
	t.Helper()
	operator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		require.NoError(t, err)
		verifier, err := standard.NewWebhook(secret)
		require.NoError(t, err)
		require.NoError(t, verifier.Verify(body, r.Header))
		w.WriteHeader(hear(r.Header.Get("webhook-id"), body))
	}))
	t.Cleanup(operator.Close)
	return operator
}

// The operator hears once of a new recommendation, signed, and again if he did not take it.
func TestScalingIsAnnounced(t *testing.T) {
	secret := webhook.NewSecret()
	var heard []ScalingNotice
	status := http.StatusInternalServerError
	operator := newOperator(t, secret, func(id string, body []byte) int {
		var n ScalingNotice
		require.NoError(t, json.Unmarshal(body, &n))
		require.Equal(t, n.ID.String(), id)
		heard = append(heard, n)
		return status
	})
	f := newFleet(t, 1)
	f.runner.cfg.ScalingURL, f.runner.cfg.OperatorSecret = operator.URL, secret
	f.tick(f.runner.scaling)
	recommended := func() int64 {
		return modelstest.Scalar[int64](t, f.db, `SELECT recommended FROM scaling`)
	}
	require.Equal(t, int64(1), recommended())
	f.sessions(6) // of six places
	f.tick(f.runner.scaling)
	require.Equal(t, int64(1), recommended(), "it may pass")
	f.exec(`UPDATE scaling SET pending = pending - interval '2 minutes'`)
	f.tick(f.runner.scaling)
	require.Equal(t, int64(2), recommended())
	f.tick(f.runner.scaling)
	due := f.due()
	require.Len(t, due, 1, "announced once")
	require.Equal(t, KindScalingNotice, due[0].Kind)
	f.runJob(context.Background(), due[0], false)
	status = http.StatusNoContent
	due = f.due()
	require.Len(t, due, 1, "it was not taken")
	f.runJob(context.Background(), due[0], false)
	require.Empty(t, f.due())
	require.Len(t, heard, 2)
	require.Equal(t, heard[0], heard[1])
	require.Equal(t, "scale_up", heard[0].Data.Action)
	require.Equal(t, 2, heard[0].Data.Recommended)
	require.Equal(t, 1, heard[0].Data.Workers)
	require.NotEmpty(t, heard[0].Data.Reason)
	require.WithinDuration(t, time.Now(), heard[0].Timestamp, time.Minute)
}

func TestScalingWithoutAnybodyToTell(t *testing.T) {
	f := newFleet(t, 1)
	f.tick(f.runner.scaling)
	f.sessions(6)
	f.tick(f.runner.scaling)
	f.exec(`UPDATE scaling SET pending = pending - interval '2 minutes'`)
	f.tick(f.runner.scaling)
	require.Empty(t, f.due())
	require.Equal(t, int64(1), modelstest.Scalar[int64](t, f.db, `SELECT count(*) FROM system_logs WHERE message = 'scaling.recommended'`))
}

// The address may hold a token: it is in no error, which would be logged.
func TestScalingKeepsItsAddressToItself(t *testing.T) {
	f := newFleet(t, 1)
	for _, address := range []string{"http://127.0.0.1:1/hooks/hush?token=hush", "http://h ush/"} {
		f.runner.cfg.ScalingURL = address
		_, err := f.runner.notifyScaling(t.Context(), &models.Job{ID: models.NewID()})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hush")
		require.NotContains(t, err.Error(), "h ush")
	}
}
