package models

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/google/uuid"
)

// NewID makes a version 7 UUID. Within a process they grow strictly, within a millisecond too.
func NewID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// compareIDs puts IDs in PostgreSQL's order. A look-up of messages by their IDs names the lowest and the highest of them besides: then
// the months in which none of them lies, which are most in the end, are left out before it is begun.
func compareIDs(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

// SeriesID derives the ID of the i-th of up to 16,384 messages that one request makes, from the ID that the request was
// given. They sort in their order, and their WhatsApp IDs differ, which know the first 8 bytes and the last 3.
func SeriesID(request uuid.UUID, i int) uuid.UUID {
	id := request
	id[8], id[9] = 0x80|byte(i>>8)&0x3f, byte(i)
	last := (int(id[13])<<16 | int(id[14])<<8 | int(id[15])) + i
	id[13], id[14], id[15] = byte(last>>16), byte(last>>8), byte(last)
	return id
}

// whatsappPrefix begins the message IDs of WhatsApp's own clients.
const whatsappPrefix = "3EB0"

// WhatsappID derives the ID under which a message goes out: "3EB0" and 22 hex digits, which are the first 8 bytes
// of the message's ID (time and counter) and its last 3. A receipt, which names only this ID, so leads to the
// few IDs that begin alike, and to their partition.
func WhatsappID(id uuid.UUID) string {
	var b [11]byte
	copy(b[:8], id[:8])
	copy(b[8:], id[13:])
	return whatsappPrefix + strings.ToUpper(hex.EncodeToString(b[:]))
}

// idRange is the range of message IDs that a WhatsApp ID can stand for; ok is false if it isn't one of ours.
func idRange(whatsappID string) (lowest, highest uuid.UUID, ok bool) {
	digits, ours := strings.CutPrefix(whatsappID, whatsappPrefix)
	if !ours || len(digits) != 22 {
		return lowest, highest, false
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return lowest, highest, false
	}
	copy(lowest[:8], b[:8])
	copy(highest[:8], b[:8])
	for i := 8; i < 16; i++ {
		highest[i] = 0xff
	}
	return lowest, highest, true
}

// InboundID derives the ID of a message that came in from what the network knows of it, so that a redelivery
// has the same one: a version 7 UUID of the network's timestamp and a hash. A timestamp more than a day ahead of
// now is nonsense and counts as the year 2020, whatever it is, so that it is the same the next time.
func InboundID(session uuid.UUID, chat, sender, whatsappID string, at, now time.Time) uuid.UUID {
	if at.After(now.Add(24*time.Hour)) || at.Before(time.Unix(0, 0)) {
		at = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{session.String(), chat, sender, whatsappID}, "\x00")))
	var id uuid.UUID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	copy(id[6:], sum[:10])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}
