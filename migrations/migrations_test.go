package migrations_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/migrations"
	"kurir/models"
	"kurir/models/modelstest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// schema is everything that the migrations make, as text.
func schema(t *testing.T, db *models.DB) string {
	t.Helper()
	return modelstest.Scalar[string](t, db, `SELECT coalesce(string_agg(line, E'\n' ORDER BY line), '') FROM (
		SELECT concat_ws(' ', 'column', table_name, column_name, data_type, is_nullable, column_default) AS line FROM information_schema.columns
			WHERE table_schema = 'public' AND table_name NOT LIKE 'bun\_%'
		UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE 'bun\_%'
		UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
			WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE 'bun\_%'
		UNION ALL SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal) lines`)
}

func TestUpDownUp(t *testing.T) {
	db := modelstest.Open(t, embeddedtest.DB(t))
	states, err := migrations.Status(t.Context(), db.DB)
	require.NoError(t, err)
	require.NotEmpty(t, states)
	for _, s := range states {
		require.False(t, s.Applied, s.Name)
	}
	require.Empty(t, schema(t, db), "asking for the status should change nothing")

	up, err := migrations.Up(t.Context(), db.DB)
	require.NoError(t, err)
	require.Len(t, up, len(states))
	made := schema(t, db)
	require.Contains(t, made, "column messages id uuid")
	states, err = migrations.Status(t.Context(), db.DB)
	require.NoError(t, err)
	for i, s := range states {
		require.True(t, s.Applied, s.Name)
		require.Equal(t, up[i], s.Name, "oldest first")
	}
	again, err := migrations.Up(t.Context(), db.DB)
	require.NoError(t, err)
	require.Empty(t, again)

	last, err := migrations.Last(t.Context(), db.DB)
	require.NoError(t, err)
	slices.Reverse(last)
	require.Equal(t, up, last)
	require.Equal(t, made, schema(t, db), "asking what would go should change nothing")
	down, err := migrations.Down(t.Context(), db.DB)
	require.NoError(t, err)
	require.ElementsMatch(t, up, down)
	last, err = migrations.Last(t.Context(), db.DB)
	require.NoError(t, err)
	require.Empty(t, last)
	require.Empty(t, schema(t, db), "down should leave nothing behind")
	down, err = migrations.Down(t.Context(), db.DB)
	require.NoError(t, err)
	require.Empty(t, down)

	again, err = migrations.Up(t.Context(), db.DB)
	require.NoError(t, err)
	require.Equal(t, up, again)
	require.Equal(t, strings.Split(made, "\n"), strings.Split(schema(t, db), "\n"))
}

// Eight processes start at once: one migrates, the others find it done.
func TestEightAtOnce(t *testing.T) {
	url := embeddedtest.DB(t)
	var group sync.WaitGroup
	applied := make([][]string, 8)
	for i := range applied {
		db := modelstest.Open(t, url) // a pool of its own, like a process
		group.Go(func() {
			var err error
			if applied[i], err = migrations.Up(context.Background(), db.DB); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	migrated := 0
	for _, names := range applied {
		if len(names) > 0 {
			migrated++
		}
	}
	require.Equal(t, 1, migrated, "%v", applied)
}
