package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
)

// sse is what one block of a stream says.
type sse struct {
	id, event, comment string
	raw                string
	data               map[string]any
}

// follower reads a stream as the specification of EventSource has it.
type follower struct {
	*world
	status int
	header http.Header
	cut    context.CancelFunc

	mu     sync.Mutex
	blocks []sse
	lastID string
	ended  bool
}

// streaming is a client that waits for as long as it takes.
var streaming = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// follow opens a stream, which must succeed.
func (w *world) follow(path string, with headers) *follower {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", w.url+path, nil)
	require.NoError(w, err)
	for i := 0; i < len(with); i += 2 {
		r.Header.Set(with[i], with[i+1])
	}
	resp, err := streaming.Do(r)
	require.NoError(w, err)
	f := &follower{world: w, status: resp.StatusCode, header: resp.Header, cut: cancel}
	if resp.StatusCode != 200 {
		defer cancel()
		w.Fatalf("stream refused: %s", read(w, resp).text)
	}
	require.Equal(w, "text/event-stream", resp.Header.Get("Content-Type"))
	go func() {
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, 8<<20)
		var b sse
		for lines.Scan() {
			if lines.Text() == "" {
				f.dispatch(b)
				b = sse{}
				continue
			}
			name, value, _ := strings.Cut(lines.Text(), ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "":
				b.comment = value
			case "id":
				b.id = value
			case "event":
				b.event = value
			case "data":
				b.raw = value
			}
		}
		f.mu.Lock()
		f.ended = true
		f.mu.Unlock()
	}()
	return f
}

func (f *follower) dispatch(b sse) {
	if b.raw != "" {
		if err := json.Unmarshal([]byte(b.raw), &b.data); err != nil {
			f.Errorf("data is no JSON: %.200s", b.raw)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blocks = append(f.blocks, b)
	if b.id != "" {
		f.lastID = b.id
	}
}

// events are those that came, without marks and comments.
func (f *follower) events() (list []sse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.blocks {
		if b.event != "" {
			list = append(list, b)
		}
	}
	return list
}

func (f *follower) ids() []string {
	ids := []string{}
	for _, e := range f.events() {
		ids = append(ids, e.id)
	}
	return ids
}

func (f *follower) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lastID
}

func (f *follower) heartbeats() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.blocks {
		if b.comment != "" {
			n++
		}
	}
	return n
}

func (f *follower) hasEnded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// ready waits until the stream is live.
func (f *follower) ready() *follower {
	f.Helper()
	f.eventually("the stream to begin", func() bool { return f.last() != "" || f.hasEnded() })
	require.False(f, f.hasEnded())
	return f
}

// has waits for exactly these events, in this order.
func (f *follower) has(what string, ids ...string) {
	f.Helper()
	if ids == nil {
		ids = []string{}
	}
	deadline := time.Now().Add(patience)
	for len(f.ids()) < len(ids) && time.Now().Before(deadline) && !f.hasEnded() {
		time.Sleep(time.Millisecond)
	}
	require.Equal(f, ids, f.ids(), what)
}

func (f *follower) ends(what string) {
	f.Helper()
	f.eventually(what+" to end the stream", f.hasEnded)
}

// uid is a session's identity.
func (w *world) uid(id string) uuid.UUID {
	w.Helper()
	return modelstest.Scalar[uuid.UUID](w, w.db, `SELECT uid FROM sessions WHERE id = $1 AND deleted_at IS NULL`, id)
}

// emitIn writes one event in a transaction and returns its ID.
func emitIn(t testing.TB, tx pgx.Tx, session uuid.UUID, event string, data any) string {
	t.Helper()
	_, err := models.Emit(context.Background(), tx, []models.Event{{Session: session, Type: event, Data: data, At: time.Now()}})
	require.NoError(t, err)
	var id uuid.UUID
	require.NoError(t, tx.QueryRow(context.Background(), `SELECT id FROM events WHERE session_uid = $1 AND xid = pg_current_xact_id() ORDER BY id DESC LIMIT 1`, session).Scan(&id))
	return id.String()
}

// emit writes events, each in a transaction of its own, and returns their IDs.
func (w *world) emit(session string, types ...string) []string {
	w.Helper()
	uid := w.uid(session)
	var ids []string
	for i, event := range types {
		require.NoError(w, w.db.InPgxTx(context.Background(), func(tx pgx.Tx) error {
			ids = append(ids, emitIn(w, tx, uid, event, map[string]any{"n": i, "text": fmt.Sprint("event ", i)}))
			return nil
		}))
	}
	return ids
}

func (w *world) begin() pgx.Tx {
	w.Helper()
	tx, err := w.db.Pool.Begin(context.Background())
	require.NoError(w, err)
	w.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

func (w *world) commit(tx pgx.Tx) {
	w.Helper()
	require.NoError(w, tx.Commit(context.Background()))
}
