package models_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// keyOf is an encryption key of one letter.
func keyOf(letter string) []byte { return bytes.Repeat([]byte(letter), 32) }

// vaultOf has a key for each letter.
func vaultOf(t testing.TB, letters string) *models.Vault {
	t.Helper()
	var keys [][]byte
	for _, letter := range strings.Split(letters, "") {
		keys = append(keys, keyOf(letter))
	}
	v, err := models.NewVault(keys...)
	require.NoError(t, err)
	return v
}

// nameless seals as it was done when there was one key.
func nameless(t testing.TB, key []byte, purpose, plain string) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(t, err)
	nonce := bytes.Repeat([]byte{7}, aead.NonceSize())
	return aead.Seal(append([]byte{1}, nonce...), nonce, []byte(plain), []byte(purpose))
}

func TestVaultOfSeveralKeys(t *testing.T) {
	old, both, swapped, next := vaultOf(t, "a"), vaultOf(t, "ab"), vaultOf(t, "ba"), vaultOf(t, "b")
	opens := func(v *models.Vault, sealed []byte) bool {
		plain, err := v.Open("p", sealed)
		require.True(t, err != nil || string(plain) == "secret")
		return err == nil
	}
	for _, c := range []struct {
		what                     string
		sealed                   []byte
		old, both, swapped, next bool
	}{
		{"by one key", old.Seal("p", []byte("secret")), true, true, true, false},
		{"by the first of two", both.Seal("p", []byte("secret")), true, true, true, false},
		{"after the swap", swapped.Seal("p", []byte("secret")), false, true, true, true},
		{"without a name", nameless(t, keyOf("a"), "p", "secret"), true, true, true, false},
		{"without a name, by the next", nameless(t, keyOf("b"), "p", "secret"), false, true, true, true},
		{"for another purpose", both.Seal("q", []byte("secret")), false, false, false, false},
		{"nothing", nil, false, false, false, false}, {"a version", []byte{2}, false, false, false, false}, {"another version", []byte{9, 1, 2, 3}, false, false, false, false},
		{"a name", both.Seal("p", nil)[:5], false, false, false, false}, {"half a nonce", both.Seal("p", nil)[:9], false, false, false, false},
	} {
		require.Equal(t, []bool{c.old, c.both, c.swapped, c.next}, []bool{opens(old, c.sealed), opens(both, c.sealed), opens(swapped, c.sealed), opens(next, c.sealed)}, c.what)
	}
	renamed := both.Seal("p", []byte("secret"))
	copy(renamed[1:5], next.Seal("p", nil)[1:5])
	require.False(t, opens(both, renamed), "under another key's name")
	_, err := next.Open("p", old.Seal("p", nil))
	require.ErrorContains(t, err, old.KeyIDs()[0], "it names the key that is missing")

	require.Equal(t, append(old.KeyIDs(), next.KeyIDs()...), both.KeyIDs())
	require.Equal(t, old.KeyIDs(), vaultOf(t, "aa").KeyIDs())
	_, err = models.NewVault()
	require.Error(t, err)
	_, err = models.NewVault(keyOf("a"), keyOf("b")[:31])
	require.Error(t, err)

	// A worker's secret is that of the key under which its term began, and is good as long as that key is there.
	secret := old.WorkerSecret("w", 3)
	require.Equal(t, secret, both.WorkerSecret("w", 3))
	require.NotEqual(t, secret, swapped.WorkerSecret("w", 3))
	require.Equal(t, secret, swapped.WorkerSecretOf("w", 3, old.KeyIDs()[0]))
	for _, unknown := range []string{"", "x", "00000000"} {
		require.Equal(t, swapped.WorkerSecret("w", 3), swapped.WorkerSecretOf("w", 3, unknown))
	}
	require.True(t, swapped.IsWorkerSecret("w", 3, secret))
	for _, wrong := range []struct {
		worker string
		term   int64
		secret string
	}{{"w", 4, secret}, {"v", 3, secret}, {"w", 3, ""}, {"w", 3, secret + "0"}} {
		require.False(t, swapped.IsWorkerSecret(wrong.worker, wrong.term, wrong.secret))
	}
	require.False(t, next.IsWorkerSecret("w", 3, secret))
}

// sealedHook adds a session with a webhook and a proxy, sealed by a vault.
func sealedHook(t testing.TB, db *models.DB, user *models.User, v *models.Vault, name string) {
	t.Helper()
	s := modelstest.Session(t, db, user, name)
	_, err := db.Pool.Exec(context.Background(), `INSERT INTO webhooks (id, user_id, session_uid, url, events, secret, previous_secret, headers) VALUES ($1, $2, $3, 'https://example.com', '{*}', $4, $5, $6)`,
		models.NewID(), user.ID, s.UID, v.Seal(models.SealWebhookSecret, []byte("secret")), v.Seal(models.SealWebhookSecret, []byte("former")), v.Seal(models.SealWebhookHeaders, []byte("{}")))
	require.NoError(t, err)
	_, err = db.Pool.Exec(context.Background(), `UPDATE sessions SET proxy = $2 WHERE uid = $1`, s.UID, v.Seal(models.SealProxy, []byte("http://u:p@proxy.example.com")))
	require.NoError(t, err)
}

func TestWrongKeyIsRefused(t *testing.T) {
	db := modelstest.DB(t)
	ctx := t.Context()
	var wrong *models.WrongKeyError
	old, both, swapped, next := vaultOf(t, "a"), vaultOf(t, "ab"), vaultOf(t, "ba"), vaultOf(t, "b")

	// A database of before: what it holds decides.
	modelstest.Worker(t, db, "w1", 10)
	user := modelstest.User(t, db)
	sealedHook(t, db, user, old, "shop")
	require.ErrorAs(t, models.CheckEncryption(ctx, db, next), &wrong)
	require.Zero(t, modelstest.Scalar[int64](t, db, `SELECT count(*) FROM encryption_keys`))
	require.NoError(t, models.CheckEncryption(ctx, db, old))
	require.Equal(t, old.KeyIDs()[0], modelstest.Scalar[string](t, db, `SELECT secret_key FROM workers`))

	err := models.CheckEncryption(ctx, db, next)
	require.ErrorAs(t, err, &wrong)
	require.ErrorContains(t, err, "ENCRYPTION_KEY cannot decrypt what the database holds")
	require.ErrorContains(t, err, old.KeyIDs()[0])
	require.ErrorContains(t, err, next.KeyIDs()[0])
	require.NoError(t, models.CheckEncryption(ctx, db, both))
	require.NoError(t, models.CheckEncryption(ctx, db, swapped))
	require.ErrorAs(t, models.CheckEncryption(ctx, db, old), &wrong, "something may be sealed under the next one")
	require.ErrorAs(t, models.CheckEncryption(ctx, db, next), &wrong)

	// A proxy alone tells it, too.
	_, err = db.Pool.Exec(ctx, `DELETE FROM encryption_keys; DELETE FROM webhooks`)
	require.NoError(t, err)
	require.ErrorAs(t, models.CheckEncryption(ctx, db, next), &wrong)

	// Of processes that begin with different keys at once, those of one key remain.
	_, err = db.Pool.Exec(ctx, `UPDATE sessions SET proxy = NULL`)
	require.NoError(t, err)
	results := make(chan string, 8)
	for i := range 8 {
		letter := []string{"x", "y"}[i%2]
		v := vaultOf(t, letter)
		go func() {
			if models.CheckEncryption(ctx, db, v) != nil {
				letter = ""
			}
			results <- letter
		}()
	}
	got := map[string]int{}
	for range 8 {
		got[<-results]++
	}
	require.Len(t, got, 2, "%v", got)
	require.Equal(t, 4, got[""], "%v", got)
}

func TestResealing(t *testing.T) {
	db := modelstest.DB(t)
	ctx := t.Context()
	modelstest.Worker(t, db, "w1", 100)
	user := modelstest.User(t, db)
	old, swapped, next := vaultOf(t, "a"), vaultOf(t, "ba"), vaultOf(t, "b")
	for i := range 7 {
		sealedHook(t, db, user, old, fmt.Sprint("s", i))
	}
	exec := func(sql string, args ...any) {
		_, err := db.Pool.Exec(ctx, sql, args...)
		require.NoError(t, err)
	}
	exec(`UPDATE webhooks SET secret = $1 WHERE id = (SELECT max(id::text)::uuid FROM webhooks)`, nameless(t, keyOf("a"), models.SealWebhookSecret, "secret"))
	exec(`UPDATE webhooks SET previous_secret = NULL, headers = NULL WHERE id = (SELECT min(id::text)::uuid FROM webhooks)`)
	lost := vaultOf(t, "z").Seal(models.SealWebhookHeaders, []byte("{}"))
	exec(`UPDATE webhooks SET headers = $1 WHERE id = (SELECT max(id::text)::uuid FROM webhooks)`, lost)
	require.NoError(t, models.CheckEncryption(ctx, db, swapped))
	secrets := models.SealedColumns()[0]

	// One batch, then the process is killed; another one begins anew.
	r, last, err := swapped.Reseal(ctx, db, secrets, uuid.Nil, 3)
	require.NoError(t, err)
	require.Equal(t, models.Resealed{Changed: 3}, r)
	require.NotEqual(t, uuid.Nil, last)
	left, err := swapped.StillUsing(ctx, db)
	require.NoError(t, err)
	require.Equal(t, 7-3+6+6+7, left.Values)
	total, unopened := 0, 0
	for _, column := range models.SealedColumns() {
		for after := uuid.Nil; ; {
			r, next, err := swapped.Reseal(ctx, db, column, after, 3)
			require.NoError(t, err)
			total, unopened = total+r.Changed, unopened+r.Unopened
			if after = next; next == uuid.Nil {
				break
			}
		}
	}
	require.Equal(t, []int{7 - 3 + 6 + 5 + 7, 1}, []int{total, unopened}, "what no key opens is left as it is")
	left, err = swapped.StillUsing(ctx, db)
	require.NoError(t, err)
	require.Equal(t, 1, left.Values)
	require.Equal(t, lost, modelstest.Scalar[[]byte](t, db, `SELECT headers FROM webhooks WHERE headers = $1`, lost))
	exec(`UPDATE webhooks SET headers = NULL WHERE headers = $1`, lost)

	// A worker's term, and a process that seals under another key, need theirs.
	exec(`UPDATE workers SET secret_key = $1`, old.KeyIDs()[0])
	process, err := models.OpenAs("kurir runner key "+old.KeyIDs()[0], db.Pool.Config().ConnString(), 2)
	require.NoError(t, err)
	require.NoError(t, process.Pool.Ping(ctx))
	left, err = swapped.StillUsing(ctx, db)
	require.NoError(t, err)
	require.Equal(t, models.StillUsed{Processes: []string{"kurir runner key " + old.KeyIDs()[0]}, Workers: []string{"w1"}}, left)
	require.NoError(t, process.Close())
	exec(`UPDATE workers SET lease_expires_at = now()`)
	require.Eventually(t, func() bool {
		left, err := swapped.StillUsing(ctx, db)
		return err == nil && left.None()
	}, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, swapped.ForgetOldKeys(ctx, db))
	require.NoError(t, models.CheckEncryption(ctx, db, next))
	for _, column := range []string{"secret", "previous_secret"} {
		plain, err := next.Open(models.SealWebhookSecret, modelstest.Scalar[[]byte](t, db, `SELECT `+column+` FROM webhooks ORDER BY id OFFSET 1 LIMIT 1`))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"secret": "secret", "previous_secret": "former"}[column], string(plain))
	}
	plain, err := next.Open(models.SealProxy, modelstest.Scalar[[]byte](t, db, `SELECT proxy FROM sessions LIMIT 1`))
	require.NoError(t, err)
	require.Equal(t, "http://u:p@proxy.example.com", string(plain))
}

// Whatever is sealed somewhere is sealed anew by a rotation: a purpose that is missing in SealedColumns fails the test.
func TestAllThatIsSealedIsSealedAnew(t *testing.T) {
	known := map[string]bool{"SealSecret": true, "SealHeaders": true, "SealWebhookSecret": true, "SealWebhookHeaders": true, "SealProxy": true, // all in SealedColumns
		"sealKeyName":   true, // of encryption_keys, which the next key writes by itself
		"LetterAddress": true, // of letters under way, which end within a day: see StillUsing
		"c.Purpose":     true}
	calls := regexp.MustCompile(`\.Seal\((?:jobs\.|models\.)?([\w.]+),`)
	found := 0
	for _, folder := range []string{"api", "jobs", "models", "media", "mail", "cmd/kurir"} {
		names, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
		require.NoError(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			raw, err := os.ReadFile(name)
			require.NoError(t, err)
			for _, call := range calls.FindAllStringSubmatch(string(raw), -1) {
				found++
				require.True(t, known[call[1]] || call[1] == "nil", "%s seals for %s: give it a line in SealedColumns", name, call[1])
			}
		}
	}
	require.GreaterOrEqual(t, found, 4)
}
