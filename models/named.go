package models

import (
	"context"

	"github.com/google/uuid"

	"kurir/message"
)

// MessageNamed finds a message of a session by our ID or by WhatsApp's. It answers "no rows" where there is none.
func MessageNamed(ctx context.Context, q Querier, session uuid.UUID, name string) (*Message, error) {
	var id, lowest, highest *uuid.UUID
	if parsed, err := uuid.Parse(name); err == nil && len(name) == 36 {
		id = &parsed
	}
	if lo, hi, ok := idRange(name); ok {
		lowest, highest = &lo, &hi
	}
	m := new(Message)
	return m, q.QueryRow(ctx, `WITH found AS (
			SELECT m.id FROM messages m WHERE m.id = $2 AND m.session_uid = $1
			UNION ALL
			SELECT m.id FROM messages m WHERE m.id >= $3 AND m.id <= $4 AND m.session_uid = $1 AND m.whatsapp_id = $5
			UNION ALL
			(SELECT m.id FROM messages m WHERE m.seq = 0 AND m.session_uid = $1 AND m.whatsapp_id = $5 LIMIT 1))
		SELECT `+messageColumns+` FROM found f JOIN messages m ON m.id = f.id AND m.session_uid = $1 LIMIT 1`,
		session, id, lowest, highest, name).Scan(scanMessage(m)...)
}

// RefTo names a message to a worker, and to the tenant.
func RefTo(m *Message) *message.Ref {
	ref := &message.Ref{MessageID: m.ID.String(), WhatsappID: m.WhatsappID, FromMe: m.Direction == Outbound}
	if names := markNames(m); !ref.FromMe && len(names) > 0 {
		ref.Sender = names[0]
	}
	return ref
}
