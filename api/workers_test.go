package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
	"kurir/models/modelstest"
	"kurir/wire"
)

const workersPath = "/api/v1/admin/workers"

// node speaks the worker protocol by hand.
type node struct {
	*world
	id, secret string
	term       int64
}

func (w *world) enroll(id, endpoint string) *answer {
	w.Helper()
	return w.do("POST", workersPath+"/register", headers{"X-Worker-Token", workerToken}, wire.Register{WorkerID: id, Endpoint: endpoint, MaxSessions: 10, Engine: "simulator"})
}

func (w *world) node(id string) *node {
	w.Helper()
	data := w.enroll(id, "http://"+id).ok(200)
	require.Equal(w, []any{"registered", id, 12000.0, 100.0}, []any{data["status"], data["workerId"], data["leaseMs"], data["heartbeatMs"]})
	return &node{world: w, id: id, secret: str(data, "secret"), term: int64(data["term"].(float64))}
}

func (n *node) auth() headers {
	return append(bearer(workerToken), "X-Worker-Secret", n.secret)
}

func (n *node) beat(change func(*wire.Heartbeat)) *answer {
	h := wire.Heartbeat{Status: "online", Term: n.term, Metrics: wire.Metrics{CPUUsage: 12.5, Uptime: 7}}
	if change != nil {
		change(&h)
	}
	return n.do("PUT", workersPath+"/"+n.id+"/heartbeat", n.auth(), h)
}

func (n *node) tell(events ...wire.Event) *answer {
	return n.do("POST", workersPath+"/"+n.id+"/events", n.auth(), wire.EventBatch{Term: n.term, Events: events})
}

func TestWorkerRegistersAndBeats(t *testing.T) {
	t.Parallel()
	w := start(t)
	n := w.node("w1")
	require.EqualValues(t, 1, n.term)
	before := w.rows()
	w.enroll("w1", "http://w1").refused(409, "worker_live")
	w.enroll("w2", "http://w1").refused(409, "endpoint_taken")
	for _, endpoint := range []string{"w1", "ftp://w1", "http://", "http://user@w1", "://"} {
		w.enroll("w3", endpoint).refused(422, "invalid_request")
	}
	for _, id := range []string{"-a", "a b", "a/b", "ä"} {
		w.enroll(id, "http://w9").refused(422, "invalid_request")
	}
	for _, secret := range []string{"", "wrong", workerToken, w.vault.WorkerSecret("w2", 1), w.vault.WorkerSecret("w1", 2)} {
		bad := *n
		bad.secret = secret
		bad.beat(nil).refused(401, "unauthenticated")
		bad.tell().refused(401, "unauthenticated")
	}
	other := *n
	other.term, other.secret = 2, w.vault.WorkerSecret("w1", 2)
	other.beat(nil).refused(409, "stale_term")
	other.tell().refused(409, "stale_term")
	ghost := node{world: w, id: "ghost", term: 1, secret: w.vault.WorkerSecret("ghost", 1)}
	ghost.beat(nil).refused(409, "stale_term")
	ghost.tell().refused(409, "stale_term")
	w.unchanged(before, "refused workers")

	require.EqualValues(t, 12000, n.beat(nil).ok(200)["leaseMs"])
	require.EqualValues(t, 1, w.count("worker_metrics"))
	n.beat(func(h *wire.Heartbeat) { h.Metrics.SessionCount, h.Metrics.MessageCount = 1<<40, 1<<60 }).ok(200)
	answer := n.beat(func(h *wire.Heartbeat) {
		h.Sessions = []wire.HeldSession{{SessionID: "no-uuid'; --", Epoch: 1}, {SessionID: uuid.NewString(), Epoch: 1}}
	}).ok(200)
	require.Len(t, answer["drop"], 2)
	admin := w.administrator()
	worker := w.do("GET", workersPath+"/w1", admin.auth(), nil).ok(200)
	require.Equal(t, []any{"online", "http://w1", 12.5, 0.0}, []any{worker["status"], worker["endpoint"], worker["cpuUsage"], worker["sessionCount"]})
	w.do("GET", workersPath+"/none", admin.auth(), nil).refused(404, "worker_not_found")

	n.beat(func(h *wire.Heartbeat) { h.Status = "offline" }).ok(200)
	require.Equal(t, "offline", w.do("GET", workersPath+"/w1", admin.auth(), nil).ok(200)["status"])
	again := w.node("w1")
	require.EqualValues(t, 3, again.term, "the goodbye ended a term too")
	require.NotEqual(t, n.secret, again.secret)
	n.beat(nil).refused(409, "stale_term")
}

func TestWorkerTellsWhatHappened(t *testing.T) {
	t.Parallel()
	w := start(t)
	n := w.node("w1")
	u := w.register("u")
	u.session("shop")
	uid := modelstest.Scalar[uuid.UUID](t, w.db, `SELECT uid FROM sessions`).String()
	event := func(seq int64, kind string, data any) wire.Event {
		raw, err := json.Marshal(data)
		require.NoError(t, err)
		return wire.Event{EventID: models.NewID().String(), SessionID: uid, Epoch: 1, Seq: seq, Type: kind, Timestamp: time.Now(), Data: raw}
	}
	next := func(a *answer) int { return int(a.ok(200)["next"].(float64)) }
	phone := "6289876543210"
	received := wire.ReceivedData{WhatsappID: "A", Chat: phone + "@s.whatsapp.net", Sender: phone + "@s.whatsapp.net", From: wire.Contact{Phone: &phone}, Type: "text", Message: "in"}
	batch := []wire.Event{
		event(1, wire.EventSessionQR, wire.QRData{QR: "qr", ExpiresAt: time.Now().Add(time.Minute)}),
		event(2, wire.EventSessionStatus, wire.StatusData{Status: wire.StatusConnected, PhoneNumber: "+6281111111111"}),
		event(3, wire.EventMessageReceived, received),
	}
	require.Equal(t, 1, next(n.tell()))
	require.Equal(t, 1, next(n.tell(event(2, wire.EventSessionStatus, wire.StatusData{Status: wire.StatusError}))), "a gap stores nothing")
	require.Equal(t, 4, next(n.tell(batch...)))
	require.Equal(t, 4, next(n.tell(batch...)), "a second time changes nothing")
	require.Equal(t, "connected", u.do("GET", "/api/v1/sessions/shop", u.auth(), nil).ok(200)["status"])
	require.Len(t, u.do("GET", "/api/v1/sessions/shop/messages", u.auth(), nil).ok(200)["messages"], 1)

	sent := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), text(phone, "out")).ok(202), "messageId")
	strange := received
	strange.WhatsappID, strange.Message = "B", strings.Repeat("x", 70_000)
	unknown := event(5, wire.EventMessageReceived, received)
	unknown.SessionID = uuid.NewString()
	nonsense := event(6, "session.exploded", nil)
	nonsense.SessionID = "no uuid"
	require.Equal(t, 8, next(n.tell(event(4, wire.EventMessageReceived, strange), unknown, nonsense,
		event(7, wire.EventMessageReceipt, wire.ReceiptData{WhatsappID: models.WhatsappID(uuid.MustParse(sent)), Chat: phone + "@s.whatsapp.net", Status: "read"}))))
	require.Equal(t, "read", u.do("GET", "/api/v1/messages/"+sent, u.auth(), nil).ok(200)["status"])
	require.Len(t, u.do("GET", "/api/v1/sessions/shop/messages", u.auth(), nil).ok(200)["messages"], 2, "what cannot be stored is acknowledged, so that it does not come again")
}
