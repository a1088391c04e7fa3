package api

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"

	"kurir/fault"
)

// bytesPerValue bounds how many values a body may hold: what is said of each that is wrong takes more memory than the value.
// The largest bodies that our schemas let through stay below that by far.
const bytesPerValue = 32

// unambiguous turns away JSON that says something twice: the check would look at one of the two, and the handler take the
// other. Workers are ours, and their lists may be long.
func (a *API) unambiguous(ctx huma.Context, next func(huma.Context)) {
	o := ctx.Operation()
	need, _ := o.Metadata[metaAccess].(access)
	what, _ := o.Metadata[metaIntake].(string)
	if o.RequestBody != nil && need != accessWorker && what != takesBody {
		if err := checkJSON(humafiber.Unwrap(ctx).Request().Body(), int(o.MaxBodyBytes/bytesPerValue)); err != nil {
			a.writeError(ctx, err)
			return
		}
	}
	next(ctx)
}

// checkJSON looks for fields that stand twice in an object, and for more values than there may be. Text that is no JSON
// passes: whoever parses it says so better.
func checkJSON(text []byte, most int) error {
	var open []*names // of each object that is open; nil for a list
	isName := false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			end := endOfString(text, i)
			if end < 0 {
				return nil
			}
			if isName && !open[len(open)-1].add(text[i:end+1]) {
				return fault.Field(short(plain(text[i:end+1])), "this field stands there twice")
			}
			i, isName = end, false
		case '{':
			open, isName = append(open, new(names)), true
			most--
		case '[':
			open, isName = append(open, nil), false
			most--
		case '}', ']':
			if len(open) == 0 {
				return nil
			}
			open, isName = open[:len(open)-1], false
		case ',':
			isName = len(open) > 0 && open[len(open)-1] != nil
			most--
		}
		if most < 0 {
			return fault.Field("body", "it holds too many values")
		}
	}
	return nil
}

// endOfString is where the string that begins at a quotation mark ends, below 0 if it does not.
func endOfString(text []byte, from int) int {
	for i := from + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// names are those of an object so far.
type names struct {
	few  [][]byte
	many map[string]bool
}

// manyNames is from where on looking each of them up is quicker than comparing.
const manyNames = 16

// add takes a name as it is written, and says whether it is new.
func (n *names) add(quoted []byte) bool {
	if bytes.IndexByte(quoted, '\\') >= 0 {
		quoted = fmt.Appendf(nil, "\"%s\"", plain(quoted))
	}
	if n.many != nil {
		known := n.many[string(quoted)]
		n.many[string(quoted)] = true
		return !known
	}
	for _, other := range n.few {
		if bytes.Equal(other, quoted) {
			return false
		}
	}
	if n.few = append(n.few, quoted); len(n.few) == manyNames {
		n.many = make(map[string]bool, 2*manyNames)
		for _, name := range n.few {
			n.many[string(name)] = true
		}
	}
	return true
}

// plain is the text of a string as it is written.
func plain(quoted []byte) (text string) {
	_ = json.Unmarshal(quoted, &text) // what is none stays empty
	return text
}
