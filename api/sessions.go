package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"
	"github.com/skip2/go-qrcode"

	"kurir/fault"
	"kurir/jobs"
	"kurir/limits"
	"kurir/message"
	"kurir/models"
)

// SessionResource is a session as its tenant sees it.
type SessionResource struct {
	ID          string          `json:"id" example:"shop"`
	Name        string          `json:"name" example:"Shop"`
	Status      string          `json:"status" enum:"initializing,qr_required,connected,disconnected,reconnecting,error" doc:"What is"`
	Desired     string          `json:"desired" enum:"running,stopped,logged_out,deleted" doc:"What should be"`
	Reason      *string         `json:"reason" doc:"Why it is not connected"`
	PhoneNumber *string         `json:"phoneNumber" doc:"The number that is linked; null before that, and after a log-out" example:"+6281234567890"`
	WorkerID    *string         `json:"workerId" example:"worker-001"`
	Engine      string          `json:"engine" doc:"simulator or whatsapp" example:"simulator"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	Settings    SettingsInUse   `json:"settings"`
	Proxy       *string         `json:"proxy" doc:"By way of which it reaches WhatsApp, with *** for user name and password; null: none" example:"socks5://***@proxy.example.com:1080"`
	Sending     Sending         `json:"sending"`
	LinkedAt    *time.Time      `json:"linkedAt"`
	LastSeenAt  *time.Time      `json:"lastSeenAt"`
	CreatedAt   time.Time       `json:"createdAt"`
	UpdatedAt   time.Time       `json:"updatedAt"`
}

func (a *API) sessionResource(s *models.Session) SessionResource {
	return SessionResource{ID: s.ID, Name: s.Name, Status: models.SessionStatusName(s.Status), Desired: strings.ToLower(s.Desired), Reason: s.Reason,
		PhoneNumber: s.LinkedNumber(), WorkerID: s.WorkerID, Engine: s.Engine, Metadata: s.Metadata, Settings: settingsInUse(s), Proxy: a.shownProxy(s), Sending: sendingOf(s, time.Now()), LinkedAt: utc(s.LinkedAt),
		LastSeenAt: utc(s.LastSeenAt), CreatedAt: s.CreatedAt.UTC(), UpdatedAt: s.UpdatedAt.UTC()}
}

// ownSession finds the session of a path for the caller: another tenant's is absent, and so is every session but its own
// for a session key.
func (a *API) ownSession(ctx context.Context, id string) (*models.Session, error) {
	p := callerOf(ctx)
	if p.session != nil && p.name != id {
		return nil, models.ErrGone
	}
	s, err := models.SessionOf(ctx, a.db, p.user.ID, id)
	if err := found(err, models.ErrGone); err != nil {
		return nil, err
	}
	if p.session != nil && *p.session != s.UID {
		return nil, models.ErrGone // the name was taken anew, the key is the former session's
	}
	noteSession(ctx, s.UID)
	return s, nil
}

// CreateSessionInput makes a session.
type CreateSessionInput struct {
	Prefer string `header:"Prefer" doc:"wait=N, up to 30: answer when there is a QR code, or the session is connected" example:"wait=10"`
	OnceHeader
	Body struct {
		Name      string          `json:"name" minLength:"1" maxLength:"100" example:"Shop"`
		SessionID string          `json:"sessionId,omitempty" maxLength:"64" doc:"Letters, digits, - and _; unique on the whole installation. Left out: we make one" example:"shop"`
		Webhook   *WebhookFields  `json:"webhook,omitempty"`
		Metadata  json.RawMessage `json:"metadata,omitempty" doc:"A JSON object of yours, up to 1 KB"`
		Proxy     ProxyChange     `json:"proxy,omitempty"`
	}
}

// CreatedSession is a new session with its key.
type CreatedSession struct {
	SessionID string           `json:"sessionId" example:"shop"`
	APIKey    string           `json:"apiKey,omitempty" doc:"The session's API key, shown this once, to who may send and read himself: an API key that lacks the scope send or read gets none"`
	JobID     string           `json:"jobId" format:"uuid"`
	Webhook   *WebhookResource `json:"webhook,omitempty"`
	SessionResource
}

var sessionName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

func (a *API) createSession(ctx context.Context, in *CreateSessionInput) (*Started[CreatedSession], error) {
	user := callerOf(ctx).user
	if in.Body.SessionID == "" {
		in.Body.SessionID = "s-" + strings.ToLower(rand.Text()[:16])
	}
	if !sessionName.MatchString(in.Body.SessionID) {
		return nil, fault.Field("sessionId", "expected 1 to 64 letters, digits, - and _, beginning with a letter or a digit")
	}
	if strings.TrimSpace(in.Body.Name) == "" {
		return nil, fault.Field("name", "expected a name")
	}
	metadata, err := parseObject("metadata", in.Body.Metadata, maxMetadata)
	if err != nil {
		return nil, err
	}
	if hook := in.Body.Webhook; hook != nil {
		if err := a.checkWebhook(hook); err != nil {
			return nil, inside("webhook", err)
		}
	}
	proxy, err := a.sealed(in.Body.Proxy)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &models.Session{UID: newResourceID(ctx), ID: in.Body.SessionID, UserID: user.ID, Name: in.Body.Name, Metadata: metadata, Proxy: proxy, CreatedAt: now, UpdatedAt: now}
	key, keyRow := models.NewAPIKey(user.ID, &s.UID, "Session key of "+s.ID, now)
	job := &models.Job{ID: models.NewID(), Kind: jobs.KindCreateSession, UserID: &user.ID, SessionUID: &s.UID}
	answer := CreatedSession{SessionID: s.ID}
	if callerOf(ctx).mayHand() == nil {
		answer.APIKey = key
	}
	tell(ctx, func(line *models.Audit) { line.Session = s.ID })
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error {
		former, err := models.SessionByUID(ctx, tx, s.UID)
		if ok, err := models.Found(err); err != nil {
			return err
		} else if ok { // the first request with this Idempotency-Key died after its commit
			tellNothing(ctx)
			*s, answer.APIKey = *former, ""
			job, err = models.FirstJobOf(ctx, tx, s.UID, jobs.KindCreateSession)
			return err
		}
		return a.insertSession(ctx, tx, s, keyRow, job, in.Body.Webhook, &answer)
	})
	if fault.Is(err, models.ErrSessionLimit.Code) {
		a.metrics.RateLimited(limits.OfSessions)
		a.limitReached(user, limits.OfSessions)
	}
	if err != nil {
		return nil, stored(err)
	}
	a.queue.StartJob(ctx, job.Kind, job.ID)
	answer.JobID, answer.SessionResource = job.ID.String(), a.sessionResource(s)
	wait := waitOf(in.Prefer)
	ready := false
	if wait > 0 {
		if ready, err = a.waitForSession(ctx, s.UID, wait, &answer.SessionResource); err != nil {
			return nil, databaseFault(err)
		}
	}
	status := http.StatusAccepted
	if ready {
		status = http.StatusOK
	}
	return started(status, job.ID, applied(wait), answer), nil
}

func (a *API) insertSession(ctx context.Context, tx models.Tx, s *models.Session, key *models.APIKey, job *models.Job, hook *WebhookFields, answer *CreatedSession) error {
	if err := models.CreateSession(ctx, tx, s, a.cfg.Tiers); err != nil {
		return err
	}
	if err := models.InsertAPIKey(ctx, tx, key); err != nil {
		return err
	}
	if hook != nil {
		w, secret, err := a.saveWebhook(ctx, tx, models.HookOwner{User: s.UserID, Session: s.UID}, hook)
		if err != nil {
			return err
		}
		resource := webhookResource(w, s.ID, secret)
		answer.Webhook = &resource
	}
	return models.InsertJob(ctx, tx, job)
}

// waitForSession waits for a QR code or a connection.
func (a *API) waitForSession(ctx context.Context, uid uuid.UUID, wait time.Duration, into *SessionResource) (bool, error) {
	return a.waiter.until(ctx, callerOf(ctx).user.ID, wait, func() (bool, error) {
		s, err := models.SessionByUID(ctx, a.db, uid)
		if err != nil {
			return false, err
		}
		*into = a.sessionResource(s)
		return s.Status == models.SessionConnected || s.Status == models.SessionQRRequired && s.QRCode != nil || s.Status == models.SessionError, nil
	})
}

// maxMetadata is in bytes.
const maxMetadata = 1024

// parseObject checks an object of the client's.
func parseObject(field string, m json.RawMessage, limit int) (json.RawMessage, error) {
	if m == nil {
		return nil, nil
	}
	object, err := message.Object(m, limit)
	if err != nil {
		return nil, fault.Field(field, err.Error())
	}
	return object, nil
}

// SessionList is a page of sessions.
type SessionList struct {
	Sessions   []SessionResource `json:"sessions"`
	NextCursor *string           `json:"nextCursor"`
}

func (a *API) listSessions(ctx context.Context, in *Page) (*Reply[SessionList], error) {
	before, err := in.after()
	if err != nil {
		return nil, err
	}
	rows, err := models.SessionsOf(ctx, a.db, callerOf(ctx).user.ID, before, in.Limit+1)
	if err != nil {
		return nil, databaseFault(err)
	}
	list := SessionList{Sessions: []SessionResource{}}
	page := first(rows, in.Limit)
	for i := range page {
		list.Sessions = append(list.Sessions, a.sessionResource(&page[i]))
	}
	if len(page) > 0 {
		list.NextCursor = in.next(len(rows), page[len(page)-1].UID)
	}
	return reply(list), nil
}

func (a *API) getSession(ctx context.Context, in *SessionPath) (*Reply[SessionResource], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return reply(a.sessionResource(s)), nil
}

// DeletedSession answers a deletion.
type DeletedSession struct {
	ID     string `json:"id"`
	JobID  string `json:"jobId" format:"uuid"`
	Status string `json:"status" enum:"deleting"`
}

func (a *API) deleteSession(ctx context.Context, in *SessionPath) (*Started[DeletedSession], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	user := callerOf(ctx).user.ID
	job := &models.Job{ID: models.NewID(), Kind: jobs.KindDeleteSession, UserID: &user, SessionUID: &s.UID, WorkerID: s.WorkerID}
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error {
		ok, err := models.DeleteSession(ctx, tx, s.UID)
		if err == nil && !ok {
			err = models.ErrGone // somebody else was quicker
		}
		if err != nil {
			return err
		}
		return models.InsertJob(ctx, tx, job)
	})
	if err != nil {
		return nil, stored(err)
	}
	a.credentials.changed(s.UserID)
	a.queue.StartJob(ctx, job.Kind, job.ID)
	return started(http.StatusAccepted, job.ID, "", DeletedSession{ID: s.ID, JobID: job.ID.String(), Status: "deleting"}), nil
}

// SessionStatus is how a session is.
type SessionStatus struct {
	ID          string    `json:"id"`
	SessionID   string    `json:"sessionId"`
	Status      string    `json:"status" enum:"initializing,qr_required,connected,disconnected,reconnecting,error"`
	Reason      *string   `json:"reason"`
	PhoneNumber *string   `json:"phoneNumber" doc:"The number that is linked; null before that, and after a log-out"`
	Source      string    `json:"source" enum:"worker,database" doc:"worker: asked just now; database: the last known, because the worker did not answer"`
	AsOf        time.Time `json:"asOf"`
}

const statusTimeout = 3 * time.Second

func (a *API) sessionStatus(ctx context.Context, in *SessionPath) (*Reply[SessionStatus], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	answer := SessionStatus{ID: s.ID, SessionID: s.ID, Status: models.SessionStatusName(s.Status), Reason: s.Reason, PhoneNumber: s.LinkedNumber(),
		Source: "database", AsOf: s.UpdatedAt.UTC()}
	if s.WorkerID == nil {
		return reply(answer), nil
	}
	worker, err := a.workers.Of(ctx, *s.WorkerID)
	if err != nil {
		return reply(answer), nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if live, err := worker.Status(ctx, s.UID.String()); err == nil && live.Epoch == s.Epoch {
		answer.Status, answer.Reason, answer.Source, answer.AsOf = live.Status, nil, "worker", time.Now().UTC()
		if live.Reason != "" {
			answer.Reason = &live.Reason
		}
		if live.PhoneNumber != "" {
			answer.PhoneNumber = &live.PhoneNumber
		}
	}
	return reply(answer), nil
}

// QRInput asks for the QR code.
type QRInput struct {
	SessionPath
	Accept string `header:"Accept" doc:"image/png for the picture, else JSON"`
}

// QRData is the QR code as JSON.
type QRData struct {
	SessionID string    `json:"sessionId"`
	QRCode    string    `json:"qrCode" doc:"The picture as data:image/png;base64,..."`
	QR        string    `json:"qr" doc:"The text that the picture encodes"`
	ExpiresAt time.Time `json:"expiresAt"`
}

var (
	errQRNotReady    = fault.New(fault.Conflict, "qr_not_ready", "There is no QR code yet. Try again in a moment.").After(time.Second)
	errQRNeedsStart  = fault.New(fault.Conflict, errQRNotReady.Code, "The session is stopped or logged out. Start it to get a QR code.")
	errAlreadyLinked = fault.New(fault.Conflict, "already_linked", "The session is linked to a phone already.")
	errOnTheMove     = fault.New(fault.Unavailable, models.ErrMigrating.Code, "The session is moving to another worker. Try again in a moment.").After(2 * time.Second)
)

// onTheMove refuses what only a worker can do while no worker holds the session.
func onTheMove(s *models.Session) error {
	if s.WorkerID == nil || s.Reason != nil && *s.Reason == "migrating" {
		return errOnTheMove
	}
	return nil
}

// toBeLinked refuses what leads to a linked phone where that is done, or nobody is at it.
func toBeLinked(s *models.Session) error {
	if s.Desired != models.DesiredRunning {
		return errQRNeedsStart
	}
	if err := onTheMove(s); err != nil {
		return err
	}
	if s.Status == models.SessionConnected || s.Status == models.SessionReconnecting && s.LinkedAt != nil {
		return errAlreadyLinked
	}
	return nil
}

const qrPixels = 320

func (a *API) sessionQR(ctx context.Context, in *QRInput) (*huma.StreamResponse, error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := toBeLinked(s); err != nil {
		return nil, err
	}
	if s.QRCode == nil || s.QRExpiresAt == nil || s.QRExpiresAt.Before(time.Now()) {
		return nil, errQRNotReady
	}
	png, err := qrcode.Encode(*s.QRCode, qrcode.Medium, qrPixels)
	if err != nil {
		return nil, err
	}
	body, contentType := png, "image/png"
	if !strings.Contains(in.Accept, "image/png") {
		contentType = "application/json"
		if body, err = json.Marshal(Body[QRData]{Success: true, Data: QRData{SessionID: s.ID, QR: *s.QRCode, ExpiresAt: s.QRExpiresAt.UTC(),
			QRCode: "data:image/png;base64," + base64.StdEncoding.EncodeToString(png)}}); err != nil {
			return nil, err
		}
	}
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		ctx.SetHeader("Content-Type", contentType)
		ctx.SetHeader("Cache-Control", "no-store")
		_, _ = bytes.NewReader(body).WriteTo(ctx.BodyWriter())
	}}, nil
}

// qrResponses documents what sessionQR answers.
func qrResponses(o *huma.Operation) {
	o.Responses = map[string]*huma.Response{"200": {Description: "The QR code", Content: map[string]*huma.MediaType{
		"image/png":        {Schema: &huma.Schema{Type: "string", Format: "binary"}},
		"application/json": {Example: map[string]any{"success": true, "data": map[string]any{"sessionId": "shop", "qrCode": "data:image/png;base64,iVBORw0…", "qr": "2@abc", "expiresAt": "2026-01-01T00:00:20Z"}}},
	}}}
}

// RotatedKey is a session's new key.
type RotatedKey struct {
	SessionID string `json:"sessionId"`
	APIKey    string `json:"apiKey" doc:"The new key, shown this once. The former one is no longer valid"`
}

func (a *API) rotateSessionKey(ctx context.Context, in *SessionPath) (*Reply[RotatedKey], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := callerOf(ctx).mayHand(); err != nil {
		return nil, err
	}
	key, row := models.NewAPIKey(s.UserID, &s.UID, "Session key of "+s.ID, time.Now())
	err = a.db.InTx(ctx, func(ctx context.Context, tx models.Tx) error {
		if err := models.DeactivateSessionKeys(ctx, tx, s.UID); err != nil {
			return err
		}
		if err := models.InsertAPIKey(ctx, tx, row); err != nil {
			if models.IsUnique(err, "api_keys_session_key") {
				return models.ErrRotationUnderWay
			}
			return err
		}
		return nil
	})
	if err != nil {
		return nil, stored(err)
	}
	a.credentials.changed(s.UserID)
	return reply(RotatedKey{SessionID: s.ID, APIKey: key}), nil
}
