package backup

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"kurir/models"
)

// Credentials is a schema in which kurir-whatsapp keeps what phones were linked with, beside Kurir's own in the same database. What is
// in it is none of Kurir's business, but without it every phone has to be linked anew.
type Credentials struct {
	Schema string `json:"schema"`
	Owner  string `json:"owner"` // a user of the worker's own, or Kurir's

	User   string `json:"-"` // who asks
	Denied bool   `json:"-"` // he must not read all of it
}

// CredentialsIn lists them. They are known by what the worker makes in each, since WHATSAPP_SCHEMA may name any.
func CredentialsIn(ctx context.Context, q models.Querier) ([]Credentials, error) {
	rows, err := q.Query(ctx, `SELECT n.nspname::text AS schema, pg_get_userbyid(n.nspowner)::text AS owner, current_user::text AS user,
			NOT has_schema_privilege(n.oid, 'USAGE') OR EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = n.oid
				AND (c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, 'SELECT') OR c.relkind = 'S' AND NOT has_sequence_privilege(c.oid, 'SELECT'))) AS denied
		FROM pg_namespace n WHERE EXISTS (SELECT 1 FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'kurir_sessions')
			AND EXISTS (SELECT 1 FROM pg_proc p WHERE p.pronamespace = n.oid AND p.proname = 'kurir_fence') ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("look for credentials of linked phones: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Credentials])
}

// Grant is the statement that lets who asks back credentials up and bring them back, to their owner.
func (c Credentials) Grant() string { return "GRANT " + quoted(c.Owner) + " TO " + quoted(c.User) }

// readable refuses to begin what pg_dump would break off half way.
func readable(list []Credentials) error {
	for _, c := range list {
		if c.Denied {
			return fmt.Errorf("the schema %s, with what phones were linked with, belongs to %s, and %s must not read all of it. As a superuser: %s", c.Schema, c.Owner, c.User, c.Grant())
		}
	}
	return nil
}

// allowed finds out whether credentials can be given back to their owner. An owner who does not exist here is forgotten: they belong to
// whoever brings them back.
func (c *Credentials) allowed(ctx context.Context, q models.Querier) error {
	if c.Owner == "" {
		return nil
	}
	var exists, may bool
	err := q.QueryRow(ctx, `SELECT current_user::text, count(*) > 0, coalesce(bool_and(pg_has_role(oid, 'MEMBER')), false) FROM pg_roles WHERE rolname = $1`, c.Owner).
		Scan(&c.User, &exists, &may)
	switch {
	case err != nil:
		return fmt.Errorf("look for the owner of %s: %w", c.Schema, err)
	case !exists:
		c.Owner = ""
	case !may:
		return fmt.Errorf("the schema %s belongs to %s, to whom %s cannot give it. Nothing was changed. As a superuser: %s", c.Schema, c.Owner, c.User, c.Grant())
	}
	return nil
}

// handOver gives a schema and all that is in it to its owner.
func (c Credentials) handOver() []string {
	if c.Owner == "" {
		return nil
	}
	return []string{fmt.Sprintf("ALTER SCHEMA %s OWNER TO %s", quoted(c.Schema), quoted(c.Owner)), fmt.Sprintf(`DO $hand_over$
		DECLARE
			here CONSTANT oid := (SELECT oid FROM pg_namespace WHERE nspname = %[1]s);
			thing text;
		BEGIN
			FOR thing IN
				SELECT 'TABLE ' || c.oid::regclass FROM pg_class c WHERE c.relnamespace = here AND c.relkind IN ('r', 'p', 'v', 'm')
				UNION ALL SELECT 'SEQUENCE ' || c.oid::regclass FROM pg_class c WHERE c.relnamespace = here AND c.relkind = 'S'
					AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i'))
				UNION ALL SELECT 'ROUTINE ' || p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = here
			LOOP
				EXECUTE format('ALTER %%s OWNER TO %%I', thing, %[2]s);
			END LOOP;
		END $hand_over$`, models.Literal(c.Schema), models.Literal(c.Owner))}
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }
