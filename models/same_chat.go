package models

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// SameChat reports whether two addresses are one conversation of a session, as far as it knows: a person's may go by number or by LID. A
// number and a LID of which one is known to belong to somebody else are two people. Whoever is heard of under both is noted under both,
// so the two rows tell.
func SameChat(ctx context.Context, q Querier, session uuid.UUID, a, b string) (bool, error) {
	if a == b || !maySameChat(a, b) {
		return a == b, nil
	}
	number, lid := a, b
	if strings.HasSuffix(a, "@lid") {
		number, lid = b, a
	}
	rows, err := q.Query(ctx, `SELECT chat, coalesce(phone, ''), coalesce(lid, '') FROM chats WHERE session_uid = $1 AND chat = ANY($2)`, session, []string{number, lid})
	if err != nil {
		return false, err
	}
	tied, others := false, false
	var chat, hisPhone, hisLID string
	_, err = pgx.ForEachRow(rows, []any{&chat, &hisPhone, &hisLID}, func() error {
		switch {
		case chat == lid && hisPhone != "":
			same := strings.TrimPrefix(hisPhone, "+")+"@s.whatsapp.net" == number
			tied, others = tied || same, others || !same
		case chat == number && hisLID != "":
			same := strings.TrimSuffix(hisLID, "@lid")+"@lid" == lid
			tied, others = tied || same, others || !same
		}
		return nil
	})
	return tied || !others, err
}
