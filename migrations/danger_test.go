package migrations_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// firstSafe is the first migration that has to leave the version before in peace; those before it made the first release.
const firstSafe = "0028"

// big are the tables that grow with messages: what reads or rewrites one of them as a whole takes minutes. Those in parts are
// partitioned.
var (
	big = []string{"messages", "message_index", "events", "webhook_deliveries", "webhook_attempts", "system_logs",
		"worker_metrics", "idempotency_keys", "jobs", "media", "chats", "usage_days", "usage_records", "analytics_changes"}
	inParts = []string{"messages", "message_index", "events"}
)

// danger is a kind of statement that breaks the version before, or stops it. docs/migrations.md tells what to write instead.
type danger struct {
	rule string
	in   func(s statement) bool
}

// statement is one of a migration: in upper case, without comments, texts and bodies of functions. made are the tables that the file
// itself makes, which nobody uses yet.
type statement struct {
	text string
	made map[string]bool
}

func matches(pattern string) func(statement) bool {
	re := regexp.MustCompile(pattern)
	return func(s statement) bool { return re.MatchString(s.text) }
}

var dangers = []danger{
	{"drop", matches(`^DROP (TABLE|VIEW|MATERIALIZED VIEW|SCHEMA|TYPE|DOMAIN|FUNCTION|SEQUENCE|EXTENSION)\b`)},
	{"drop-column", dropsColumn},
	{"rename", matches(`^ALTER .*\bRENAME\b`)},
	{"type", onOld(matches(`\bALTER (COLUMN )?\S+ (SET DATA )?TYPE\b`))},
	{"not-null", onOld(needsValue)},
	{"rewrite", onOld(rewrites)},
	{"constraint", onOld(validates)},
	{"index", indexesBig},
	{"concurrently-alone", func(s statement) bool { return strings.Contains(s.text, " CONCURRENTLY ") }}, // see alone
	{"backfill", func(s statement) bool { return bigIn(s, `^(?:WITH .*)?\b(?:UPDATE|DELETE FROM)(?: ONLY)? (\S+)`) }},
	{"lock", matches(`^(LOCK|TRUNCATE|CLUSTER|VACUUM|REINDEX)\b`)},
	{"lock-timeout", func(statement) bool { return false }}, // of the file, see patient
}

var tableOf = regexp.MustCompile(`^ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(\S+) (.*)$`)

// onOld looks only at what is done to tables that were there before.
func onOld(in func(statement) bool) func(statement) bool {
	return func(s statement) bool {
		m := tableOf.FindStringSubmatch(s.text)
		return m != nil && !s.made[name(m[1])] && in(s)
	}
}

func name(table string) string {
	table, _, _ = strings.Cut(strings.TrimPrefix(table, "PUBLIC."), "(")
	return strings.ToLower(strings.Trim(table, `"`))
}

// actions are the parts of an ALTER TABLE.
func actions(s statement) (list []string) {
	m := tableOf.FindStringSubmatch(s.text)
	if m == nil {
		return nil
	}
	depth, from := 0, 0
	for i, c := range m[2] {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				list, from = append(list, strings.TrimSpace(m[2][from:i])), i+1
			}
		}
	}
	return append(list, strings.TrimSpace(m[2][from:]))
}

var dropped = regexp.MustCompile(`^DROP (\S+)`)

func dropsColumn(s statement) bool {
	return slices.ContainsFunc(actions(s), func(a string) bool {
		m := dropped.FindStringSubmatch(a)
		return m != nil && m[1] != "CONSTRAINT"
	})
}

// needsValue: the version before writes rows without the column.
func needsValue(s statement) bool {
	return slices.ContainsFunc(actions(s), func(a string) bool {
		if strings.Contains(a, " SET NOT NULL") {
			return true
		}
		return strings.HasPrefix(a, "ADD ") && strings.Contains(a, " NOT NULL") && !strings.Contains(a, " DEFAULT ") && !strings.Contains(a, " GENERATED ") &&
			!strings.HasPrefix(a, "ADD CONSTRAINT") && !strings.HasPrefix(a, "ADD CHECK")
	})
}

var called = regexp.MustCompile(` DEFAULT .*?([A-Z_.0-9]+)\(`)

// rewrites: a default that differs from row to row is written into all of them.
func rewrites(s statement) bool {
	return slices.ContainsFunc(actions(s), func(a string) bool {
		if !strings.HasPrefix(a, "ADD ") {
			return false
		}
		m := called.FindStringSubmatch(a)
		return m != nil && m[1] != "NOW" || strings.Contains(a, " GENERATED ") || strings.Contains(a, "SERIAL")
	})
}

// validates: all rows are read under a lock that keeps writers out.
func validates(s statement) bool {
	return slices.ContainsFunc(actions(s), func(a string) bool {
		whole := strings.HasPrefix(a, "ADD CONSTRAINT") || strings.HasPrefix(a, "ADD CHECK") || strings.HasPrefix(a, "ADD FOREIGN") ||
			strings.HasPrefix(a, "ADD UNIQUE") || strings.HasPrefix(a, "ADD PRIMARY")
		return whole && !strings.HasSuffix(a, "NOT VALID") && !strings.Contains(a, " USING INDEX ") || strings.HasPrefix(a, "VALIDATE") && len(actions(s)) > 1
	})
}

var indexed = regexp.MustCompile(`^CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?.*?\bON (ONLY )?(\S+)`)

func indexesBig(s statement) bool {
	m := indexed.FindStringSubmatch(s.text)
	if m == nil || s.made[name(m[3])] || !slices.Contains(big, name(m[3])) {
		return false
	}
	if slices.Contains(inParts, name(m[3])) {
		return m[2] == "" // each part has its own, made concurrently
	}
	return m[1] == ""
}

func bigIn(s statement, pattern string) bool {
	m := regexp.MustCompile(pattern).FindStringSubmatch(s.text)
	return m != nil && slices.Contains(big, name(m[1])) && !s.made[name(m[1])]
}

var (
	creates = regexp.MustCompile(`^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\S+)`)
	waits   = regexp.MustCompile(`^(ALTER TABLE|DROP|CREATE (?:OR REPLACE )?TRIGGER|CREATE (?:UNIQUE )?INDEX|LOCK)`)
	allowed = regexp.MustCompile(`(?m)^-- allow ([a-z-]+): \S+ \S+ \S+`)
)

// dangersIn lists the rules that a migration breaks without saying why.
func dangersIn(sql string) (broken []string) {
	excused := map[string]bool{}
	for _, m := range allowed.FindAllStringSubmatch(sql, -1) {
		excused[m[1]] = true
	}
	found := statements(sql)
	made, patient, waiting := map[string]bool{}, false, false
	for _, text := range found {
		if m := creates.FindStringSubmatch(text); m != nil {
			made[name(m[1])] = true
		}
		patient = patient || strings.HasPrefix(text, "SET LOCAL LOCK_TIMEOUT")
	}
	add := func(rule string) {
		if !excused[rule] && !slices.Contains(broken, rule) {
			broken = append(broken, rule)
		}
	}
	for _, text := range found {
		s := statement{text, made}
		for _, d := range dangers {
			if d.rule == "concurrently-alone" && len(found) == 1 {
				continue
			}
			if d.in(s) {
				add(d.rule)
			}
		}
		waiting = waiting || waits.MatchString(text) && !strings.Contains(text, " CONCURRENTLY ") && !touchesMade(s)
	}
	if waiting && !patient {
		add("lock-timeout")
	}
	return broken
}

var touched = regexp.MustCompile(`^(?:ALTER TABLE (?:IF EXISTS )?(?:ONLY )?|CREATE .*? ON (?:ONLY )?)(\S+)`)

func touchesMade(s statement) bool {
	m := touched.FindStringSubmatch(s.text)
	return m != nil && s.made[name(m[1])]
}

// statements cuts SQL into its statements: in upper case, blanks as one, without comments and texts. What DO runs stands behind it;
// the body of a function, which nobody runs here, is left out.
func statements(sql string) (list []string) {
	var b strings.Builder
	end := func() {
		if text := strings.Join(strings.Fields(b.String()), " "); text != "" {
			list = append(list, strings.ToUpper(text))
		}
		b.Reset()
	}
	for len(sql) > 0 {
		switch {
		case strings.HasPrefix(sql, "--"):
			_, sql, _ = strings.Cut(sql, "\n")
			b.WriteByte(' ')
		case strings.HasPrefix(sql, "/*"):
			_, sql, _ = strings.Cut(sql, "*/")
			b.WriteByte(' ')
		case sql[0] == '\'':
			_, sql, _ = strings.Cut(sql[1:], "'")
			b.WriteString("''")
		case sql[0] == '$' && dollar.MatchString(sql):
			tag := dollar.FindString(sql)
			body, rest, _ := strings.Cut(sql[len(tag):], tag)
			sql = rest
			if strings.EqualFold(strings.TrimSpace(b.String()), "do") {
				b.Reset()
				list = append(list, statements(blocks.ReplaceAllString(body, ";"))...)
			} else {
				b.WriteString("''")
			}
		case sql[0] == ';':
			end()
			sql = sql[1:]
		default:
			b.WriteByte(sql[0])
			sql = sql[1:]
		}
	}
	end()
	return list
}

var (
	dollar = regexp.MustCompile(`^\$[A-Za-z_]*\$`)
	blocks = regexp.MustCompile(`(?i)\b(BEGIN|THEN|ELSE|LOOP|EXECUTE)\b`) // after them a statement begins
)

// No migration since the first release breaks or stops the version that runs while it is applied.
func TestMigrationsLeaveTheVersionBeforeInPeace(t *testing.T) {
	files, err := filepath.Glob("*.up.sql")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		sql, err := os.ReadFile(file)
		require.NoError(t, err)
		if file >= firstSafe {
			require.Empty(t, dangersIn(string(sql)), "%s: docs/migrations.md tells what to write instead; or say `-- allow <rule>: <why>` in the file", file)
		}
	}
}

func TestDangers(t *testing.T) {
	const patient = "SET LOCAL lock_timeout = '2s';\n"
	for sql, rules := range map[string]string{
		"DROP TABLE users;": "drop",
		"-- a comment; with a semicolon\ndrop /* x */ function\n kurir_x();":                             "drop",
		"ALTER TABLE users DROP COLUMN name":                                                             "drop-column",
		"ALTER TABLE users ADD COLUMN a text, DROP name":                                                 "drop-column",
		"ALTER TABLE users DROP CONSTRAINT x, ALTER COLUMN a DROP DEFAULT, ALTER COLUMN b DROP NOT NULL": "",
		"ALTER TABLE users RENAME COLUMN a TO b":                                                         "rename",
		"ALTER TABLE users ALTER COLUMN a TYPE bigint":                                                   "type",
		"ALTER TABLE users ADD COLUMN a text NOT NULL":                                                   "not-null",
		"ALTER TABLE users ALTER a SET NOT NULL":                                                         "not-null",
		"ALTER TABLE users ADD COLUMN a text NOT NULL DEFAULT 'x; DROP TABLE users;'":                    "",
		"ALTER TABLE users ADD COLUMN a timestamptz NOT NULL DEFAULT now()":                              "",
		"ALTER TABLE users ADD COLUMN a uuid NOT NULL DEFAULT kurir_uuid_v7()":                           "rewrite",
		"ALTER TABLE users ADD COLUMN a bigserial":                                                       "rewrite",
		"ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0)":                                               "constraint",
		"ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID":                                     "",
		"ALTER TABLE users VALIDATE CONSTRAINT c":                                                        "",
		"ALTER TABLE users ADD CONSTRAINT c UNIQUE USING INDEX i":                                        "",
		"CREATE INDEX i ON users (a)":                                                                    "",
		"CREATE INDEX i ON webhook_deliveries (a)":                                                       "index",
		"CREATE INDEX i ON messages USING gin (a)":                                                       "index",
		"CREATE UNIQUE INDEX i ON ONLY messages (a)":                                                     "",
		"UPDATE users SET a = 1":                                                                         "",
		"UPDATE messages SET a = 1":                                                                      "backfill",
		"WITH x AS (SELECT 1) DELETE FROM events USING x":                                                "backfill",
		"LOCK TABLE users": "lock",
		"CREATE TABLE things (id int); CREATE INDEX i ON things (id); ALTER TABLE things ADD COLUMN b int NOT NULL": "",
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DROP TABLE users; END $$":                 "",
		"DO $do$ BEGIN IF true THEN DROP TABLE users; END IF; END $do$":                                             "drop",
		"-- allow drop: nothing has read it since 1.4\nDROP TABLE users":                                            "",
		"-- allow drop: because\nDROP TABLE users":                                                                  "drop",
	} {
		require.Equal(t, rules, strings.Join(dangersIn(patient+sql), " "), sql)
	}
	require.Equal(t, []string{"lock-timeout"}, dangersIn("ALTER TABLE users ADD COLUMN a text"))
	require.Equal(t, []string{"lock-timeout"}, dangersIn("CREATE TRIGGER x AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION f()"))
	require.Empty(t, dangersIn("CREATE TABLE things (id int); CREATE INDEX i ON things (id);"))
	require.Empty(t, dangersIn("CREATE INDEX CONCURRENTLY i ON webhook_deliveries (a)"), "alone in its file")
	require.Equal(t, []string{"concurrently-alone"}, dangersIn("CREATE INDEX CONCURRENTLY i ON webhook_deliveries (a); SELECT 1"))
}
