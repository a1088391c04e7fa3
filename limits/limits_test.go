package limits

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDefault(t *testing.T) {
	c := Default()
	require.NoError(t, c.Validate())
	assert.Equal(t, Limits{1, 100}, c.For(Basic))
	assert.Equal(t, Limits{5, 1000}, c.For(Pro))
	assert.Equal(t, Limits{20, 10_000}, c.For(Max))
	assert.Equal(t, c.For(Basic), c.For("GOLD"), "an unknown tier gets the least")

	c[Pro] = Limits{7, 7}
	assert.Equal(t, Limits{5, 1000}, Default().For(Pro), "a changed configuration is nobody else's")
}

func TestValidateReportsEverything(t *testing.T) {
	err := Config{Basic: {-1, 0}, Pro: {0, -1}, "GOLD": {}}.Validate()
	assert.EqualError(t, err, "tier BASIC: -1 sessions\ntier PRO: -1 messages per hour\ntier MAX has no limits\n"+
		"tier \"GOLD\" is unknown")
	assert.NoError(t, Config{Basic: {}, Pro: {}, Max: {}}.Validate(), "0 closes a tier")
}

func TestParseTier(t *testing.T) {
	for text, want := range map[string]Tier{"BASIC": Basic, "basic": Basic, "Pro": Pro, "max": Max} {
		got, err := ParseTier(text)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	for _, text := range []string{"", "gold", " MAX"} {
		_, err := ParseTier(text)
		assert.ErrorContains(t, err, "none of basic, pro, max", "%q", text)
	}
}

func TestAllowedSelfService(t *testing.T) {
	tests := []struct {
		highest, wanted Tier
		want            bool
	}{
		{Basic, Basic, true},
		{Basic, Pro, false},
		{Basic, Max, false},
		{Pro, Basic, true},
		{Pro, Pro, true},
		{Pro, Max, false},
		{Max, Max, true},
		{Max, "GOLD", false},
		{Max, "", false},
		{"", Basic, false},
		{"GOLD", "GOLD", false},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, AllowedSelfService(tt.highest, tt.wanted), "highest %q, wanted %q", tt.highest, tt.wanted)
	}
}

func TestCanCreateSession(t *testing.T) {
	tests := []struct {
		name        string
		limit, have int
		want        Decision
	}{
		{"first", 5, 0, Decision{Allowed: true, Limit: 5, Left: 4}},
		{"last", 5, 4, Decision{Allowed: true, Limit: 5, Left: 0}},
		{"full", 5, 5, Decision{Limit: 5}},
		{"over the limit after a downgrade", 1, 5, Decision{Limit: 1}},
		{"closed tier", 0, 0, Decision{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.want, CanCreateSession(Limits{Sessions: tt.limit}, tt.have))
		})
	}
}
