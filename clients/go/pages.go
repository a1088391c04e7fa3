package kurir

import (
	"context"
	"iter"
)

// All goes through the pages of a list. page reads the one at a cursor, nil for the first, and returns its items and the next cursor,
// nil after the last. An error is the last that comes.
func All[T any](page func(cursor *string) (items []T, next *string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var cursor *string
		for {
			items, next, err := page(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			cursor = next
		}
	}
}

// Messages goes through the history of a session, newest first. Filter's cursor is where it begins; nil is all of it.
func (c *Client) Messages(ctx context.Context, session string, filter *ListMessagesParams) iter.Seq2[Message, error] {
	var params ListMessagesParams
	if filter != nil {
		params = *filter
	}
	return All(func(cursor *string) ([]Message, *string, error) {
		if cursor != nil {
			params.Cursor = cursor
		}
		answer, err := c.ListMessagesWithResponse(ctx, session, &params)
		if err != nil {
			return nil, nil, err
		}
		return answer.JSON200.Data.Messages, answer.JSON200.Data.NextCursor, nil
	})
}
