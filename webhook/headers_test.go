package webhook

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCheckHeaders(t *testing.T) {
	assert.NoError(t, CheckHeaders(nil))
	assert.NoError(t, CheckHeaders(map[string]string{
		"Authorization": "Bearer abc", "X-Tenant": "a\tb c", "user-agent": "mine", "Empty": "",
	}))

	for _, name := range []string{
		"Host", "host", "Content-Type", "CONTENT-LENGTH", "Content-Anything", "webhook-id", "Webhook-Signature", "webhook-x",
		"X-Hub-Signature-256", "x-hub-signature", "Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer",
		"Upgrade", "Proxy-Authorization", "Proxy-Connection", "HTTP2-Settings", "Expect", "Accept-Encoding",
	} {
		err := CheckHeaders(map[string]string{name: "x"})
		assert.ErrorContains(t, err, fmt.Sprintf("header %q is set by us", name))
	}
	for _, name := range []string{"a b", "a:", "a\r\nHost", "é", "a\x00", "(x)"} {
		assert.ErrorContains(t, CheckHeaders(map[string]string{name: "x"}), fmt.Sprintf("%q", name))
	}
	for _, value := range []string{"a\r\nb", "a\nb", "a\x00", " a", "a ", "é", "\x7f"} {
		err := CheckHeaders(map[string]string{"X-A": value})
		var bad *HeaderError
		require.ErrorAs(t, err, &bad, "%q", value)
		assert.Equal(t, "X-A", bad.Name)
	}
}

func TestCheckHeadersNeverRepeatsValues(t *testing.T) {
	err := CheckHeaders(map[string]string{"Authorization": "Bearer s3cret\n", "Host": "s3cret"})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "s3cret")
}

func TestCheckHeadersAsAWhole(t *testing.T) {
	assert.EqualError(t, CheckHeaders(map[string]string{"": "x"}), "a header has no name")
	assert.ErrorContains(t, CheckHeaders(map[string]string{"X-A": "1", "x-a": "2"}), `"x-a" is given twice`)

	many := make(map[string]string)
	for i := range MaxHeaders {
		many[fmt.Sprintf("X-%d", i)] = "x"
	}
	assert.NoError(t, CheckHeaders(many))
	many["X-One-More"] = "x"
	assert.ErrorContains(t, CheckHeaders(many), "21 headers are more than 20")

	assert.NoError(t, CheckHeaders(map[string]string{"X-A": strings.Repeat("x", MaxHeaderBytes-3)}))
	assert.ErrorContains(t, CheckHeaders(map[string]string{"X-A": strings.Repeat("x", MaxHeaderBytes-2)}), "4097 bytes")

	err := CheckHeaders(map[string]string{"Host": "x", "b ad": "x", "Fine": "x"})
	assert.Equal(t, "header \"Host\" is set by us and cannot be changed\nheader \"b ad\" is not a valid header name", err.Error())
}

func TestAddHeadersLeavesOutWhatIsRefused(t *testing.T) {
	h := http.Header{}
	addHeaders(h, map[string]string{"authorization": "Bearer x", "webhook-id": "forged", "Host": "x", "X": "a\nb"})
	assert.Equal(t, http.Header{"Authorization": {"Bearer x"}}, h)
}
