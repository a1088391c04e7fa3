//go:build plans

package models_test

import (
	"os"
	"strconv"
	"testing"

	"kurir/models/modelstest"
)

// The plans of what reads histories, on PLANS_MESSAGES rows (10 million): `make plans`.
func TestPlansAtScale(t *testing.T) {
	n := 10_000_000
	if v, err := strconv.Atoi(os.Getenv("PLANS_MESSAGES")); err == nil {
		n = v
	}
	b := fillBulk(t, modelstest.DB(t), n, 200, 4)
	b.report()
}
