package api

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
)

// AdminUsageInput asks for what all accounts used in a month.
type AdminUsageInput struct {
	UsageMonth
	Page
	Accept string `header:"Accept" doc:"text/csv for all accounts as one file, without a cursor, else a page of JSON"`
}

// AccountUsage is what an account used.
type AccountUsage struct {
	UserID string  `json:"userId" format:"uuid"`
	Name   *string `json:"name" doc:"null: the account is gone" example:"Sari"`
	Email  *string `json:"email" example:"sari@example.com"`
	Tier   *string `json:"tier" enum:"basic,pro,max" doc:"When the month was closed, or at present; null if the account was gone by then"`
	UsageTotals
}

// AdminUsageData is a page of what accounts used.
type AdminUsageData struct {
	Month      string         `json:"month" example:"2026-01"`
	Closed     bool           `json:"closed" doc:"The month was closed: its figures are final. One before the first that was counted is never closed, and has none"`
	Usage      []AccountUsage `json:"usage" doc:"Newest account first; those that used nothing are left out"`
	NextCursor *string        `json:"nextCursor"`
}

func accountUsage(u models.UserUsage) AccountUsage {
	return AccountUsage{UserID: u.User.String(), Name: filled(u.Name), Email: filled(u.Email), Tier: filled(strings.ToLower(u.Tier)), UsageTotals: UsageTotals{u.Messages, u.APIHits}}
}

func (a *API) adminUsage(ctx context.Context, in *AdminUsageInput) (*huma.StreamResponse, error) {
	month, err := in.first(time.Now())
	if err != nil {
		return nil, err
	}
	asCSV := strings.Contains(in.Accept, "text/csv")
	if asCSV && in.Cursor != "" {
		return nil, fault.Field("cursor", "the file has all accounts, from the first one")
	}
	before, err := in.after()
	if err != nil {
		return nil, err
	}
	closed, err := models.MonthClosed(ctx, a.db.Pool, month)
	if err != nil {
		return nil, databaseFault(err)
	}
	size := in.Limit + 1
	if asCSV {
		size = usagePage
	}
	list, err := models.UsageByUser(ctx, a.db.Pool, month, before, size)
	if err != nil {
		return nil, databaseFault(err)
	}
	if asCSV {
		return a.usageFile(ctx, month, list), nil
	}
	data := AdminUsageData{Month: month.Format(monthForm), Closed: closed, Usage: []AccountUsage{}}
	for _, u := range first(list, in.Limit) {
		data.Usage = append(data.Usage, accountUsage(u))
	}
	if len(list) > in.Limit {
		data.NextCursor = in.next(len(list), list[in.Limit-1].User)
	}
	body, err := json.Marshal(Body[AdminUsageData]{Success: true, Data: data})
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", "application/json")
		_, _ = ctx.BodyWriter().Write(body)
	}}, nil
}

// usagePage is how many lines of the file are in memory at once.
const usagePage = 500

// usageFile streams all accounts of a month as CSV. A file without its last line, which begins with "total", is not complete.
func (a *API) usageFile(ctx context.Context, month time.Time, page []models.UserUsage) *huma.StreamResponse {
	f := &usageFile{api: a, month: month, page: page, requestID: requestIDOf(ctx)}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		c := humafiber.Unwrap(ctx)
		ctx.SetStatus(http.StatusOK)
		ctx.SetHeader("Content-Type", "text/csv; charset=utf-8; header=present")
		ctx.SetHeader("Content-Disposition", `attachment; filename="usage-`+month.Format(monthForm)+`.csv"`)
		ctx.SetHeader("Cache-Control", "no-store")
		f.conn = c.Context().Conn()
		a.running.Add(1) // the request ends for the framework before it ends for the client
		c.Context().SetBodyStreamWriter(f.write)
	}}
}

// usageFile is one that is being written.
type usageFile struct {
	api       *API
	month     time.Time
	page      []models.UserUsage
	requestID string
	conn      net.Conn
	users     int64
	totals    UsageTotals
}

// write runs after the handler, on a goroutine of the server's.
func (f *usageFile) write(w *bufio.Writer) {
	defer f.api.running.Add(-1)
	defer func() {
		if p := recover(); p != nil { // there is no handler around us
			f.api.log.Error("usage file failed", "requestId", f.requestID, "panic", p)
		}
	}()
	if err := f.stream(w); err != nil {
		f.api.log.Warn("usage file cut off", "requestId", f.requestID, "users", f.users, "error", err)
	}
	_ = f.conn.SetWriteDeadline(time.Time{}) // the connection may serve other requests
}

func (f *usageFile) stream(w *bufio.Writer) error {
	out := csv.NewWriter(w)
	if err := out.Write([]string{"month", "userId", "name", "email", "tier", "messages", "apiHits"}); err != nil {
		return err
	}
	for {
		_ = f.conn.SetWriteDeadline(time.Now().Add(exportWriteTime))
		last, err := f.writePage(out)
		if err != nil {
			return errors.Join(errNotRead, err)
		}
		if len(f.page) < usagePage {
			break
		}
		if w.Flush() != nil {
			return errNotRead
		}
		ctx, cancel := context.WithTimeout(f.api.background, exportReadTime)
		f.page, err = models.UsageByUser(ctx, f.api.db.Pool, f.month, last, usagePage)
		cancel()
		if err != nil {
			return err
		}
	}
	_ = out.Write([]string{"total", "", strconv.FormatInt(f.users, 10), "", "", strconv.FormatInt(f.totals.Messages, 10), strconv.FormatInt(f.totals.APIHits, 10)})
	out.Flush()
	return errors.Join(out.Error(), w.Flush())
}

func (f *usageFile) writePage(out *csv.Writer) (last uuid.UUID, err error) {
	for _, u := range f.page {
		last = u.User
		f.users, f.totals.Messages, f.totals.APIHits = f.users+1, f.totals.Messages+u.Messages, f.totals.APIHits+u.APIHits
		err := out.Write([]string{f.month.Format(monthForm), u.User.String(), harmless(u.Name), harmless(u.Email), strings.ToLower(u.Tier),
			strconv.FormatInt(u.Messages, 10), strconv.FormatInt(u.APIHits, 10)})
		if err != nil {
			return last, err
		}
	}
	out.Flush()
	return last, out.Error()
}

// separators are those, beside the comma, at which spreadsheets divide a line, whatever stands in quotes.
var separators = strings.NewReplacer(";", " ", "\t", " ", "\r", " ", "\n", " ")

// harmless keeps a spreadsheet from taking a text, or a part of it, for a formula: what separates cells is a blank, and what would be
// a formula is shown with an apostrophe before it.
func harmless(text string) string {
	text = separators.Replace(text)
	if strings.IndexAny(strings.TrimSpace(text), "=+-@|%＝＋－＠") == 0 {
		return "'" + text
	}
	return text
}

// adminUsageResponses documents what adminUsage answers.
func adminUsageResponses(o *huma.Operation) {
	o.Responses = map[string]*huma.Response{"200": {Description: "A page, or the file", Content: map[string]*huma.MediaType{
		"application/json": {Example: map[string]any{"success": true, "data": map[string]any{"month": "2026-01", "closed": true, "nextCursor": nil,
			"usage": []any{map[string]any{"userId": "01980f5e-7a3c-7bd2-9a53-2f6f0d3b8c11", "name": "Sari", "email": "sari@example.com", "tier": "pro", "messages": 1200, "apiHits": 5400}}}}},
		"text/csv": {Schema: &huma.Schema{Type: "string"}, Example: "month,userId,name,email,tier,messages,apiHits\n" +
			"2026-01,01980f5e-7a3c-7bd2-9a53-2f6f0d3b8c11,Sari,sari@example.com,pro,1200,5400\ntotal,,1,,,1200,5400\n"},
	}}}
}

// PeriodResource is a month that is closed.
type PeriodResource struct {
	Month       string     `json:"month" example:"2026-01"`
	EventID     string     `json:"eventId" format:"uuid" doc:"The webhook-id of billing.period_closed"`
	Users       int64      `json:"users" doc:"Accounts that used anything" example:"42"`
	Messages    int64      `json:"messages" example:"1200"`
	APIHits     int64      `json:"apiHits" example:"5400"`
	ClosedAt    time.Time  `json:"closedAt"`
	AnnouncedAt *time.Time `json:"announcedAt" doc:"When BILLING_WEBHOOK_URL had taken the event; null: not yet, or it is not set"`
}

// PeriodList is a page of closed months.
type PeriodList struct {
	Periods    []PeriodResource `json:"periods" doc:"Newest first"`
	NextCursor *string          `json:"nextCursor"`
}

func (a *API) listPeriods(ctx context.Context, in *Page) (*Reply[PeriodList], error) {
	before, err := in.after()
	if err != nil {
		return nil, err
	}
	periods, err := models.Periods(ctx, a.db.Pool, before, in.Limit+1)
	if err != nil {
		return nil, databaseFault(err)
	}
	list := PeriodList{Periods: []PeriodResource{}}
	for _, p := range first(periods, in.Limit) {
		list.Periods = append(list.Periods, PeriodResource{Month: p.Month.Format(monthForm), EventID: p.ID.String(), Users: p.Users, Messages: p.Messages,
			APIHits: p.APIHits, ClosedAt: p.ClosedAt.UTC(), AnnouncedAt: utc(p.AnnouncedAt)})
	}
	if len(periods) > in.Limit {
		list.NextCursor = in.next(len(periods), periods[in.Limit-1].ID)
	}
	return reply(list), nil
}
