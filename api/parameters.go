package api

import (
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/valyala/fasthttp"

	"kurir/fault"
)

// maxWrongParameters bounds an answer.
const maxWrongParameters = 10

// knownParameters turns away parameters of the address that the operation does not have, or that stand there twice, of which only
// the first would be read: a filter that nobody looks at answers everything, and cancels everything. Workers may say more than
// this gateway knows: theirs can be newer. What is no operation (health, metrics, pages) is asked by probes and
// browsers, which append what they like.
func (a *API) knownParameters(ctx huma.Context, next func(huma.Context)) {
	need, _ := ctx.Operation().Metadata[metaAccess].(access)
	arguments := humafiber.Unwrap(ctx).Context().QueryArgs()
	if need == accessWorker || arguments.Len() == 0 {
		next(ctx)
		return
	}
	known := a.parametersOf(ctx.Operation())
	var seen []string
	var wrong []fault.Detail
	for key, value := range arguments.All() {
		name := string(key)
		switch {
		case len(key)+len(value) == 0 || len(wrong) == maxWrongParameters:
		case !slices.Contains(known, name):
			wrong = append(wrong, fault.Detail{Field: short(name), Message: unknownParameter(known)})
		case slices.Contains(seen, name):
			wrong = append(wrong, fault.Detail{Field: name, Message: "this parameter stands there twice; where several values are taken, commas go between them"})
		default:
			seen = append(seen, name)
		}
	}
	if len(wrong) > 0 {
		f := fault.Field(wrong[0].Field, wrong[0].Message)
		f.Details = wrong
		a.writeError(ctx, f)
		return
	}
	spellWords(ctx.Operation(), arguments)
	next(ctx)
}

// spellWords writes words of a filter as the operation does, however they were: tiers and statuses are in upper case elsewhere. What
// has digits in it is no word: in 24h the letter is a unit.
func spellWords(o *huma.Operation, arguments *fasthttp.Args) {
	for _, p := range o.Parameters {
		if p.In != "query" || p.Schema == nil || !arguments.Has(p.Name) {
			continue
		}
		words := p.Schema.Enum
		if p.Schema.Items != nil {
			words = p.Schema.Items.Enum
		}
		given := strings.Split(string(arguments.Peek(p.Name)), ",")
		for i, word := range given {
			at := slices.IndexFunc(words, func(known any) bool {
				text, _ := known.(string)
				return strings.EqualFold(text, word) && !strings.ContainsAny(text, "0123456789")
			})
			if at >= 0 {
				given[i], _ = words[at].(string)
			}
		}
		if len(words) > 0 {
			arguments.Set(p.Name, strings.Join(given, ","))
		}
	}
}

// parametersOf are the names that an operation takes in its address, credentials among them.
func (a *API) parametersOf(o *huma.Operation) []string {
	var names []string
	for _, p := range o.Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	if ticketed, _ := o.Metadata[metaTicket].(bool); ticketed {
		names = append(names, "ticket")
	}
	if a.cfg.AllowQueryAPIKey && slices.ContainsFunc(o.Security, func(s map[string][]string) bool { _, ok := s[queryKey]; return ok }) {
		names = append(names, "apiKey")
	}
	return names
}

func unknownParameter(known []string) string {
	if len(known) == 0 {
		return "there is no such parameter: this address takes none"
	}
	return "there is no such parameter: this address takes " + strings.Join(known, ", ")
}
