package models

import "context"

// What tests of this package call from outside of it.
var ApplyTargets = applyTargets

// InsertTogether stores messages as one batch of accepts.
func InsertTogether(ctx context.Context, q Querier, list []*NewMessage) error {
	batch := make([]*acceptance, len(list))
	for i, m := range list {
		batch[i] = &acceptance{message: m}
	}
	_, err := insertMessages(ctx, q, batch)
	return err
}
