package models_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/models"
	"kurir/models/modelstest"
)

// indexWords does what the periodic job does.
func indexWords(t testing.TB, db *models.DB) {
	t.Helper()
	for {
		n, err := models.IndexWords(t.Context(), db.Pool, 100)
		require.NoError(t, err)
		if n < 100 {
			return
		}
	}
}

// found lists the texts that a search finds, newest first, page by page.
func (o *outbox) found(f models.MessageFilter) string {
	o.Helper()
	if f.Limit == 0 {
		f.Limit = 2
	}
	var texts []string
	for range 1000 {
		page, err := models.History(o.Context(), o.db.Pool, o.session.UID, f)
		require.NoError(o, err)
		require.LessOrEqual(o, len(page.Messages), f.Limit)
		for _, m := range page.Messages {
			texts = append(texts, m.Content)
		}
		if f.Before = page.Next; f.Before == uuid.Nil {
			return strings.Join(texts, "|")
		}
	}
	o.Fatal("no end")
	return ""
}

func TestSearch(t *testing.T) {
	o := newOutbox(t)
	for _, text := range []string{"Order 1234 is on its way", "Your second reminder: invoice 77", "invoice paid, thank you", "Café Größe “Ação” naïve", "Привет, мир", "ἄλφα ΒΗΤΑ", "東京 ラーメン", "a👍b", "Done today.Gracias, see example.com/shop", "''' \\ & | ! <-> (:*)"} {
		o.add("a", text)
	}
	o.exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, content, caption, filename, status, whatsapp_id)
		VALUES (kurir_uuid_v7(), $1, 'INBOUND', 'b', 't', 'DOCUMENT', 'doc', 'a caption', 'Report-2026.pdf', 'DELIVERED', 'x'),
		(kurir_uuid_v7(), $1, 'OUTBOUND', 'b', 't', 'EDIT', 'invoice', NULL, NULL, 'SENT', 'y')`, o.session.UID)
	require.Empty(t, o.found(models.MessageFilter{Query: "order"}), "its words are not there yet")
	indexWords(t, o.db)
	for query, want := range map[string]string{
		"order": "Order 1234 is on its way", "ORDER 1234": "Order 1234 is on its way", "order 77": "", "ord": "",
		"invoice":           "invoice paid, thank you|Your second reminder: invoice 77",
		`"second reminder"`: "Your second reminder: invoice 77", `"reminder second"`: "", "invoice -paid": "Your second reminder: invoice 77",
		"1234 or paid": "invoice paid, thank you|Order 1234 is on its way",
		"cafe":         "Café Größe “Ação” naïve", "CAFÉ": "Café Größe “Ação” naïve", "acao": "Café Größe “Ação” naïve", "ação naive": "Café Größe “Ação” naïve",
		"привет": "Привет, мир", "ПРИВЕТ МИР": "Привет, мир", "αλφα βητα": "ἄλφα ΒΗΤΑ", "東京": "東京 ラーメン", "b": "a👍b",
		"caption": "doc", "report-2026.pdf": "doc", "report": "doc", "caption report pdf": "doc",
		"gracias": "Done today.Gracias, see example.com/shop", "shop": "Done today.Gracias, see example.com/shop",
		"example.com/shop today.gracias": "Done today.Gracias, see example.com/shop", `"see example com"`: "Done today.Gracias, see example.com/shop",
		"-invoice -order caption": "doc",
	} {
		require.Equal(t, want, o.found(models.MessageFilter{Query: query}), query)
	}
	require.Equal(t, "invoice paid, thank you", o.found(models.MessageFilter{Query: "invoice", Until: time.Now().Add(time.Hour), Chat: "a", Statuses: []string{"PENDING"}, Limit: 1})[:23])
	require.Empty(t, o.found(models.MessageFilter{Query: "invoice", Chat: "b"}))
	require.Equal(t, "doc", o.found(models.MessageFilter{Query: "doc or order", Direction: models.Inbound}))
	// Nothing but exclusions: all the others, edits and the like too, for they have no words.
	require.NotContains(t, o.found(models.MessageFilter{Query: "-invoice"}), "invoice paid")
	require.Contains(t, o.found(models.MessageFilter{Query: "-invoice"}), "Order 1234")
	for _, nothing := range []string{"?!", " ", "👍", "''", "& | !", strings.Repeat("- ", 90)} {
		_, err := models.History(t.Context(), o.db.Pool, o.session.UID, models.MessageFilter{Query: nothing, Limit: 10})
		require.True(t, fault.Is(err, "invalid_request"), "%q: %v", nothing, err)
	}
	for _, odd := range []string{"a'b", `a\b`, `"`, `"a`, "s 00000000000000000000000000000000", "<->", "a:*", "!a", "(a", "' & 'order", strings.Repeat("word ", 40)} {
		_, err := models.History(t.Context(), o.db.Pool, o.session.UID, models.MessageFilter{Query: odd, Limit: 10})
		if err != nil {
			require.True(t, fault.Is(err, "invalid_request"), "%q: %v", odd, err)
		}
	}
}

// An edit is found by its new words at once, and what was deleted is not found any more.
func TestSearchFollowsEdits(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "before")
	o.exec(`UPDATE messages SET content = 'between' WHERE id = $1`, id) // before its document is made
	indexWords(t, o.db)
	require.Equal(t, []string{"", "between"}, []string{o.found(models.MessageFilter{Query: "before"}), o.found(models.MessageFilter{Query: "between"})})
	o.exec(`UPDATE messages SET content = 'after' WHERE id = $1`, id)
	require.Equal(t, []string{"", "after"}, []string{o.found(models.MessageFilter{Query: "between"}), o.found(models.MessageFilter{Query: "after"})})
	o.exec(`UPDATE messages SET status = 'SENT' WHERE id = $1`, id)
	o.exec(`UPDATE messages SET deleted_at = now() WHERE id = $1`, id)
	indexWords(t, o.db)
	require.Empty(t, o.found(models.MessageFilter{Query: "after"}))
	require.Equal(t, "after", o.found(models.MessageFilter{Chat: "a"}), "it is still in the history")
	o.exec(`DELETE FROM messages`)
	require.Zero(t, modelstest.Scalar[int64](t, o.db, `SELECT count(*) FROM message_index`))
}

// Tenants do not see each other, and text cannot pretend to be of another session.
func TestSearchStaysInItsSession(t *testing.T) {
	o := newOutbox(t)
	foreign := modelstest.Session(t, o.db, modelstest.User(t, o.db), "foreign")
	o.exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, content, status, whatsapp_id)
		VALUES (kurir_uuid_v7(), $1, 'INBOUND', 'a', 't', 'TEXT', 'secret s ' || translate($2::text, '-', ''), 'DELIVERED', 'x')`, foreign.UID, o.session.UID.String())
	o.add("a", "mine")
	indexWords(t, o.db)
	require.Empty(t, o.found(models.MessageFilter{Query: "secret"}))
	require.Equal(t, "mine", o.found(models.MessageFilter{Query: "-secret"}))
	require.Equal(t, "mine", o.found(models.MessageFilter{Chat: "a"}))
}

// A filter that few messages pass, in a history that is longer than a page reads: pages are short, and all is found.
func TestPagesAreBounded(t *testing.T) {
	o := newOutbox(t)
	first := o.add("a", "the first")
	o.exec(`INSERT INTO messages (id, session_uid, direction, chat, to_number, message_type, content, status, whatsapp_id)
		SELECT kurir_uuid_v7(), $1, 'OUTBOUND', 'c', 't', 'TEXT', 'common', 'SENT', 'w' || n FROM generate_series(1, 21000) n`, o.session.UID)
	o.exec(`UPDATE messages SET message_type = 'IMAGE', content = 'common first' WHERE id = $1`, first)
	indexWords(t, o.db)
	f := models.MessageFilter{Types: []string{"IMAGE"}, Limit: 50}
	pages := 0
	for {
		page, err := models.History(t.Context(), o.db.Pool, o.session.UID, f)
		require.NoError(t, err)
		pages++
		if f.Before = page.Next; f.Before == uuid.Nil {
			require.Len(t, page.Messages, 1)
			break
		}
		require.Empty(t, page.Messages)
	}
	require.Equal(t, 3, pages)
	require.Equal(t, "common first", o.found(models.MessageFilter{Types: []string{"IMAGE"}, Query: "common"}), "a word too common for the index")
	require.Equal(t, "common first", o.found(models.MessageFilter{Query: "common first"}))
	require.Equal(t, strings.Repeat("common|", 21000)+"common first", o.found(models.MessageFilter{Query: "common", Limit: 200}))
	require.Equal(t, 21001, strings.Count(o.found(models.MessageFilter{Limit: 200, Direction: models.Outbound}), "common"))
}
