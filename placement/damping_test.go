package placement

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestRest(t *testing.T) {
	for flaps, want := range map[int]time.Duration{
		-1:           0,
		0:            0,
		1:            0,
		2:            30 * time.Second,
		3:            time.Minute,
		4:            2 * time.Minute,
		5:            4 * time.Minute,
		6:            8 * time.Minute,
		7:            10 * time.Minute,
		8:            10 * time.Minute,
		math.MaxInt:  10 * time.Minute,
		-math.MaxInt: 0,
	} {
		assert.Equal(t, want, Rest(flaps), "lapse %d", flaps)
	}
}
