package api

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"kurir/fault"
	"kurir/models"
)

const metaScope = "scope"

// anyScope is of routes that every account key may use, whatever its scopes: they tell a client how its own call went.
const anyScope models.Scope = "any"

// Scopes of routes, where they are not what the method says: GET reads, all others manage.
func sends(o *huma.Operation)     { o.Metadata[metaScope] = models.ScopeSend }
func reads(o *huma.Operation)     { o.Metadata[metaScope] = models.ScopeRead }
func manages(o *huma.Operation)   { o.Metadata[metaScope] = models.ScopeManage }
func anyScopes(o *huma.Operation) { o.Metadata[metaScope] = anyScope }

// scoped fills in the scope of a route that account keys may use, and tells of it in the documentation.
func scoped(o *huma.Operation, need access) {
	if need != accessAccount && need != accessSession {
		return
	}
	scope, ok := o.Metadata[metaScope].(models.Scope)
	if !ok {
		scope = models.ScopeManage
		if o.Method == http.MethodGet {
			scope = models.ScopeRead
		}
		o.Metadata[metaScope] = scope
	}
	if scope == anyScope {
		o.Description += "\n\nAn account's API key needs no particular scope."
		return
	}
	o.Description += fmt.Sprintf("\n\nAn account's API key needs the scope `%s`.", scope)
	security := make([]map[string][]string, len(o.Security))
	for i, alternative := range o.Security {
		security[i] = alternative
		if _, ok := alternative["apiKey"]; ok {
			security[i] = map[string][]string{"apiKey": {string(scope)}}
		}
	}
	o.Security = security
}

var errMissingScope = fault.New(fault.Forbidden, "missing_scope", "This API key lacks the scope that this address needs.")

// mayScope decides by the scopes of an API key. A route that says nothing of them is open to none.
func (p *principal) mayScope(o *huma.Operation) error {
	if p == nil || p.key == nil {
		return nil
	}
	scope, _ := o.Metadata[metaScope].(models.Scope)
	if scope == anyScope || p.holds(scope) {
		return nil
	}
	return missing(scope)
}

// missing tells a key which scope it lacks.
func missing(scope models.Scope) error {
	f := *errMissingScope
	f.Sentence = fmt.Sprintf("This API key lacks the scope %s, which this address needs. The account's owner can give it to the key, or use another one.", scope)
	f.Details = []fault.Detail{{Field: "scope", Message: string(scope)}}
	return &f
}

// mayHand decides whether the caller can be given the key of a session, which sends and reads: nobody gets from us what he may
// not do himself.
func (p *principal) mayHand() error {
	for _, scope := range []models.Scope{models.ScopeSend, models.ScopeRead} {
		if !p.holds(scope) {
			return missing(scope)
		}
	}
	return nil
}

// holds reports whether the caller may do what a scope stands for. Only API keys have scopes.
func (p *principal) holds(scope models.Scope) bool {
	return p.key == nil || slices.Contains(p.scopes, scope)
}
