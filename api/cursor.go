package api

import (
	"crypto/sha256"
	"encoding/base64"
	bits "encoding/binary"

	"github.com/google/uuid"

	"kurir/fault"
)

// A cursor is the last ID of a page, or its sequence in lists that count, in a form that is ours to change: a version, the ID or
// sequence, and the first bytes of a hash of both, so that one that was cut, mistyped or made up is told from one of ours, and
// one of another kind of list too. It is no secret, and gives no right: whose rows a list reads is decided without it.
const (
	cursorVersion   = 1 // of IDs
	sequenceVersion = 2 // of sequences
	cursorSum       = 4
)

// strict, so that each ID has one cursor.
var cursorEncoding = base64.RawURLEncoding.Strict()

var errCursor = &fault.Error{Kind: fault.Invalid, Code: "invalid_cursor", Sentence: "cursor: expected the nextCursor of an earlier page",
	Details: []fault.Detail{{Field: "cursor", Message: "expected the nextCursor of an earlier page"}}}

func encodeCursor(id uuid.UUID) string { return sealCursor(cursorVersion, id[:]) }

// decodeCursor is the reverse of encodeCursor; text may be anything.
func decodeCursor(text string) (id uuid.UUID, err error) {
	return id, openCursor(cursorVersion, text, id[:])
}

func encodeSequence(sequence int64) string {
	raw, _ := bits.Append(nil, bits.BigEndian, sequence) // a number always has its bytes
	return sealCursor(sequenceVersion, raw)
}

// decodeSequence is the reverse of encodeSequence, of sequences from 1.
func decodeSequence(text string) (int64, error) {
	var raw [8]byte
	if err := openCursor(sequenceVersion, text, raw[:]); err != nil {
		return 0, err
	}
	var sequence int64
	if _, err := bits.Decode(raw[:], bits.BigEndian, &sequence); err != nil || sequence < 1 {
		return 0, errCursor
	}
	return sequence, nil
}

func sealCursor(version byte, value []byte) string {
	raw := append([]byte{version}, value...)
	sum := sha256.Sum256(raw)
	return cursorEncoding.EncodeToString(append(raw, sum[:cursorSum]...))
}

// openCursor reads what sealCursor was given, of the length of value. A refused one leaves value as it is.
func openCursor(version byte, text string, value []byte) error {
	raw, err := cursorEncoding.DecodeString(text)
	if err != nil || len(raw) != 1+len(value)+cursorSum || raw[0] != version {
		return errCursor
	}
	inside := raw[1 : 1+len(value)]
	if sealCursor(version, inside) != text {
		return errCursor
	}
	copy(value, inside)
	return nil
}
