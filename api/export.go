package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
)

// Bounds of exports. A page is read, written, and forgotten: what an export holds in memory does not grow with its length,
// and between two pages it holds no connection to PostgreSQL.
const (
	exportPage     = 200
	exportPerUser  = 2
	exportsAtOnce  = 32               // of all users, in this process
	exportReadTime = 30 * time.Second // for one page
)

// exportWriteTime is how long a client may take to read a page. It is a variable for the test of those that do not read.
var exportWriteTime = 30 * time.Second

var errExportLimit = fault.New(fault.Limited, "export_limit", "As many exports are running as may run at once. Wait until one has ended.").After(30 * time.Second)

// exports counts those that run, by user.
type exports struct {
	mu  sync.Mutex
	by  map[uuid.UUID]int
	all int
}

func (e *exports) begin(user uuid.UUID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[uuid.UUID]int{}
	}
	if e.all >= exportsAtOnce || e.by[user] >= exportPerUser {
		return false
	}
	e.by[user]++
	e.all++
	return true
}

func (e *exports) end(user uuid.UUID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all--
	if e.by[user]--; e.by[user] == 0 {
		delete(e.by, user)
	}
}

// ExportInput asks for all messages that a filter lets through.
type ExportInput struct {
	SessionPath
	HistoryFilter
	Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of a page, or of the last line of an export that was cut off: go on from there"`
}

// ExportEnd is the last line of an export. Without it, the connection was cut.
type ExportEnd struct {
	End        bool    `json:"end" doc:"Whether all messages are there"`
	Messages   int     `json:"messages" doc:"Lines before this one"`
	NextCursor *string `json:"nextCursor" doc:"Where to go on, if not all are there"`
	Code       string  `json:"code,omitempty" doc:"Why not"`
	Sentence   string  `json:"error,omitempty"`
}

// exportMessages streams messages, one a line, newest first: what comes meanwhile lies before the first line, so that an
// export has an end.
func (a *API) exportMessages(ctx context.Context, in *ExportInput) (*huma.StreamResponse, error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	if in.Cursor != "" {
		if f.Before, err = decodeCursor(in.Cursor); err != nil {
			return nil, err
		}
	}
	f.Limit = exportPage
	user := callerOf(ctx).user.ID
	if !a.exports.begin(user) {
		return nil, errExportLimit
	}
	page, err := models.History(ctx, a.db.Pool, s.UID, f) // what is wrong from the start is told by the status
	if err != nil {
		a.exports.end(user)
		return nil, stored(err)
	}
	x := &export{api: a, session: s, filter: f, page: page, user: user, requestID: requestIDOf(ctx)}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		c := humafiber.Unwrap(ctx)
		ctx.SetStatus(http.StatusOK)
		ctx.SetHeader("Content-Type", "application/x-ndjson")
		ctx.SetHeader("Cache-Control", "no-store")
		x.conn = c.Context().Conn()
		a.running.Add(1) // the request ends for the framework before it ends for the client
		c.Context().SetBodyStreamWriter(x.write)
	}}, nil
}

// export is one that runs.
type export struct {
	api       *API
	session   *models.Session
	filter    models.MessageFilter
	page      *models.HistoryPage
	user      uuid.UUID
	requestID string
	conn      net.Conn
	lines     int
}

// errExportCut ends exports when the process ends.
var errExportCut = fault.New(fault.Unavailable, "shutting_down", "The server is restarting. Go on with nextCursor.")

// write streams page by page. It runs after the handler, on a goroutine of the server's.
func (x *export) write(w *bufio.Writer) {
	began := time.Now()
	err := x.stream(w)
	if err == nil {
		err = x.end(w, nil)
	} else if !errors.Is(err, errNotRead) {
		err = errors.Join(err, x.end(w, err))
	}
	x.api.exports.end(x.user)
	x.api.running.Add(-1)
	x.api.log.Info("export ended", "requestId", x.requestID, "user", x.user.String(), "messages", x.lines, "took", time.Since(began), "error", err)
}

// errNotRead is a client that has gone, or does not read.
var errNotRead = errors.New("the client does not read")

func (x *export) stream(w *bufio.Writer) (err error) {
	defer func() {
		if p := recover(); p != nil { // there is no handler around us
			err = fault.New(fault.Internal, "internal", internalSentence)
			x.api.log.Error("export failed", "requestId", x.requestID, "panic", p)
		}
	}()
	for {
		if err := x.writePage(w); err != nil {
			return err
		}
		if x.page.Next == uuid.Nil {
			return nil
		}
		x.filter.Before = x.page.Next // where the last line says to go on, if this is the end
		select {
		case <-x.api.waiter.stop:
			return errExportCut
		default:
		}
		ctx, cancel := context.WithTimeout(x.api.background, exportReadTime)
		page, err := models.History(ctx, x.api.db.Pool, x.session.UID, x.filter)
		cancel()
		if err != nil {
			return stored(err)
		}
		x.page = page
	}
}

func (x *export) writePage(w *bufio.Writer) error {
	_ = x.conn.SetWriteDeadline(time.Now().Add(exportWriteTime))
	for i := range x.page.Messages {
		if err := writeLine(w, messageResource(&x.page.Messages[i], x.session)); err != nil {
			return err
		}
		x.lines++
	}
	if w.Flush() != nil {
		return errNotRead
	}
	return nil
}

func writeLine(w *bufio.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return errNotRead
	}
	return nil
}

// end writes the last line.
func (x *export) end(w *bufio.Writer, err error) error {
	line := ExportEnd{End: err == nil, Messages: x.lines}
	if err != nil {
		f := x.api.failure(context.Background(), err)
		next := encodeCursor(x.filter.Before)
		line.Code, line.Sentence, line.NextCursor = f.Code, f.Sentence, &next
	}
	_ = x.conn.SetWriteDeadline(time.Now().Add(exportWriteTime))
	if err := writeLine(w, line); err != nil {
		return err
	}
	return w.Flush()
}

// exportResponses documents what exportMessages answers.
func exportResponses(o *huma.Operation) {
	o.Responses = map[string]*huma.Response{"200": {Description: "A message a line, newest first, and a last line that says whether that is all", Content: map[string]*huma.MediaType{
		"application/x-ndjson": {Schema: &huma.Schema{Type: "string"},
			Example: `{"id":"01980f5e-…","sessionId":"shop","direction":"inbound","chat":"6281234567890@s.whatsapp.net","type":"text","message":"Hello","status":"delivered",…}` + "\n" +
				`{"end":true,"messages":1,"nextCursor":null}` + "\n"},
	}}}
}
