package message_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/message"
)

// A vote that was taken back has no options, which is a list all the same.
func TestOptionsAreAList(t *testing.T) {
	for _, stored := range []string{`{"poll":{"question":"?","options":null}}`, `{"poll":{"question":"?"}}`} {
		var d message.Details
		require.NoError(t, json.Unmarshal([]byte(stored), &d))
		text, err := json.Marshal(d)
		require.NoError(t, err)
		require.JSONEq(t, `{"poll":{"question":"?","options":[]}}`, string(text))
	}
}
