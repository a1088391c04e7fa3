package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
)

// TicketData is a ticket for one stream.
type TicketData struct {
	Ticket    string    `json:"ticket" doc:"For ?ticket= of one request; it is used up by it" example:"kut_…"`
	ExpiresAt time.Time `json:"expiresAt" doc:"Until when the request must have come"`
}

// TicketReply answers with a ticket.
type TicketReply struct {
	CacheControl string `header:"Cache-Control"`
	Body         Body[TicketData]
}

const ticketLifetime = time.Minute

func (a *API) accountTicket(ctx context.Context, _ *struct{}) (*TicketReply, error) {
	return a.newTicket(ctx, nil)
}

func (a *API) sessionTicket(ctx context.Context, in *SessionPath) (*TicketReply, error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return a.newTicket(ctx, &s.UID)
}

func (a *API) newTicket(ctx context.Context, session *uuid.UUID) (*TicketReply, error) {
	p := callerOf(ctx)
	t := &models.StreamTicket{Grant: p.grant(), Until: p.until, Credential: p.credential}
	t.Grant.Session = session
	secret, expires, err := models.NewStreamTicket(ctx, a.db.Pool, t, ticketLifetime)
	if err != nil {
		return nil, databaseFault(err)
	}
	return &TicketReply{CacheControl: "no-store", Body: Body[TicketData]{Success: true, Data: TicketData{Ticket: secret, ExpiresAt: expires.UTC()}}}, nil
}

var errBadTicket = fault.New(fault.Unauthenticated, "invalid_ticket", "The ticket is not valid, used or expired. Get a new one.")

// byTicket uses a ticket up. Who shows it is who made it, but for one session's events if it was made for one.
func (a *API) byTicket(ctx huma.Context) (*principal, error) {
	secret := ctx.Query("ticket")
	if ticketed, _ := ctx.Operation().Metadata[metaTicket].(bool); !ticketed || secret == "" || ctx.Method() != http.MethodGet {
		return nil, errNoCredential
	}
	t, ok, err := models.TakeStreamTicket(ctx.Context(), a.db.Pool, strings.Clone(secret))
	if err != nil {
		return nil, databaseFault(err)
	} else if !ok {
		return nil, errBadTicket
	}
	user, err := a.credentials.user(ctx.Context(), t.Grant.User)
	if err != nil {
		return nil, err
	}
	p := &principal{user: user, session: t.Grant.Session, key: t.Grant.Key, version: t.Grant.Version, until: t.Until, credential: t.Credential,
		keyVersion: t.Grant.KeyVersion, scopes: []models.Scope{models.ScopeRead}}
	if t.Grant.Manage {
		p.scopes = append(p.scopes, models.ScopeManage)
	}
	if p.session != nil {
		s, err := models.SessionByUID(ctx.Context(), a.db, *p.session)
		if err := found(err, errBadTicket); err != nil {
			return nil, err
		}
		p.name = s.ID
	}
	return p, nil
}
