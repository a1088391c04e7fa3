package api

import (
	"crypto/sha256"
	"encoding/base64"

	"github.com/google/uuid"

	"kurir/fault"
)

// A cursor is the last ID of a page, in a form that is ours to change: a version, the ID, and the first bytes of a hash of
// both, so that one that was cut, mistyped or made up is told from one of ours. It is no secret, and gives no right: whose
// rows a list reads is decided without it.
const (
	cursorVersion = 1
	cursorSum     = 4
	cursorLength  = 1 + 16 + cursorSum
)

// strict, so that each ID has one cursor.
var cursorEncoding = base64.RawURLEncoding.Strict()

var errCursor = &fault.Error{Kind: fault.Invalid, Code: "invalid_cursor", Sentence: "cursor: expected the nextCursor of an earlier page",
	Details: []fault.Detail{{Field: "cursor", Message: "expected the nextCursor of an earlier page"}}}

func encodeCursor(id uuid.UUID) string {
	raw := append([]byte{cursorVersion}, id[:]...)
	sum := sha256.Sum256(raw)
	return cursorEncoding.EncodeToString(append(raw, sum[:cursorSum]...))
}

// decodeCursor is the reverse of encodeCursor; text may be anything.
func decodeCursor(text string) (uuid.UUID, error) {
	raw, err := cursorEncoding.DecodeString(text)
	if err != nil || len(raw) != cursorLength || raw[0] != cursorVersion {
		return uuid.Nil, errCursor
	}
	id := uuid.UUID(raw[1 : 1+16])
	if encodeCursor(id) != text {
		return uuid.Nil, errCursor
	}
	return id, nil
}
