package models_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
)

// BenchmarkAccept is the durable accept of 64 clients at once: of texts, of messages with all that a message can hold,
// and, to compare with, of the plainest insert of one row, as pgbench would do it.
func BenchmarkAccept(b *testing.B) {
	db := modelstest.DB(b)
	_, s := modelstest.Ready(b, db)
	a := models.NewAccepter(db.Pool, quiet, func(_ []models.Woken, _ int) {})
	b.Cleanup(a.Close)
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := f(); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	run("plain insert", plainInsert(b, db.Pool))
	run("text", func() error { return a.Accept(context.Background(), newMessage(s.UID, "c@s.whatsapp.net", "hello")) })
	run("everything", func() error {
		m := newMessage(s.UID, "c@s.whatsapp.net", "")
		id := models.NewID()
		m.Type, m.MediaID, m.Media, m.Caption, m.Filename = "DOCUMENT", &id, &message.Media{ID: id.String(), MIMEType: "text/plain", Size: 7}, new("caption"), new("x.txt")
		m.Details, m.Metadata, m.Priority = &message.Details{Mentions: []string{"1@lid"}, Forwarded: true}, []byte(`{"a":1}`), 1
		return a.Accept(context.Background(), m)
	})
}

func plainInsert(b *testing.B, pool *pgxpool.Pool) func() error {
	if _, err := pool.Exec(context.Background(), `CREATE TABLE plain (id uuid PRIMARY KEY, chat text, content text, at timestamptz)`); err != nil {
		b.Fatal(err)
	}
	return func() error {
		_, err := pool.Exec(context.Background(), `INSERT INTO plain VALUES ($1, $2, $3, $4)`, models.NewID(), "c@s.whatsapp.net", "hello", time.Now())
		return err
	}
}
