package jobs

import (
	"context"
	"fmt"
	"time"

	"kurir/models"
)

// KindIndexWords makes the documents that search reads, of messages that are new since the last tick: a second after it was
// stored, a message can be found. To make them while messages are stored would make that take half as long again.
const KindIndexWords = "search:index"

const (
	indexRows = 500              // in one transaction
	indexTime = 10 * time.Second // of one tick; under more load than that, search falls behind and messages do not
)

func (r *Runner) indexWords(ctx context.Context, _ tick) error {
	if !r.indexing.TryLock() { // the tick before is at it
		return nil
	}
	defer r.indexing.Unlock()
	for deadline := time.Now().Add(indexTime); time.Now().Before(deadline); {
		n, err := models.IndexWords(ctx, r.db.Pool, indexRows)
		if err != nil {
			return fmt.Errorf("index words: %w", err)
		}
		if n < indexRows {
			return nil
		}
	}
	return nil
}
