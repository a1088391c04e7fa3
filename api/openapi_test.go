package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"kurir/api"
	"kurir/models"
)

// described is the document, without a server.
func described(t testing.TB) *document {
	t.Helper()
	d := &document{}
	require.NoError(t, json.Unmarshal(api.Document("test"), &d.all))
	return d
}

// checker compiles schemas of the document.
func (d *document) checker(t testing.TB) *jsonschema.Compiler {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	require.NoError(t, c.AddResource("openapi.json", d.all))
	return c
}

// each calls f with every operation, and what to call it in a message.
func (d *document) each(f func(what string, o map[string]any)) {
	for path, item := range d.all["paths"].(map[string]any) {
		for method, o := range item.(map[string]any) {
			f(strings.ToUpper(method)+" "+path, o.(map[string]any))
		}
	}
}

// The document is OpenAPI 3.1, by OpenAPI's own schema, and each schema in it is JSON Schema.
func TestDocumentIsOpenAPI(t *testing.T) {
	t.Parallel()
	d := described(t)
	file, err := os.Open("testdata/openapi-3.1.schema.json")
	require.NoError(t, err)
	defer file.Close()
	official, err := jsonschema.UnmarshalJSON(file)
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("https://spec.openapis.org/oas/3.1/schema/2022-10-07", official))
	schema, err := c.Compile("https://spec.openapis.org/oas/3.1/schema/2022-10-07")
	require.NoError(t, err)
	require.NoError(t, schema.Validate(d.all))
	own := d.checker(t)
	for name := range d.all["components"].(map[string]any)["schemas"].(map[string]any) {
		_, err := own.Compile("openapi.json#/components/schemas/" + name)
		require.NoError(t, err, name)
	}
}

// What answers carry beside their bodies is told: when to try again, and whether an answer is an old one.
func TestHeadersOfAnswersAreDescribed(t *testing.T) {
	t.Parallel()
	d := described(t)
	conflict := dig(d.all, "components", "responses", "Conflict", "headers", "Retry-After", "description")
	for _, code := range []string{"idempotency_in_progress", "qr_not_ready", "session_logging_out"} {
		require.Contains(t, conflict, "`"+code+"`")
	}
	require.NotContains(t, conflict, "email_taken")
	d.each(func(what string, o map[string]any) {
		takesKey := false
		parameters, _ := o["parameters"].([]any)
		for _, p := range parameters {
			takesKey = takesKey || p.(map[string]any)["name"] == "Idempotency-Key"
		}
		for status, response := range o["responses"].(map[string]any) {
			if strings.HasPrefix(status, "2") {
				require.Equal(t, takesKey, dig(response, "headers", "Idempotency-Replayed") != nil, "%s %s", what, status)
			}
		}
	})
	require.NotEmpty(t, dig(d.all, "components", "schemas", "SentData", "properties", "status", "enum"))
}

// A list is a list: null in its place would have every client ask. Workers may say null for what they do not know.
func TestListsAreNotNull(t *testing.T) {
	t.Parallel()
	var null []string
	var walk func(at string, value any)
	walk = func(at string, value any) {
		switch v := value.(type) {
		case map[string]any:
			if types, _ := v["type"].([]any); slices.Contains(types, any("array")) {
				null = append(null, at)
			}
			for name, inner := range v {
				walk(at+"/"+name, inner)
			}
		case []any:
			for i, inner := range v {
				walk(at+"/"+strconv.Itoa(i), inner)
			}
		}
	}
	walk("", described(t).all)
	require.ElementsMatch(t, []string{"/components/schemas/HeartbeatInputBody/properties/sessions", "/components/schemas/EventsInputBody/properties/events"}, null)
}

// Each body has examples, and they fit.
func TestExamplesFit(t *testing.T) {
	t.Parallel()
	d := described(t)
	c := d.checker(t)
	fit := func(at string, media map[string]any, what string) {
		schema, err := c.Compile("openapi.json#" + at + "/schema")
		require.NoError(t, err, what)
		var all []any
		if example, ok := media["example"]; ok {
			all = append(all, example)
		}
		examples, _ := media["examples"].(map[string]any)
		for _, example := range examples {
			all = append(all, example.(map[string]any)["value"])
		}
		if len(all) == 0 {
			t.Errorf("%s has no example", what)
		}
		for _, example := range all {
			if err := schema.Validate(example); err != nil {
				t.Errorf("%s: its example %s does not fit: %v", what, mustJSON(t, example), err)
			}
		}
	}
	bodies := func(of map[string]any, at, what string) {
		content, _ := of["content"].(map[string]any)
		if media, ok := content["application/json"].(map[string]any); ok {
			fit(at+"/content/application~1json", media, what)
		}
	}
	for _, kind := range []string{"paths", "webhooks"} {
		for path, item := range d.all[kind].(map[string]any) {
			for method, raw := range item.(map[string]any) {
				o, what := raw.(map[string]any), strings.ToUpper(method)+" "+path
				at := "/" + kind + "/" + strings.ReplaceAll(path, "/", "~1") + "/" + method
				if body, ok := o["requestBody"].(map[string]any); ok {
					bodies(body, at+"/requestBody", what)
				}
				for status, response := range o["responses"].(map[string]any) {
					if status < "400" {
						bodies(response.(map[string]any), at+"/responses/"+status, what+" "+status)
					}
				}
			}
		}
	}
	for name, response := range d.all["components"].(map[string]any)["responses"].(map[string]any) {
		bodies(response.(map[string]any), "/components/responses/"+name, name)
	}
}

// What is said of security is what the matrix of callers finds.
func TestSecurityIsDescribed(t *testing.T) {
	t.Parallel()
	described(t).each(func(what string, o map[string]any) {
		row, schemes := matrix[o["operationId"].(string)], map[string]bool{}
		for _, alternative := range o["security"].([]any) {
			for name := range alternative.(map[string]any) {
				schemes[name] = true
			}
		}
		let := func(caller string) bool { return strings.ContainsRune("+4", rune(row[slices.Index(callers, caller)])) }
		if let("nobody") {
			require.Empty(t, schemes, what)
			return
		}
		require.Equal(t, strings.HasPrefix(what, "GET ") && schemes["apiKey"], schemes["apiKeyInAddress"], what)
		delete(schemes, "apiKeyInAddress")
		delete(schemes, "ticket")
		wanted := map[string]bool{}
		if let("worker") {
			wanted["workerToken"] = true
		} else if let("admin") || let("token") || o["operationId"] == "send-by-key" {
			wanted["token"] = true
		}
		if let("account key") || let("session key") {
			wanted["apiKey"] = true
		}
		require.Equal(t, wanted, schemes, what)
	})
}

// Names that clients and their generators hang on are there, unlike, and in one form; what is asked for is told, with its limits.
func TestOperationsAreDescribed(t *testing.T) {
	t.Parallel()
	d := described(t)
	tags := map[string]bool{}
	for _, tag := range d.all["tags"].([]any) {
		tags[tag.(map[string]any)["name"].(string)] = true
	}
	d.each(func(what string, o map[string]any) {
		require.Regexp(t, `^[a-z]+(-[a-z]+)*$`, o["operationId"], what)
		require.Regexp(t, `^[A-Z].*[^.]$`, o["summary"], what)
		require.Regexp(t, `\.\)?$`, o["description"], what)
		for _, tag := range o["tags"].([]any) {
			require.True(t, tags[tag.(string)], "%s: the tag %s is not explained", what, tag)
		}
		parameters, _ := o["parameters"].([]any)
		for _, raw := range parameters {
			p := raw.(map[string]any)
			name, schema := fmt.Sprintf("%s of %s", p["name"], what), d.resolve(p["schema"].(map[string]any))
			require.NotEmpty(t, p["description"], name)
			require.False(t, nullable(schema), "%s cannot be null in an address or header", name)
			if p["in"] == "header" && p["name"] != "Idempotency-Key" {
				continue // all headers together are bounded: 431
			}
			if schema["enum"] != nil || schema["format"] == "date-time" || schema["format"] == "uuid" {
				continue
			}
			limit := map[string]string{"string": "maxLength", "integer": "maximum", "array": "maxItems", "boolean": "type"}[typeOf(schema)]
			require.Contains(t, schema, limit, name)
		}
	})
}

// Every code of docs/errors.md that the API answers with is said of an operation, with its status, or of what is none.
func TestCodesAreDescribed(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/errors.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(raw), "## Answers of the API")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([0-9, ]+) \\|").FindAllStringSubmatch(section, -1) {
		documented[m[1]] = strings.Split(m[2], ", ")
	}
	found := map[string][]string{}
	for _, response := range described(t).all["components"].(map[string]any)["responses"].(map[string]any) {
		for code, example := range response.(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)["examples"].(map[string]any) {
			require.Equal(t, code, example.(map[string]any)["value"].(map[string]any)["code"])
			found[code] = append(found[code], statusNamed(response.(map[string]any)["description"].(string)))
			slices.Sort(found[code])
		}
	}
	require.Equal(t, documented, found)
}

// Nothing in the document looks like a secret that somebody uses.
func TestDocumentHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	text := string(api.Document("test"))
	for _, word := range regexp.MustCompile(`[\w-]+`).FindAllString(text, -1) {
		require.False(t, models.LooksLikeKey(word), word)
	}
	require.NotRegexp(t, `eyJ[\w-]+\.eyJ`, text)
	for _, secret := range regexp.MustCompile(`whsec_[\w+/=]+`).FindAllString(text, -1) {
		require.Equal(t, "whsec_dGhpcy1pcy1vbmx5LWFuLWV4YW1wbGUh", secret, "it says itself that it is an example")
	}
}

// statusNamed is 404 for Not Found.
func statusNamed(text string) string {
	for status := 400; status < 600; status++ {
		if http.StatusText(status) == text {
			return strconv.Itoa(status)
		}
	}
	return text
}
