package api

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"kurir/limits"
)

// rate is what a request was counted against.
type rate struct {
	policy limits.Policy
	quota  limits.Quota
}

// Headers that tell clients of limits: those of the present IETF draft (draft-ietf-httpapi-ratelimit-headers-10), and the three
// of its versions before 7, which more clients read.
const rateHeaders = "RateLimit, RateLimit-Policy, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"

// setRates writes what a request was counted against. The three older headers can tell of one limit only: the nearest.
func setRates(c *fiber.Ctx, rates []rate) {
	if len(rates) == 0 {
		return
	}
	nearest := rates[0]
	now, policies := make([]string, len(rates)), make([]string, len(rates))
	for i, r := range rates {
		now[i] = fmt.Sprintf(`%q;r=%d;t=%d`, r.policy.Name, r.quota.Left, seconds(r.quota.Reset))
		policies[i] = fmt.Sprintf(`%q;q=%d;w=%d`, r.policy.Name, r.policy.Limit, seconds(r.policy.Window))
		if r.quota.Left < nearest.quota.Left {
			nearest = r
		}
	}
	c.Set("RateLimit", strings.Join(now, ", "))
	c.Set("RateLimit-Policy", strings.Join(policies, ", "))
	c.Set("RateLimit-Limit", strconv.Itoa(nearest.policy.Limit))
	c.Set("RateLimit-Remaining", strconv.Itoa(nearest.quota.Left))
	c.Set("RateLimit-Reset", strconv.Itoa(seconds(nearest.quota.Reset)))
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
