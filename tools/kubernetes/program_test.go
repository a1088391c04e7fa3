package kubernetes

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// variable is one that Kurir reads.
type variable struct {
	kind   string // the Go type of its field
	secret bool   // so that NAME_FILE is read too
}

// variables are all that Kurir and kurir-whatsapp read: the fields of their configurations, by their tags.
func variables(t *testing.T) map[string]variable {
	t.Helper()
	all := map[string]variable{}
	for _, file := range parsed(t, "cmd/kurir*/config.go") {
		ast.Inspect(file, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			text, err := strconv.Unquote(field.Tag.Value)
			require.NoError(t, err)
			if name := reflect.StructTag(text).Get("env"); name != "" {
				kind, _ := field.Type.(*ast.Ident)
				v := variable{secret: reflect.StructTag(text).Get("secret") != ""}
				if kind != nil {
					v.kind = kind.Name
				}
				all[name] = v
			}
			return true
		})
	}
	require.Greater(t, len(all), 50, "the configuration is somewhere else now")
	return all
}

// routes are the paths that GET serves by calls like app.Get("/health", …) and mux.HandleFunc("GET /health", …).
func routes(t *testing.T, pattern string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, file := range parsed(t, pattern) {
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 2 {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			path, isText := call.Args[0].(*ast.BasicLit)
			if !ok || !isText || path.Kind != token.STRING {
				return true
			}
			text := strings.Trim(path.Value, "`\"")
			rest, isGet := strings.CutPrefix(text, "GET ")
			if f.Sel.Name == "Get" && strings.HasPrefix(text, "/") || isGet {
				all[rest] = true
			}
			return true
		})
	}
	return all
}

// commands are what the program takes as its first words.
func commands(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, file := range parsed(t, "cmd/kurir/*.go") {
		ast.Inspect(file, func(n ast.Node) bool {
			if pair, ok := n.(*ast.KeyValueExpr); ok {
				key, _ := pair.Key.(*ast.Ident)
				use, _ := pair.Value.(*ast.BasicLit)
				if key != nil && use != nil && key.Name == "Use" {
					all[strings.Fields(strings.Trim(use.Value, `"`))[0]] = true
				}
			}
			return true
		})
	}
	return all
}

// literals are all texts in the files that match a pattern.
func literals(t *testing.T, pattern string, of *regexp.Regexp) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, file := range parsed(t, pattern) {
		ast.Inspect(file, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
				if s, err := strconv.Unquote(text.Value); err == nil && of.MatchString(s) {
					all[s] = true
				}
			}
			return true
		})
	}
	return all
}

func parsed(t *testing.T, pattern string) (files []*ast.File) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	require.NoError(t, err)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		files = append(files, file)
	}
	require.NotEmpty(t, files, "%s is gone", pattern)
	return files
}
