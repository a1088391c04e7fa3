package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
	"kurir/wire"
)

// access is who may call a route.
type access int

const (
	accessPublic  access = iota
	accessToken          // a user with a token: API keys never reach this
	accessAccount        // a user's token or account key
	accessSession        // those, and the key of the session in question
	accessWorker         // the worker token
	accessAdmin          // an administrator with a token
)

// principal is who calls.
type principal struct {
	user    *models.User
	token   bool       // by a user's token, not by an API key
	session *uuid.UUID // of a session key: the one session that it is for
	name    string     // its public name

	key        *uuid.UUID // the API key that calls
	version    *int       // or the version of the token,
	until      *time.Time // either ends then
	credential string     // what its requests and streams count for: see docs/limits.md

	keyVersion *int           // of the key's secret
	scopes     []models.Scope // of the key
}

// grant is what must stay true for a stream of the caller to go on.
func (p *principal) grant() models.StreamGrant {
	return models.StreamGrant{User: p.user.ID, Key: p.key, Version: p.version, KeyVersion: p.keyVersion, Manage: p.key != nil && p.holds(models.ScopeManage)}
}

// owner is in whose name an Idempotency-Key is remembered.
func (p *principal) owner() uuid.UUID {
	if p.session != nil {
		return *p.session
	}
	return p.user.ID
}

type principalKey struct{}

// callerOf is the authenticated caller. Routes with access public or worker have none.
func callerOf(ctx context.Context) *principal {
	p, _ := ctx.Value(principalKey{}).(*principal)
	return p
}

// Faults of authentication.
var (
	errNoCredential = fault.New(fault.Unauthenticated, "unauthenticated", "This address needs a credential: Authorization: Bearer with a token or an API key, or X-Api-Key.")
	errBadToken     = fault.New(fault.Unauthenticated, "invalid_token", "The token is not valid, expired or revoked. Log in again.")
	errBadKey       = fault.New(fault.Unauthenticated, "invalid_api_key", "The API key is not valid.")
	errBadWorker    = fault.New(fault.Unauthenticated, wire.CodeUnauthenticated, "The worker token is missing or wrong.")
	// errContradiction: whose credential would count is nothing to guess.
	errContradiction = fault.New(fault.Unauthenticated, "unauthenticated", "The request shows credentials that contradict each other: send one.")
	errForbidden     = fault.New(fault.Forbidden, "forbidden", "This credential may not do that.")
)

// authenticate is the one layer of authentication: it finds out who calls and whether the route is for him.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	need, _ := ctx.Operation().Metadata[metaAccess].(access)
	if need == accessPublic {
		next(ctx)
		return
	}
	p, err := a.identify(ctx, need)
	if err == nil {
		err = p.may(need)
	}
	if err == nil {
		err = p.mayScope(ctx.Operation())
	}
	if err != nil {
		a.writeError(ctx, a.refusedCaller(ctx.Context(), err))
		return
	}
	if p != nil {
		setLogUser(ctx.Context(), p.user.ID)
		ctx = huma.WithValue(ctx, principalKey{}, p)
	}
	next(ctx)
}

// may decides by the kind of credential; which rows it opens is decided where they are read.
func (p *principal) may(need access) error {
	if p == nil {
		return nil // a worker
	}
	switch need {
	case accessToken:
		if !p.token {
			return errForbidden
		}
	case accessAccount:
		if p.session != nil {
			return errForbidden
		}
	case accessAdmin:
		if !p.token || p.user.Role != models.RoleAdministrator {
			return errForbidden
		}
	}
	return nil
}

// identify reads the credential. Each kind has its own form, so none is ever taken for another.
func (a *API) identify(ctx huma.Context, need access) (*principal, error) {
	bearer := bearerOf(ctx.Header("Authorization"))
	if need == accessWorker {
		token := ctx.Header(wire.HeaderToken)
		if token == "" {
			token = bearer
		}
		if token == "" || !a.isWorkerToken(token) {
			a.metrics.RegistrationRefused("wrong_token")
			return nil, errBadWorker
		}
		return nil, nil
	}
	key, others := ctx.Header("X-Api-Key"), [2]string{}
	if isAPIKey(bearer) {
		others[0], bearer = bearer, ""
	}
	if ctx.Method() == http.MethodGet && a.cfg.AllowQueryAPIKey {
		others[1] = ctx.Query("apiKey")
	}
	for _, other := range others {
		switch {
		case other == "" || other == key:
		case key == "":
			key = other
		default:
			return nil, errContradiction
		}
	}
	switch {
	case key != "" && bearer != "":
		return a.byBoth(ctx.Context(), key, bearer)
	case key != "":
		return a.credentials.byKey(ctx.Context(), key)
	case bearer != "":
		return a.byToken(ctx.Context(), bearer, audienceAPI)
	}
	return a.byTicket(ctx)
}

// byBoth is for a request with a key and a token: both must be valid and of one account, and the key, which may do less, counts.
func (a *API) byBoth(ctx context.Context, key, token string) (*principal, error) {
	p, err := a.credentials.byKey(ctx, key)
	if err != nil {
		return nil, err
	}
	other, err := a.byToken(ctx, token, audienceAPI)
	if err != nil {
		return nil, err
	}
	if other.user.ID != p.user.ID {
		return nil, errContradiction
	}
	return p, nil
}

func bearerOf(header string) string {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func isAPIKey(s string) bool { return strings.HasPrefix(s, "kur_") || strings.HasPrefix(s, "kus_") }

// claims are those of a user's token. Role and tier are for clients to read; we look the user up.
type claims struct {
	jwt.RegisteredClaims
	Email   string `json:"email"`
	Role    string `json:"role"`
	Tier    string `json:"tier"`
	Version int    `json:"ver"`
}

// Audiences keep a dashboard cookie from being used as an API token, and the other way round.
const (
	audienceAPI    = "kurir-api"
	audienceQueues = "kurir-queues"
)

func (a *API) newToken(u *models.User, audience string, lifetime time.Duration, now time.Time) (string, error) {
	return a.tokenKeys.sign(claims{
		RegisteredClaims: jwt.RegisteredClaims{Subject: u.ID.String(), ID: models.NewID().String(), Issuer: "kurir",
			Audience: jwt.ClaimStrings{audience}, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime))},
		Email: u.Email, Role: strings.ToLower(u.Role), Tier: strings.ToLower(u.Tier), Version: u.TokenVersion,
	})
}

func (a *API) byToken(ctx context.Context, token, audience string) (*principal, error) {
	var c claims
	_, err := jwt.ParseWithClaims(token, &c, a.tokenKeys.verifies,
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithIssuer("kurir"), jwt.WithAudience(audience))
	if err != nil {
		return nil, errBadToken.WithCause(err)
	}
	id, err := uuid.Parse(c.Subject)
	if err != nil {
		return nil, errBadToken.WithCause(err)
	}
	user, err := a.credentials.user(ctx, id)
	if err != nil {
		return nil, err
	}
	if user.TokenVersion != c.Version {
		return nil, errBadToken.WithCause(errors.New("revoked"))
	}
	return &principal{user: user, token: true, version: &user.TokenVersion, until: &c.ExpiresAt.Time, credential: "token:" + id.String()}, nil
}
