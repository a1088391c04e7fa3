package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/uptrace/bun"
)

// finishIndexes completes the indexes of partitioned tables that a migration has made on the parent only, by CREATE INDEX … ON
// ONLY: it makes them on each part that lacks them, without keeping writers out, and attaches them. Parts that came later have
// theirs. What was broken off is done by the next Up.
func finishIndexes(ctx context.Context, conn bun.Conn) error {
	var unfinished []string
	if err := conn.NewRaw(`SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
		WHERE c.relkind = 'I' AND NOT i.indisvalid AND pg_table_is_visible(i.indrelid) ORDER BY 1`).Scan(ctx, &unfinished); err != nil {
		return fmt.Errorf("look for unfinished indexes: %w", err)
	}
	if len(unfinished) == 0 {
		return nil
	}
	if _, err := conn.ExecContext(ctx, "SET statement_timeout = 0"); err != nil {
		return err
	}
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "RESET statement_timeout") }()
	for _, index := range unfinished {
		if err := finishIndex(ctx, conn, index); err != nil {
			return fmt.Errorf("finish %s: %w", index, err)
		}
	}
	return nil
}

func finishIndex(ctx context.Context, conn bun.Conn, index string) error {
	var definition string
	if err := conn.NewRaw("SELECT pg_get_indexdef(?::regclass)", index).Scan(ctx, &definition); err != nil {
		return err
	}
	head, columns, _ := strings.Cut(definition, " USING ")
	kind := "INDEX"
	if strings.HasPrefix(head, "CREATE UNIQUE") {
		kind = "UNIQUE INDEX"
	}
	var parts []string
	if err := conn.NewRaw(`SELECT p.inhrelid::regclass::text FROM pg_index i JOIN pg_inherits p ON p.inhparent = i.indrelid
		WHERE i.indexrelid = ?::regclass AND NOT EXISTS (SELECT 1 FROM pg_inherits a JOIN pg_index x ON x.indexrelid = a.inhrelid
			WHERE a.inhparent = i.indexrelid AND x.indrelid = p.inhrelid) ORDER BY 1`, index).Scan(ctx, &parts); err != nil {
		return err
	}
	for _, part := range parts {
		name := pgx.Identifier{nameOnPart(index, part)}.Sanitize()
		for _, sql := range []string{
			"DROP INDEX CONCURRENTLY IF EXISTS " + name, // what was left of one that was broken off
			"CREATE " + kind + " CONCURRENTLY " + name + " ON " + part + " USING " + columns,
			"ALTER INDEX " + index + " ATTACH PARTITION " + name,
		} {
			if _, err := conn.ExecContext(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", part, err)
			}
		}
	}
	return nil
}

// nameOnPart puts what is the part's own into the index's name: messages_chat is messages_202611_chat there.
func nameOnPart(index, part string) string {
	table := part[:strings.LastIndex(part, "_")+1]
	return part + "_" + strings.TrimPrefix(index, table)
}
