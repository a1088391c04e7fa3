package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckJSON(t *testing.T) {
	t.Parallel()
	var wide strings.Builder
	for i := range 100 {
		fmt.Fprintf(&wide, `"f%d":%d,`, i, i)
	}
	for text, what := range map[string]string{
		``: "", `5`: "", `{}`: "", `[]`: "", `{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}`: "", `{"a":"b","b":"a"}`: "", `{"a":"a"}`: "", `["a","a"]`: "",
		`{"a":["x","a","x"],"A":1}`: "", `{"a\"":1,"a":2}`: "", `{"a":"{\"a\":1,\"a\":2}"}`: "", `}{"a":1,"a":2}`: "", `{"a`: "", `{"a\`: "", `{"a" "a"}`: "",
		`{` + wide.String() + `"f":1}`:                            "",
		`{"a":1,"a":2}`:                                           "a",
		` { "a" : 1 , "b" : [ ] , "a" : null } `:                  "a",
		`{"a":1,"\u0061":2}`:                                      "a",
		`{"x":[{"b":{}},{"c":1,"b":2,"c":3}]}`:                    "c",
		`{"b":{"x":1},"c":{"x":1},"d":[1,{"y":{"z":1}}],"b":{}}`:  "b",
		`{` + wide.String() + `"f7":1}`:                           "f7",
		`{"é":1,"\u00e9":2}`:                                      "é",
		`[` + strings.Repeat(`1,`, 1000) + `1]`:                   "body",
		strings.Repeat(`[`, 1001):                                 "body",
		`{"a":` + strings.Repeat(`{"a":`, 1000) + `1`:             "body",
		`{"a":"` + strings.Repeat(`,`, 2000) + `","b":"[[[[{{{"}`: "",
	} {
		err := checkJSON([]byte(text), 1000)
		if what == "" {
			require.NoError(t, err, "%.80s", text)
		} else {
			require.ErrorContains(t, err, what+": ", "%.80s", text)
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":[{}]}`, `{"a\u00`, `]}`, `"\`, `{"":1,"":2}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, text []byte) { _ = checkJSON(text, 100) })
}
