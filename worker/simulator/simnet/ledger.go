package simnet

import (
	"hash/maphash"
	"sync"
	"time"
)

// ledger remembers what was shown to whom, as phones do by WhatsApp ID and as a witness does by message ID. It keeps
// 64-bit hashes with a random seed, about 100 bytes a message: among ten million messages the chance that any two
// are taken for one is below one in 100,000.
type ledger struct {
	seed   maphash.Seed
	shards [64]ledgerShard
}

type ledgerShard struct {
	mu        sync.Mutex
	shown     map[showing]shownOnce // what is on a phone
	recipient map[uint64]uint64     // by WhatsApp ID: its first recipient
	whatsapp  map[uint64]uint64     // by message ID: its first WhatsApp ID
}

type showing struct{ recipient, whatsapp uint64 }

type shownOnce struct {
	message uint64
	at      int64 // Unix milliseconds
}

// verdict says what becomes of a send.
type verdict struct {
	show      bool      // false: the phone has it already
	duplicate bool      // a person would see something twice, or an ID was used for two things
	at        time.Time // when it was first shown
}

func newLedger() *ledger {
	l := &ledger{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i] = ledgerShard{
			shown:     map[showing]shownOnce{},
			recipient: map[uint64]uint64{},
			whatsapp:  map[uint64]uint64{},
		}
	}
	return l
}

// record enters one send and judges it. A messageID of "" is not judged.
func (l *ledger) record(recipient, whatsappID, messageID string, at time.Time) verdict {
	r, w := l.hash(recipient), l.hash(whatsappID)
	var m uint64
	if messageID != "" {
		m = l.hash(messageID)
	}
	first, v := l.recordShowing(r, w, m, at)
	if first {
		v.duplicate = l.recordMessage(m, w) || v.duplicate
	}
	return v
}

func (l *ledger) recordShowing(r, w, m uint64, at time.Time) (first bool, v verdict) {
	sh := &l.shards[w%uint64(len(l.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	key := showing{r, w}
	if was, ok := sh.shown[key]; ok {
		return false, verdict{duplicate: was.message != m && was.message != 0 && m != 0, at: time.UnixMilli(was.at).UTC()}
	}
	sh.shown[key] = shownOnce{message: m, at: at.UnixMilli()}
	other, ok := sh.recipient[w]
	if !ok {
		sh.recipient[w] = r
	}
	return true, verdict{show: true, duplicate: ok && other != r, at: at}
}

// recordMessage reports whether this message was shown under another WhatsApp ID before.
func (l *ledger) recordMessage(m, w uint64) bool {
	if m == 0 {
		return false
	}
	sh := &l.shards[m%uint64(len(l.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	first, ok := sh.whatsapp[m]
	if !ok {
		sh.whatsapp[m] = w
	}
	return ok && first != w
}

func (l *ledger) hash(s string) uint64 { return maphash.String(l.seed, s) }
