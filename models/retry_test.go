package models_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/message"
	"kurir/models"
	"kurir/models/modelstest"
)

// failOnce has the first statement that inserts into a table or updates it end as PostgreSQL ends a deadlock's victim.
func failOnce(t *testing.T, db *models.DB, table, code string) {
	t.Helper()
	_, err := db.Pool.Exec(t.Context(), strings.NewReplacer("TABLE_NAME", table, "SQL_STATE", code).Replace(`
		CREATE SEQUENCE fails;
		CREATE FUNCTION fail_once() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF nextval('fails') = 1 THEN RAISE EXCEPTION 'once' USING ERRCODE = 'SQL_STATE'; END IF;
			RETURN NULL;
		END $$;
		CREATE TRIGGER fail_once AFTER INSERT OR UPDATE ON TABLE_NAME FOR EACH STATEMENT EXECUTE FUNCTION fail_once()`))
	require.NoError(t, err)
}

func failedOnce(t *testing.T, db *models.DB) {
	t.Helper()
	require.True(t, modelstest.Scalar[bool](t, db, `SELECT last_value > 1 FROM fails`), "it was tried again")
}

func TestSettleIsTriedAgain(t *testing.T) {
	o := newOutbox(t)
	id := o.add("a", "x")
	h := o.take(o.runner())
	claim := o.claim(h, 10)
	failOnce(t, o.db, "events", "40P01")
	o.settle(h, outcome(claim, 0, models.MessageSent))
	failedOnce(t, o.db)
	require.Equal(t, models.MessageSent, o.status(id))
	require.Equal(t, []string{"message.sent x"}, o.events())
}

// A try that was taken back must not leave in memory what it had tied.
func TestWhatIsSentAboutAMessageIsTiedInALaterTry(t *testing.T) {
	o := newOutbox(t)
	target := o.message(o.add(jid(sari), "hello"))
	o.deliver()
	reaction := o.add(target.Chat, "👍", func(m *models.NewMessage) {
		ref := *models.RefTo(target)
		ref.MessageID = ""
		m.Type, m.Details = strings.ToUpper(message.Reaction), &message.Details{Target: &ref}
	})
	failOnce(t, o.db, "events", "40001")
	o.deliver()
	failedOnce(t, o.db)
	require.Len(t, o.message(target.ID).Reactions, 1)
	require.Equal(t, target.ID, *o.message(reaction).TargetID)
	require.Equal(t, target.ID.String(), o.message(reaction).Details.Target.MessageID)
}

// What somebody else has in hand when its holder settles stays, and the holder learns of it; what a receipt has settled does not.
func TestSettleTellsWhatIsLeft(t *testing.T) {
	o := newOutbox(t)
	o.add("a", "x")
	o.add("b", "y")
	h := o.take(o.runner())
	claim := o.claim(h, 10)
	settle := func() bool {
		settled, err := models.Settle(t.Context(), o.db, models.Settlement{Hold: *h, SessionID: o.session.ID, Outcomes: []models.Outcome{
			outcome(claim, 0, models.MessagePending), outcome(claim, 1, models.MessageSent)}})
		require.NoError(t, err)
		return settled.Left
	}
	tx, err := o.db.Pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	_, err = tx.Exec(t.Context(), `SELECT 1 FROM messages WHERE id = $1 FOR NO KEY UPDATE`, claim.Messages[0].ID)
	require.NoError(t, err)
	require.True(t, settle())
	require.Equal(t, models.MessageSent, o.status(claim.Messages[1].ID))
	require.NoError(t, tx.Rollback(t.Context()))
	o.exec(`UPDATE messages SET status = 'DELIVERED' WHERE id = $1`, claim.Messages[0].ID)
	require.False(t, settle())
}
