// Package throttle counts by the policies of package limits: in Redis, for all processes together, and in memory. It holds no
// rule, and knows neither users nor requests.
//
// Of the libraries, go-redis/redis_rate and Fiber's limiter were looked at. redis_rate is GCRA: it lets a full burst in and goes on
// refilling, so that an hour can hold almost twice the limit; Fiber's limiter reads, adds and writes in three steps, which
// parallel processes overlap. Neither takes several at once, gives back, or can tell an empty Redis from an unused counter.
package throttle
