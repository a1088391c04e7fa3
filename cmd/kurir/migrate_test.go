package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/embedded/embeddedtest"
	"kurir/models"
	"kurir/models/modelstest"
)

// Nothing is dropped that was not asked for twice, and no administrator is left out silently.
func TestMigrate(t *testing.T) {
	url := embeddedtest.DB(t)
	db := modelstest.Open(t, url)
	migrate := func(environ []string, args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"migrate"}, args...), append([]string{"DATABASE_URL=" + url, "BCRYPT_ROUNDS=4"}, environ...), &out, &out)
		return out.String(), err
	}
	tables := func() int64 {
		return modelstest.Scalar[int64](t, db, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'bun_%'`)
	}
	for _, half := range []string{"ADMIN_EMAIL=a@example.com", "ADMIN_PASSWORD=correct horse battery"} {
		_, err := migrate([]string{half})
		require.ErrorIs(t, err, errHalfAdministrator)
	}
	require.Zero(t, tables())
	out, err := migrate([]string{"ADMIN_EMAIL=a@example.com", "ADMIN_PASSWORD=correct horse battery"})
	require.NoError(t, err)
	require.Contains(t, out, "made the administrator a@example.com")
	applied, all := strings.Count(out, "applied "), tables()
	require.Positive(t, all)

	out, err = migrate(nil, "down")
	require.ErrorIs(t, err, errNotSure)
	require.Equal(t, 2, exitCode(err))
	require.Equal(t, applied, strings.Count(out, "would take back "))
	require.Equal(t, all, tables())
	there, err := models.HasAdministrator(t.Context(), db)
	require.NoError(t, err)
	require.True(t, there)

	out, err = migrate(nil, "down", "--yes")
	require.NoError(t, err)
	require.Equal(t, applied, strings.Count(out, "took back "))
	require.Zero(t, tables())
	out, err = migrate(nil, "down")
	require.NoError(t, err)
	require.Contains(t, out, "nothing to take back")
}
