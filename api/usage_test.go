package api_test

import (
	"encoding/csv"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

const usagePath, adminUsagePath = "/api/v1/users/me/usage", "/api/v1/admin/usage"

func monthBegan() time.Time {
	now := time.Now().UTC()
	return time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
}

// Requests count for who made them, about what, and with which key; what a process still has in hand when it ends is written.
func TestUsageOfAnAccount(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u, other := w.register("u"), w.register("other")
	key := u.connected("shop") // one request with the token
	for range 3 {
		w.do("GET", "/api/v1/auth/me", u.auth(), nil).ok(200)
	}
	w.do("GET", "/api/v1/sessions/nothing", u.auth(), nil).refused(404, "session_not_found")
	message := str(w.do("POST", "/api/v1/sessions/shop/send", u.auth(), text("6281234567890", "x")).ok(202), "messageId")
	w.do("GET", "/api/v1/messages/"+message, u.auth(), nil).ok(200)
	for range 2 {
		w.do("GET", "/api/v1/sessions", headers{"X-Api-Key", u.key}, nil).ok(200)
		w.do("GET", "/api/v1/sessions/shop", bearer(key), nil).ok(200)
		w.do("GET", "/api/v1/auth/me", bearer("nonsense"), nil).refused(401, "invalid_token")
		w.do("GET", adminUsagePath, u.auth(), nil).refused(403, "forbidden")
		w.do("GET", "/health", nil, nil)
	}
	w.exec(`UPDATE messages SET status = 'SENT', sent_at = now()`)
	require.NoError(t, w.stop(t.Context()))
	_, billed, err := models.CountMessages(t.Context(), w.db)
	require.NoError(t, err)
	require.EqualValues(t, 1, billed)

	again := startOn(t, w.db)
	month := monthBegan().Format("2006-01")
	d := again.do("GET", usagePath, u.auth(), nil).ok(200)
	require.Equal(t, map[string]any{"messages": 1.0, "apiHits": 11.0}, d["totals"])
	require.Equal(t, []any{month, false}, []any{d["month"], d["closed"]})
	require.Equal(t, map[string]any{"tier": "max", "sessions": 20.0, "messagesPerHour": 10000.0}, d["limits"])
	require.Equal(t, []any{map[string]any{"sessionId": "shop", "name": "shop", "deleted": false, "messages": 1.0, "apiHits": 4.0}}, d["sessions"])
	var hits []float64
	for _, k := range d["keys"].([]any) {
		hits = append(hits, k.(map[string]any)["apiHits"].(float64))
	}
	require.Equal(t, []float64{7, 2, 2}, hits)
	require.Nil(t, d["keys"].([]any)[0].(map[string]any)["keyId"], "with tokens")
	require.Equal(t, []any{map[string]any{"day": time.Now().UTC().Format(time.DateOnly), "messages": 1.0, "apiHits": 11.0}}, d["days"])
	require.Equal(t, map[string]any{"messages": 0.0, "apiHits": 0.0}, again.do("GET", usagePath+"?month="+month, other.auth(), nil).ok(200)["totals"])
	before := again.do("GET", usagePath+"?month="+monthBegan().AddDate(0, -1, 0).Format("2006-01"), bearer(u.key), nil).ok(200)
	require.Equal(t, []any{false, []any{}}, []any{before["closed"], before["days"]}, "nobody closed a month before anything was counted")
	for _, wrong := range []string{"2026-1", "2026-13", "1999-12", monthBegan().AddDate(0, 1, 0).Format("2006-01"), "now", "2026-01'", "%00"} {
		again.do("GET", usagePath+"?month="+url.QueryEscape(wrong), u.auth(), nil).refused(422, "invalid_request")
	}
	w.exec(`UPDATE users SET max_sessions = 7, max_messages_per_hour = 0 WHERE id = $1`, uuid.MustParse(u.id))
	overridden := startOn(t, w.db).do("GET", usagePath, u.auth(), nil).ok(200)
	require.Equal(t, map[string]any{"tier": "max", "sessions": 7.0, "messagesPerHour": 0.0}, overridden["limits"])
}

// While PostgreSQL is away, what was let in from memory is counted in memory, and written when it is back.
func TestUsageOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	direct := modelstest.URL(t)
	through, way := relayed(t, direct)
	w := startOn(t, modelstest.Open(t, through))
	u := w.register("u")
	answered := int64(0)
	ask := func() {
		if w.do("GET", "/api/v1/auth/me", u.auth(), nil).status == 200 {
			answered++
		}
	}
	ask()
	way.cut()
	for range 5 {
		ask()
	}
	way.mend()
	w.eventually("PostgreSQL", func() bool { return w.do("GET", "/health/ready", nil, nil).status == 200 })
	ask()
	db := modelstest.Open(t, direct)
	w.eventually("the count", func() bool {
		return modelstest.Scalar[int64](t, db, `SELECT coalesce(sum(api_hits), 0)::bigint FROM usage_months`) == answered
	})
	require.NoError(t, w.stop(t.Context()))
	require.Equal(t, answered, modelstest.Scalar[int64](t, db, `SELECT sum(usage_count)::bigint FROM usage_records`))
}

// What the operator reads of accounts is the same as pages and as a file, however many there are and whatever they are called.
func TestUsageOfAllAccounts(t *testing.T) {
	t.Parallel()
	w := start(t)
	admin, u := w.administrator(), w.register("u")
	month := monthBegan().AddDate(0, -1, 0)
	w.exec(`UPDATE usage_state SET open_from = $1`, month)
	w.exec(`INSERT INTO usage_months (month, user_id, messages, api_hits) SELECT $1, kurir_uuid_v7(), n, 1 FROM generate_series(1, 1200) n`, month)
	w.exec(`UPDATE users SET name = $2 WHERE id = $1`, uuid.MustParse(u.id), `=cmd|'/C calc'!A0, "x"`)
	w.exec(`INSERT INTO usage_months (month, user_id, messages, api_hits) VALUES ($1, $2, 5, 7)`, month, uuid.MustParse(u.id))
	at := adminUsagePath + "?month=" + month.Format("2006-01")

	var pages []any
	for cursor := ""; ; {
		d := w.do("GET", at+"&limit=200&cursor="+cursor, admin.auth(), nil).ok(200)
		require.Equal(t, false, d["closed"])
		pages = append(pages, d["usage"].([]any)...)
		if d["nextCursor"] == nil {
			break
		}
		cursor = d["nextCursor"].(string)
	}
	require.Len(t, pages, 1201)

	file := w.do("GET", at, append(admin.auth(), "Accept", "text/csv"), nil)
	require.Equal(t, 200, file.status)
	require.Contains(t, file.header.Get("Content-Type"), "text/csv")
	lines, err := csv.NewReader(strings.NewReader(file.text)).ReadAll()
	require.NoError(t, err)
	require.Len(t, lines, 1+1201+1)
	require.Equal(t, []string{"total", "", "1201", "", "", strconv.Itoa(1200*1201/2 + 5), "1207"}, lines[1202])
	for i, page := range pages {
		p, line := page.(map[string]any), lines[i+1]
		require.Equal(t, []string{month.Format("2006-01"), p["userId"].(string), strconv.Itoa(int(p["messages"].(float64))), strconv.Itoa(int(p["apiHits"].(float64)))},
			[]string{line[0], line[1], line[5], line[6]})
		if p["userId"] == u.id {
			require.Equal(t, []string{`'=cmd|'/C calc'!A0, "x"`, u.email, "max"}, line[2:5])
			require.Equal(t, []any{`=cmd|'/C calc'!A0, "x"`, "max"}, []any{p["name"], p["tier"]})
		} else {
			require.Nil(t, p["name"])
		}
	}
	cursor := w.do("GET", at+"&limit=1", admin.auth(), nil).ok(200)["nextCursor"].(string)
	w.do("GET", at+"&cursor="+cursor, append(admin.auth(), "Accept", "text/csv"), nil).refused(422, "invalid_request").contains(`"field":"cursor"`)
	w.do("GET", at, append(u.auth(), "Accept", "text/csv"), nil).refused(403, "forbidden")
	w.do("GET", adminUsagePath+"?month=x", append(admin.auth(), "Accept", "text/csv"), nil).refused(422, "invalid_request")

	closeOne := func() bool {
		p, err := models.ClosePeriod(t.Context(), w.db, 0, func(pgx.Tx, models.Period) error { return nil })
		require.NoError(t, err)
		return p != nil
	}
	require.True(t, closeOne())
	require.False(t, closeOne())
	require.Equal(t, true, w.do("GET", at, admin.auth(), nil).ok(200)["closed"])
	require.Equal(t, file.text, w.do("GET", at, append(admin.auth(), "Accept", "text/csv"), nil).text, "what is closed is what was open")
	d := w.do("GET", adminUsagePath+"/periods", admin.auth(), nil).ok(200)
	require.Nil(t, d["nextCursor"])
	require.Len(t, d["periods"], 1)
	period := d["periods"].([]any)[0].(map[string]any)
	require.Equal(t, []any{month.Format("2006-01"), 1201.0, float64(1200*1201/2 + 5), 1207.0, nil},
		[]any{period["month"], period["users"], period["messages"], period["apiHits"], period["announcedAt"]})
	w.exec(`UPDATE usage_state SET open_from = (open_from - interval '4 months')::date`)
	w.exec(`DELETE FROM billing_periods`)
	for closeOne() {
	}
	var months []any
	for cursor := ""; ; {
		d := w.do("GET", adminUsagePath+"/periods?limit=2&cursor="+cursor, admin.auth(), nil).ok(200)
		for _, p := range d["periods"].([]any) {
			months = append(months, p.(map[string]any)["month"])
		}
		if d["nextCursor"] == nil {
			break
		}
		cursor = d["nextCursor"].(string)
	}
	require.Equal(t, []any{month.Format("2006-01"), month.AddDate(0, -1, 0).Format("2006-01"), month.AddDate(0, -2, 0).Format("2006-01"), month.AddDate(0, -3, 0).Format("2006-01")}, months)
}
