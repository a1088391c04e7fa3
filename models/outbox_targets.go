package models

import (
	"context"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/message"
)

func takesEffect(outcomes []Outcome) bool {
	return slices.ContainsFunc(outcomes, func(o Outcome) bool {
		return o.Status == MessageSent && message.About(strings.ToLower(o.Message.MessageType))
	})
}

// takeEffect are the messages among sent ones that are about others, as they are with their outcome.
func takeEffect(outcomes []Outcome) []*Message {
	var list []*Message
	for i := range outcomes {
		if o := &outcomes[i]; o.Status == MessageSent && message.About(strings.ToLower(o.Message.MessageType)) {
			m := o.message()
			list = append(list, &m)
		}
	}
	return list
}

// settleWithTargets settles outcomes of which some take effect on other messages, in one transaction. The targets are
// locked first, by ID: settling never waits for a message's lock, so nobody who holds one waits for us in a circle. All
// events are written at the end, since that locks webhooks' lanes.
func settleWithTargets(ctx context.Context, db *DB, s Settlement) (woken []Woken, done []uuid.UUID, err error) {
	err = db.InPgxTxLast(ctx, func(tx pgx.Tx, last *pgx.Batch) error {
		about := takeEffect(s.Outcomes) // anew in each try: what they are tied to is written into them
		found, err := lockTargets(ctx, tx, about)
		if err != nil {
			return err
		}
		list := []Settlement{s}
		answer, err := settle(ctx, tx, settleSQL+` SELECT `+settledOnes+` FROM done`, list)
		if err != nil {
			return err
		}
		done, _ = part(list, answer)
		var events []Event
		for i := range s.Outcomes {
			o := &s.Outcomes[i]
			if event := eventOf[o.Status]; event != "" && slices.Contains(done, o.Message.ID) {
				events = append(events, Event{Session: s.Hold.Lane, Type: event, Data: o.resource(s.SessionID), At: o.At, Trace: o.Message.Trace})
			}
		}
		about = slices.DeleteFunc(about, func(m *Message) bool { return !slices.Contains(done, m.ID) })
		effects, err := found.apply(ctx, tx, about)
		if err != nil {
			return err
		}
		return queueEmit(last, append(events, effects...), &woken)
	})
	return woken, done, err
}
