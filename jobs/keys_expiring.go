package jobs

import (
	"context"
	"fmt"
	"time"

	"kurir/models"
)

// KindKeysExpiring has the owners of API keys told that these end: a week and a day before, once each. It notes on the key what was
// told, in the statement that adds the letter.
const KindKeysExpiring = "keys:expiring"

const (
	expiryWarning = 7*24*time.Hour + time.Minute
	expiryBatch   = 500
)

func (r *Runner) keysExpiring(ctx context.Context, _ tick) error {
	for {
		n, err := models.WarnOfExpiry(ctx, r.db.Pool, expiryBatch)
		if err != nil {
			return fmt.Errorf("warn of expiring keys: %w", err)
		}
		if n < expiryBatch {
			return nil
		}
	}
}
