package api_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"kurir/models"
)

// Who asks what became of a message whose medium cannot be fetched is told so while it waits, as a message and as a job, and
// can end the wait.
func TestAMessageWhoseMediumCannotBeFetched(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.worker()
	u := w.register("u")
	u.connected("shop")
	send := func() string {
		body := map[string]any{"to": "6281234567890", "type": "image", "mediaUrl": "https://example.com/gone.jpg"}
		id := str(u.do("POST", "/api/v1/sessions/shop/send", u.auth(), body).ok(202), "messageId")
		w.exec(`UPDATE messages SET waiting_for = 'media', next_attempt_at = now() + interval '1 hour' WHERE id = $1`, id)
		return id
	}
	fails := func(id string) {
		var m models.Message
		require.NoError(t, w.db.NewSelect().Model(&m).Where("id = ?", id).Scan(context.Background()))
		_, _, err := models.FetchFailed(context.Background(), w.db, &models.Message{ID: uuid.MustParse(id), SessionUID: m.SessionUID},
			"media_unreachable", "The medium could not be fetched: no connection.", func(int) time.Duration { return time.Hour })
		require.NoError(t, err)
	}
	get := func(id string) map[string]any { return u.do("GET", "/api/v1/messages/"+id, u.auth(), nil).ok(200) }

	one, other := send(), send()
	require.Equal(t, []any{"pending", "media", nil, nil}, fields(get(one), "status", "waitingFor", "errorCode", "error"))
	fails(one)
	fails(other)
	waits := []any{"pending", "media", "media_unreachable", "The medium could not be fetched: no connection."}
	require.Equal(t, waits, fields(get(one), "status", "waitingFor", "errorCode", "error"))
	job := u.do("GET", "/api/v1/jobs/"+one, u.auth(), nil).ok(200)
	require.Equal(t, []any{"queued", waits[3]}, fields(job, "status", "error"))

	u.do("DELETE", "/api/v1/messages/"+one, u.auth(), nil).ok(200)
	require.EqualValues(t, 1, u.do("POST", "/api/v1/sessions/shop/messages/cancel", u.auth(), map[string]any{"type": "image"}).ok(200)["cancelled"])
	for _, id := range []string{one, other} {
		require.Equal(t, []any{"cancelled", nil, nil, nil}, fields(get(id), "status", "waitingFor", "errorCode", "error"))
	}
	require.EqualValues(t, 2, w.count("events WHERE type = 'message.cancelled' AND data->'errorCode' = 'null'"))
}

// fields are some of an object's, in that order.
func fields(data map[string]any, names ...string) []any {
	var list []any
	for _, name := range names {
		list = append(list, data[name])
	}
	return list
}
