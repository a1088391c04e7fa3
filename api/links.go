package api

import (
	"context"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"

	"kurir/fault"
	"kurir/models"
)

// LinkInput makes a session's public page.
type LinkInput struct {
	SessionPath
	Body *LinkFields

	base string // how the client calls us
}

// LinkFields say what the page should be like. The body may be left out.
type LinkFields struct {
	ExpiresIn int    `json:"expiresIn,omitempty" minimum:"60" maximum:"86400" default:"900" doc:"Seconds until the page shows nothing any more" example:"900"`
	Language  string `json:"language,omitempty" enum:"en,id" doc:"Of the page. Left out: as the browser asks for" example:"en"`
}

// Resolve notes the address by which the client reaches us.
func (in *LinkInput) Resolve(ctx huma.Context) []error {
	in.base = strings.Clone(humafiber.Unwrap(ctx).BaseURL())
	return nil
}

// LinkData is a session's public page.
type LinkData struct {
	URL       string    `json:"url" format:"uri" doc:"For whoever has the phone; who has it sees the QR code. Shown this once" example:"https://kurir.example.com/link/kul_…"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// LinkReply answers with a session's public page.
type LinkReply struct {
	CacheControl string `header:"Cache-Control"`
	Body         Body[LinkData]
}

const (
	linkPath     = "/link"
	linkLifetime = 15 * time.Minute
)

var errNoLink = fault.New(fault.NotFound, "link_not_found", "The session has no link.")

func (a *API) createLink(ctx context.Context, in *LinkInput) (*LinkReply, error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	lifetime, language := linkLifetime, (*string)(nil)
	if in.Body != nil {
		if in.Body.ExpiresIn > 0 {
			lifetime = time.Duration(in.Body.ExpiresIn) * time.Second
		}
		if in.Body.Language != "" {
			language = &in.Body.Language
		}
	}
	secret, expires, err := models.NewSessionLink(ctx, a.db.Pool, s.UID, language, lifetime)
	if err := found(err, errAlreadyLinked); err != nil {
		return nil, err
	}
	a.hub.credentialsChanged() // pages of a former link end
	base := strings.TrimSuffix(a.cfg.PublicURL, "/")
	if base == "" {
		base = in.base
	}
	return &LinkReply{CacheControl: "no-store", Body: Body[LinkData]{Success: true, Data: LinkData{URL: base + linkPath + "/" + secret, ExpiresAt: expires.UTC()}}}, nil
}

func (a *API) deleteLink(ctx context.Context, in *SessionPath) (*Reply[Done], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	ended, err := models.EndSessionLink(ctx, a.db.Pool, s.UID)
	switch {
	case err != nil:
		return nil, databaseFault(err)
	case !ended:
		return nil, errNoLink
	}
	a.hub.credentialsChanged()
	return reply(Done{Message: "The link shows nothing any more."}), nil
}
