package api_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sources parses the files of a package, without its tests.
func sources(t *testing.T, folder string) (files []*ast.File, text string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", folder, "*.go"))
	require.NoError(t, err)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		raw, err := os.ReadFile(name)
		require.NoError(t, err)
		files, text = append(files, f), text+string(raw)
	}
	require.NotEmpty(t, files, folder)
	return files, text
}

func literal(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		text, _ := strconv.Unquote(lit.Value)
		return text
	}
	return ""
}

func calls(n *ast.CallExpr, pkg, name string) bool {
	called, ok := n.Fun.(*ast.SelectorExpr)
	if !ok || called.Sel.Name != name {
		return false
	}
	of, ok := called.X.(*ast.Ident)
	return ok && of.Name == pkg
}

// codesInSource finds every code that the code base can produce.
func codesInSource(t *testing.T) []string {
	wireCodes := map[string]string{} // name of the constant -> code
	files, _ := sources(t, "wire")
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Code") {
				wireCodes[spec.Names[0].Name] = literal(spec.Values[0])
			}
			return true
		})
	}
	found := map[string]bool{}
	for _, code := range wireCodes {
		found[code] = true
	}
	ofMessages := regexp.MustCompile(`error_code = '(\w+)'|error_code = CASE m.status WHEN 'PENDING' THEN '(\w+)' ELSE '(\w+)'|cancelPending\(ctx, \w+, "(\w+)"|Code: +"(\w+)"`)
	for _, folder := range []string{"api", "models", "jobs", "wire", "media"} {
		files, text := sources(t, folder)
		for _, match := range ofMessages.FindAllStringSubmatch(text, -1) {
			for _, code := range match[1:] {
				found[code] = true
			}
		}
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr: // fault.New(kind, code, sentence)
					if !calls(n, "fault", "New") {
						return true
					}
					code := literal(n.Args[1])
					if constant, ok := n.Args[1].(*ast.SelectorExpr); ok {
						if constant.Sel.Name == "Code" { // another fault's
							return true
						}
						code = wireCodes[constant.Sel.Name]
					}
					require.NotEmpty(t, code, "a code that this test cannot read")
					found[code] = true
				case *ast.AssignStmt: // f.Code, f.Sentence = code, sentence
					for i, left := range n.Lhs {
						if field, ok := left.(*ast.SelectorExpr); ok && field.Sel.Name == "Code" && len(n.Rhs) == len(n.Lhs) && literal(n.Rhs[i]) != "" {
							found[literal(n.Rhs[i])] = true
						}
					}
				}
				return true
			})
		}
	}
	delete(found, "")
	var list []string
	for code := range found {
		list = append(list, code)
	}
	slices.Sort(list)
	return list
}

// docs/errors.md lists every code, and no other.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/errors.md")
	require.NoError(t, err)
	var documented []string
	for _, section := range strings.Split(string(raw), "\n## ") {
		var codes []string
		for _, match := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section, -1) {
			require.NotContains(t, codes, match[1], "one row a code")
			codes = append(codes, match[1])
		}
		documented = append(documented, codes...)
	}
	slices.Sort(documented)
	documented = slices.Compact(documented)
	documented = slices.DeleteFunc(documented, func(code string) bool { return code == "not_on_whatsapp" }) // the network's
	found := codesInSource(t)
	require.Greater(t, len(found), 50)
	require.Equal(t, found, documented)
}
