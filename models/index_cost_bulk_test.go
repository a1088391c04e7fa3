//go:build plans

package models_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
)

// What search and the chat filter cost the way of a message: accepted, then raised through four states, and its words indexed. Variants take
// turns, so that whatever else the machine does hits them alike.
func TestCostOfTheIndex(t *testing.T) {
	o := newOutbox(t)
	variants := []struct{ name, make, drop string }{
		{"neither", `ALTER TABLE messages DISABLE TRIGGER messages_indexed`, `ALTER TABLE messages ENABLE TRIGGER messages_indexed`},
		{"message_index", `SELECT 1`, `SELECT 1`},
		{"indexes on messages", `ALTER TABLE messages DISABLE TRIGGER messages_indexed;
			ALTER TABLE messages ADD document tsvector GENERATED ALWAYS AS (kurir_document(session_uid, message_type, content, caption, filename, deleted_at)) STORED;
			CREATE INDEX m_chat ON messages (session_uid, chat, id DESC); CREATE INDEX m_words ON messages USING gin (document)`,
			`ALTER TABLE messages DROP document; DROP INDEX m_chat; ALTER TABLE messages ENABLE TRIGGER messages_indexed`},
	}
	const rounds, n, clients = 6, 3000, 32
	accepts, lives := map[string]time.Duration{}, map[string]time.Duration{}
	for range rounds {
		for _, v := range variants {
			o.exec(v.make)
			ids := make([]uuid.UUID, n)
			began := time.Now()
			var group sync.WaitGroup
			for c := range clients {
				group.Go(func() {
					for i := c; i < n; i += clients {
						m := newMessage(o.session.UID, fmt.Sprintf("62812345%d@s.whatsapp.net", i%200), fmt.Sprintf("Hello, your order number %d of %d pieces is on its way and arrives tomorrow", i, i%7))
						ids[i] = m.ID
						if err := o.accept.Accept(t.Context(), m); err != nil {
							t.Error(err)
						}
					}
				})
			}
			group.Wait()
			accepts[v.name] += time.Since(began)
			for _, status := range []string{models.MessageSending, models.MessageSent, models.MessageDelivered, models.MessageRead} {
				for from := 0; from < n; from += 50 {
					o.exec(`UPDATE messages SET status = $2, updated_at = now() WHERE session_uid = $3 AND id = ANY($1)`, ids[from:from+50], status, o.session.UID)
				}
			}
			if v.name == "message_index" {
				indexWords(t, o.db)
			}
			lives[v.name] += time.Since(began)
			o.exec(v.drop)
			o.exec(`TRUNCATE messages, message_index`)
		}
	}
	require.NotZero(t, accepts["neither"])
	for _, v := range variants {
		t.Logf("| %s | %.0f µs | %.2f | %.0f µs | %.2f |", v.name, float64(accepts[v.name].Microseconds())/rounds/n, float64(accepts[v.name])/float64(accepts["neither"]),
			float64(lives[v.name].Microseconds())/rounds/n, float64(lives[v.name])/float64(lives["neither"]))
	}
}
