// Package monitoring shows what the program does to those who run it: metrics for Prometheus, health for load balancers
// and the dashboard of the queues. It decides nothing and changes nothing, knows no other package of ours, and nobody's
// work waits for it: a database or Redis that is down costs a scrape its figures and nothing else.
package monitoring
