package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
)

// OnceHeader is the header of routes with the option once.
type OnceHeader struct {
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"Two requests with one key are one request: the second answers what the first did. Up to 255 printable ASCII characters, kept for 24 hours"`
}

type resourceIDKey struct{}

// newResourceID is the ID of what a request makes. Under an Idempotency-Key it was fixed before the first attempt, so
// that a repeat makes the same thing.
func newResourceID(ctx context.Context) uuid.UUID {
	if id, ok := ctx.Value(resourceIDKey{}).(uuid.UUID); ok {
		return id
	}
	return models.NewID()
}

const keepTimeout = 5 * time.Second

// secretFields are shown once: a replayed answer is without them.
var secretFields = []string{"apiKey", "token", "secret"}

// idempotent runs a request once for each Idempotency-Key of a caller and route, and answers repeats from memory.
func (a *API) idempotent(ctx huma.Context, next func(huma.Context)) {
	key := ctx.Header("Idempotency-Key")
	scope, _ := ctx.Operation().Metadata[metaIdempotent].(string)
	if scope == "" || key == "" {
		next(ctx)
		return
	}
	if !plainKey(key) {
		a.writeError(ctx, fault.Field("Idempotency-Key", "expected 1 to 255 printable ASCII characters"))
		return
	}
	c, p := humafiber.Unwrap(ctx), callerOf(ctx.Context())
	session := ctx.Param("id")
	if session == "" {
		session = p.name
	}
	hash := sha256.New()
	hash.Write([]byte(session + "\x00"))
	hash.Write([]byte(ctx.Param("messageId"))) // empty for most
	hash.Write(c.Body())
	k, err := models.ReserveKey(ctx.Context(), a.db, p.owner(), scope, key, hash.Sum(nil))
	if err != nil {
		a.writeError(ctx, stored(err))
		return
	}
	if k.StatusCode != nil {
		replay(c, k)
		return
	}
	next(huma.WithValue(ctx, resourceIDKey{}, k.ResourceID))
	sends, _ := ctx.Operation().Metadata[metaSends].(bool)
	a.keepAnswer(ctx.Context(), c, k, sends)
}

func plainKey(key string) bool {
	return len(key) <= 255 && strings.IndexFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// keepAnswer remembers what was answered. After a 5xx nobody knows what was done, as after a process that dies here: the
// next request with the key runs again, under the same resource ID. A refusal did nothing: the key is free again, even
// for another body, so that a client can repair what was wrong. So did a message that was one too many: later, it is another
// one with another ID, since the ID holds its time.
func (a *API) keepAnswer(ctx context.Context, c *fiber.Ctx, k *models.IdempotencyKey, sends bool) {
	var keep func(ctx context.Context) error
	switch status := c.Response().StatusCode(); {
	case status >= 500 || status == http.StatusTooManyRequests && !sends:
		keep = func(ctx context.Context) error { return models.UnlockKey(ctx, a.db, k) }
	case status >= 400:
		keep = func(ctx context.Context) error { return models.DropKey(ctx, a.db, k) }
	default:
		body, location := withoutSecrets(c.Response().Body()), string(c.Response().Header.Peek("Location"))
		keep = func(ctx context.Context) error { return models.AnswerKey(ctx, a.db, k, status, body, location) }
	}
	within := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, keepTimeout)
		defer cancel()
		return keep(ctx)
	}
	if err := within(context.WithoutCancel(ctx)); err != nil {
		a.log.Warn("answer of an idempotent request not kept yet", "error", err)
		a.keepLater(within)
	}
}

// keepLater tries until the database is back, or the key's lock is over anyway: a client that repeats its request should not
// have to wait for that.
func (a *API) keepLater(keep func(ctx context.Context) error) {
	a.done.Go(func() {
		over := time.After(models.IdempotencyLock)
		for {
			select {
			case <-time.After(keepPause):
				if keep(a.background) == nil {
					return
				}
			case <-over:
				return
			case <-a.background.Done():
				return
			}
		}
	})
}

const keepPause = 500 * time.Millisecond

func replay(c *fiber.Ctx, k *models.IdempotencyKey) {
	c.Set("Idempotency-Replayed", "true")
	c.Set("Content-Type", "application/json")
	if k.Location != nil {
		c.Set("Location", *k.Location)
	}
	c.Status(*k.StatusCode)
	c.Response().SetBody(k.Response)
}

// withoutSecrets removes secrets at the first two levels of data, where answers have them.
func withoutSecrets(body []byte) []byte {
	var answer map[string]json.RawMessage
	var data map[string]json.RawMessage
	if json.Unmarshal(body, &answer) != nil || json.Unmarshal(answer["data"], &data) != nil {
		return append([]byte(nil), body...)
	}
	strip(data)
	for name, value := range data {
		var inner map[string]json.RawMessage
		if json.Unmarshal(value, &inner) == nil && inner != nil && strip(inner) {
			data[name], _ = json.Marshal(inner)
		}
	}
	answer["data"], _ = json.Marshal(data)
	stripped, _ := json.Marshal(answer)
	return stripped
}

func strip(fields map[string]json.RawMessage) (found bool) {
	for _, name := range secretFields {
		if _, ok := fields[name]; ok {
			delete(fields, name)
			found = true
		}
	}
	return found
}
