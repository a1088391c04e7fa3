package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfigOfBilling(t *testing.T) {
	c, err := readConfig(nil)
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, time.Duration(c.BillingAfter))
	c, err = readConfig([]string{"BILLING_WEBHOOK_URL=https://billing.example.com/?token=hidden", "WEBHOOK_SECRET=a secret of the operator's own", "BILLING_CLOSE_AFTER=3d"})
	require.NoError(t, err)
	require.Equal(t, 72*time.Hour, time.Duration(c.BillingAfter))
	require.NotContains(t, c.redacted().String(), "hidden")
	for _, bad := range [][]string{{"BILLING_CLOSE_AFTER=59m"}, {"BILLING_CLOSE_AFTER=29d"}, {"BILLING_CLOSE_AFTER=soon"},
		{"BILLING_WEBHOOK_URL=billing.example.com", "WEBHOOK_SECRET=a secret of the operator's own"}, {"BILLING_WEBHOOK_URL=https://billing.example.com/"}} {
		_, err := readConfig(bad)
		require.ErrorContains(t, err, "BILLING_", bad)
	}
}
