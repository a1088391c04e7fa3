package migrations_test

import (
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/migrations"
	"kurir/models/modelstest"
)

// A migration does not have everybody wait behind it: it gives up what it does not get, and comes again.
func TestLocksAreAskedForAgain(t *testing.T) {
	db := modelstest.DB(t)
	from := fstest.MapFS{
		"9000_first.up.sql":  {Data: []byte(`CREATE TABLE first_of_all (id int)`)},
		"9001_second.up.sql": {Data: []byte("SET LOCAL lock_timeout = '20ms';\nCREATE TABLE second_of_all (id int);\nALTER TABLE users ADD COLUMN extra text")},
	}
	holder, err := db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = holder.Rollback(t.Context()) }()
	_, err = holder.Exec(t.Context(), `SELECT count(*) FROM users`)
	require.NoError(t, err)

	type end struct {
		applied []string
		err     error
	}
	ended := make(chan end, 1)
	go func() {
		applied, err := migrations.UpFrom(t.Context(), db.DB, from, 10*time.Millisecond)
		ended <- end{applied, err}
	}()
	require.Eventually(t, func() bool {
		return modelstest.Scalar[bool](t, db, `SELECT to_regclass('first_of_all') IS NOT NULL`)
	}, 20*time.Second, time.Millisecond)
	for range 20 { // others get in between
		modelstest.User(t, db)
	}
	require.False(t, modelstest.Scalar[bool](t, db, `SELECT to_regclass('second_of_all') IS NOT NULL`), "all of a file or nothing")
	require.NoError(t, holder.Rollback(t.Context()))
	e := <-ended
	require.NoError(t, e.err)
	require.Equal(t, []string{"9000_first", "9001_second"}, e.applied)
}

// An index of a partitioned table that was made on the parent only is made on its parts, by whoever migrates, however many do.
func TestIndexesOfPartsAreFinished(t *testing.T) {
	db := modelstest.DB(t)
	for _, sql := range []string{"CREATE TABLE things (id int, kind text) PARTITION BY RANGE (id)",
		"CREATE TABLE things_1 PARTITION OF things FOR VALUES FROM (0) TO (100)", "CREATE TABLE things_old PARTITION OF things DEFAULT",
		"INSERT INTO things SELECT n, 'x' FROM generate_series(1, 200) n", "CREATE INDEX things_1_kind ON things_1 (id)"} {
		_, err := db.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	from := fstest.MapFS{"9000_index.up.sql": {Data: []byte(`CREATE INDEX things_kind ON ONLY things (kind DESC) WHERE id > 7`)}}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if _, err := migrations.UpFrom(t.Context(), db.DB, from, time.Millisecond); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	require.Equal(t, "things_1_kind things_kind things_old_kind", modelstest.Scalar[string](t, db, `SELECT string_agg(c.relname, ' ' ORDER BY 1) FROM pg_index i
		JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid AND c.relname LIKE 'things%'`))
	require.Contains(t, modelstest.Scalar[string](t, db, `SELECT pg_get_indexdef('things_1_kind'::regclass)`), "USING btree (kind DESC) WHERE (id > 7)")
}
