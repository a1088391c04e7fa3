package models_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// BenchmarkWay is what PostgreSQL does on the way of messages, one step after another: of one that comes alone, in a new installation
// and in one with a year of months, sealed or not, and of 32 that come together, of one lane and of several. The figures are of one message.
func BenchmarkWay(b *testing.B) {
	for _, v := range []struct {
		name                    string
		messages, lanes, months int
		sealed                  bool
	}{{"alone", 1, 1, 0, false}, {"alone, 12 months more", 1, 1, 12, false}, {"alone, 12 months more, sealed", 1, 1, 12, true},
		{"1 lane", 32, 1, 0, false}, {"4 lanes", 32, 4, 0, false}, {"16 lanes", 32, 16, 0, false}} {
		b.Run(v.name, func(b *testing.B) {
			db := modelstest.DB(b)
			for ahead := range v.months { // a month that is to come costs as much as one that is over
				_, err := models.AddPartitions(b.Context(), db, time.Now().AddDate(0, ahead+1, 0))
				require.NoError(b, err)
			}
			if v.sealed {
				_, err := db.Pool.Exec(b.Context(), `DO $$ DECLARE part regclass; BEGIN
					FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'messages'::regclass AND inhrelid::regclass::text <> 'messages_old' AND inhrelid::regclass::text > 'messages_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMM') LOOP
						EXECUTE format('ALTER TABLE %s ADD CONSTRAINT messages_settled CHECK (status <> ''PENDING'' AND status <> ''SENDING'')', part);
					END LOOP; END $$`)
				require.NoError(b, err)
			}
			benchSteps(b, db, v.messages, v.lanes)
		})
	}
}

func benchSteps(b *testing.B, db *models.DB, n, lanes int) {
	modelstest.Worker(b, db, "w1", 1000)
	u := modelstest.User(b, db)
	sessions := make([]*models.Session, lanes)
	for i := range sessions {
		sessions[i] = modelstest.Session(b, db, u, fmt.Sprint("s", i))
		modelstest.Connect(b, db, sessions[i])
	}
	ctx, runner := b.Context(), uuid.New()
	require.NoError(b, models.RenewRunner(ctx, db.Pool, runner, "test", 1, time.Hour))
	spent := map[string]time.Duration{}
	step := func(name string, f func() error) {
		began := time.Now()
		require.NoError(b, f())
		spent[name] += time.Since(began)
	}
	uids := make([]uuid.UUID, lanes)
	for i := range uids {
		uids[i] = sessions[i].UID
	}
	rounds := 0
	for b.Loop() {
		rounds++
		list := make([]*models.NewMessage, n)
		for i := range list {
			list[i] = newMessage(uids[i%lanes], fmt.Sprintf("62812%08d@s.whatsapp.net", i), "Hello, your order is on its way")
		}
		step("1-accept", func() error { return models.InsertTogether(ctx, db.Pool, list) })
		var holds []*models.Hold
		step("2-take", func() (err error) {
			holds, err = models.TakeLanes(ctx, db.Pool, uids, runner)
			return err
		})
		wants := make([]models.Want, lanes)
		for i := range wants {
			wants[i] = models.Want{Hold: holds[i], Limit: n}
		}
		var claims []*models.Claim
		step("3-claim", func() (err error) {
			claims, err = models.ClaimPlain(ctx, db.Pool, wants)
			return err
		})
		done, all := make([]models.Settlement, lanes), 0
		for i, c := range claims {
			done[i] = models.Settlement{Hold: *holds[i], SessionID: sessions[i].ID}
			for k := range c.Messages {
				done[i].Outcomes = append(done[i].Outcomes, outcome(c, k, models.MessageSent))
				all++
			}
		}
		require.Equal(b, n, all)
		step("4-settle", func() error {
			_, err := models.SettlePlain(ctx, db, done)
			return err
		})
		free := make([]models.Release, lanes)
		for i := range free {
			free[i] = models.Release{Hold: *holds[i]}
		}
		step("5-release", func() error {
			_, err := models.ReleaseLanes(ctx, db.Pool, models.LaneMessages, free)
			return err
		})
	}
	for name, d := range spent {
		b.ReportMetric(float64(d.Microseconds())/float64(rounds*n), name+"-µs/message")
	}
}
