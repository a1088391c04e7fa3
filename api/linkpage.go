package api

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/limiter"
	"github.com/google/uuid"

	"kurir/models"
	"kurir/webhook"
)

//go:embed link
var linkFiles embed.FS

var linkTemplate = template.Must(template.ParseFS(linkFiles, "link/page.html"))

// linkAsset is a file of the page. Its address holds a digest, so that it can be kept for ever.
type linkAsset struct {
	path, contentType string
	body              []byte
}

func newLinkAsset(name, contentType string) linkAsset {
	return newAsset(linkFiles, "link", name, contentType)
}

// newAsset is a file of a page of ours, from the folder that is named as the page's path.
func newAsset(files embed.FS, folder, name, contentType string) linkAsset {
	body, err := files.ReadFile(folder + "/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	sum := sha256.Sum256(body)
	return linkAsset{path: "/" + folder + "/files/" + base64.RawURLEncoding.EncodeToString(sum[:9]) + "/" + name, contentType: contentType, body: body}
}

// linkVisits is how often an address may ask for pages and their streams, per minute and process.
const linkVisits = 120

// visitor is who asks for a page, as its limit sees him: the client behind our proxies.
func visitor(c *fiber.Ctx) string { return neighbours(addressOf(c.UserContext())) }

// linkRoutes are those of the public page.
func (a *API) linkRoutes() {
	script, style := newLinkAsset("link.js", "text/javascript; charset=utf-8"), newLinkAsset("link.css", "text/css; charset=utf-8")
	a.serveAssets(script, style)
	visits := limiter.New(limiter.Config{KeyGenerator: visitor, Max: linkVisits, Expiration: time.Minute, LimitReached: func(c *fiber.Ctx) error {
		if strings.HasSuffix(c.Path(), "/events") {
			return errTooManyStreams
		}
		words := wordsFor(nil, c.Get("Accept-Language"))
		return showLink(c, words, words.view(linkBusy), nil, script.path, style.path)
	}})
	a.app.Get(linkPath+"/:token", visits, func(c *fiber.Ctx) error {
		l, err := a.linkOf(c.UserContext(), c.Params("token"))
		if err != nil {
			return err
		}
		words := wordsFor(l, c.Get("Accept-Language"))
		v, err := viewLink(l, words, time.Now())
		if err != nil {
			return err
		}
		return showLink(c, words, v, l, script.path, style.path)
	})
	a.app.Get(linkPath+"/:token/events", visits, a.linkEvents)
}

// serveAssets serves files of pages.
func (a *API) serveAssets(files ...linkAsset) {
	for _, file := range files {
		a.app.Get(file.path, func(c *fiber.Ctx) error {
			c.Set("Content-Type", file.contentType)
			c.Set("Cache-Control", "public, max-age=31536000, immutable")
			c.Set("X-Content-Type-Options", "nosniff")
			return c.Send(file.body)
		})
	}
}

// linkOf finds a link, nil if there is none.
func (a *API) linkOf(ctx context.Context, secret string) (*models.SessionLink, error) {
	l, err := models.SessionLinkBySecret(ctx, a.db.Pool, secret)
	if ok, err := models.Found(err); err != nil {
		return nil, databaseFault(err)
	} else if !ok {
		return nil, nil
	}
	return l, nil
}

// linkPolicy lets the page load its two files, its stream and pictures in it, and be framed by nobody.
const linkPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func showLink(c *fiber.Ctx, words *linkWords, v linkView, l *models.SessionLink, script, style string) error {
	for name, value := range map[string]string{
		"Content-Security-Policy": linkPolicy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Vary": "Accept-Language", "Content-Language": words.Lang,
	} {
		c.Set(name, value)
	}
	page := map[string]any{"Words": words, "View": v, "Script": script, "Style": style, "Simulator": l != nil && l.Session.Engine == "simulator" && !v.Final}
	if !v.Final && l != nil {
		page["Events"] = linkPath + "/" + c.Params("token") + "/events"
	}
	c.Type("html", "utf-8").Status(v.status)
	return linkTemplate.Execute(c.Response().BodyWriter(), page)
}

// linkStream is an open page.
type linkStream struct {
	api    *API
	l      *listener
	secret string
	accept string // languages
}

func (a *API) linkEvents(c *fiber.Ctx) error {
	secret := strings.Clone(c.Params("token"))
	link, err := a.linkOf(c.UserContext(), secret)
	if err != nil {
		return err
	}
	s := &linkStream{api: a, secret: secret, accept: strings.Clone(c.Get("Accept-Language")), l: &listener{wake: make(chan struct{}, 1), conn: c.Context().Conn(), write: a.hub.cfg.Write}}
	credential := "no link"
	if link != nil {
		user, session := link.Session.UserID, link.Session.UID
		s.l.of = models.EventSource{User: user, Session: &session}
		s.l.types = []string{webhook.EventSessionStatus, webhook.EventSessionQR, webhook.EventSessionMigrated}
		s.l.grant = models.StreamGrant{User: user, Session: &session, Link: &link.ID}
		credential = "link:" + link.ID.String()
	}
	release, ok := a.hub.slots.take(credential, uuid.Nil)
	if !ok {
		return errTooManyStreams
	}
	c.Set("Referrer-Policy", "no-referrer")
	c.Set("X-Robots-Tag", "noindex, nofollow")
	a.stream(c, s.l, release, s.run)
	return nil
}

// run shows the page's every new view until the last. Events only say that it is time to look: a view that was missed does
// not matter.
func (s *linkStream) run(w *writer) string {
	hub := s.api.hub
	if s.l.of.Session != nil {
		if hub.enter(hub.life, s.l) != nil {
			return endShutdown
		}
		if _, err := hub.listen(hub.life, s.l, models.EventPlace{}); err != nil {
			return endDatabase
		}
	}
	shown := ""
	for {
		ended := s.l.take().ended
		if ended != "" && ended != endRevoked {
			return ended
		}
		v, err := s.look()
		if err == nil {
			state, _ := json.Marshal(v) // strings
			if frame := webhook.Frame("", "state", v); string(state) != shown {
				if !w.send(frame) {
					return endGone
				}
				shown = string(state)
			}
		}
		switch {
		case ended != "":
			return ended
		case v.Final:
			return endFinished
		}
		next := time.NewTimer(s.pause(v, err))
		select {
		case <-s.l.wake:
		case <-next.C:
			if time.Since(w.last) >= hub.cfg.Heartbeat && !w.send(webhook.Heartbeat()) {
				return endGone
			}
		}
		next.Stop()
	}
}

// pause is how long a view can be taken for granted.
func (s *linkStream) pause(v linkView, err error) time.Duration {
	if err != nil {
		return hubPause
	}
	return max(min(s.api.hub.cfg.Heartbeat, v.next), hubRound)
}

func (s *linkStream) look() (linkView, error) {
	ctx, cancel := context.WithTimeout(s.api.hub.life, hubTimeout)
	defer cancel()
	l, err := s.api.linkOf(ctx, s.secret)
	if err != nil {
		return linkView{}, err
	}
	return viewLink(l, wordsFor(l, s.accept), time.Now())
}
