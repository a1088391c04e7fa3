package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// No cell of a file is a formula, whichever separator a spreadsheet goes by.
func TestNoCellIsAFormula(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Sari": "Sari", "O'Brien & Co.": "O'Brien & Co.", "a@example.com": "a@example.com", "1+1=2": "1+1=2", "": "",
		"=1": "'=1", "+1": "'+1", "-1": "'-1", "@sum": "'@sum", "|x": "'|x", "%1": "'%1", "＝1": "'＝1", "＠x": "'＠x",
		" =1": "' =1", "\t+1": "' +1", "\r\n-1": "'  -1", ";=1": "' =1", "\u00a0=1": "'\u00a0=1",
		"a;=cmd|'/C calc'!A0": "a =cmd|'/C calc'!A0", "a\t=1": "a =1", "a\n=1": "a =1", "a\r+1": "a +1", `a;"=1"`: `a "=1"`,
	} {
		require.Equal(t, want, harmless(text), "%q", text)
	}
}
