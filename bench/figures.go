package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// figures are what one run of a case has measured, or the medians of several.
type figures struct {
	Seconds   float64            `json:"seconds"`
	Count     float64            `json:"count"` // of what was done in that time
	PerSecond float64            `json:"perSecond"`
	Latency   percentiles        `json:"latencyMs"`
	Errors    map[string]int     `json:"errors,omitempty"` // by code
	More      map[string]float64 `json:"more,omitempty"`   // by what it is
	Costs     []cost             `json:"processes,omitempty"`
	Done      []float64          `json:"doneEachSecond,omitempty"`
	Curves    []*curve           `json:"curves,omitempty"`
}

// percentiles are milliseconds; all 0 where nothing was timed.
type percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// percentilesOf sorts the values.
func percentilesOf(values []float64) percentiles {
	if len(values) == 0 {
		return percentiles{}
	}
	slices.Sort(values)
	at := func(part float64) float64 { return values[int(part*float64(len(values)-1)+0.5)] }
	return percentiles{P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: at(1)}
}

// faults counts what did not go well.
func (f *figures) faults() (n int) {
	for _, one := range f.Errors {
		n += one
	}
	return n
}

// line is the short form, for whoever watches.
func (f *figures) line(unit string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%.0f %s in %.1f s, %.0f/s", f.Count, unit, f.Seconds, f.PerSecond)
	if f.Latency.P50 > 0 {
		fmt.Fprintf(&s, "; p50 %.2f, p95 %.2f, p99 %.2f ms", f.Latency.P50, f.Latency.P95, f.Latency.P99)
	}
	for _, name := range slices.Sorted(maps.Keys(f.More)) {
		fmt.Fprintf(&s, "; %s %.4g", name, f.More[name])
	}
	for _, code := range slices.Sorted(maps.Keys(f.Errors)) {
		fmt.Fprintf(&s, "; %d times %s", f.Errors[code], code)
	}
	return s.String()
}

// median of what each run says; of an even number, the mean of the two in the middle.
func median[T any](all []T, of func(T) float64) float64 {
	if len(all) == 0 {
		return 0
	}
	values := make([]float64, len(all))
	for i, one := range all {
		values[i] = of(one)
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// medians of runs, figure by figure; errors are added up.
func medians(runs []figures) figures {
	over := func(of func(figures) float64) float64 { return median(runs, of) }
	m := figures{
		Seconds: over(func(f figures) float64 { return f.Seconds }), Count: over(func(f figures) float64 { return f.Count }),
		PerSecond: over(func(f figures) float64 { return f.PerSecond }),
		Latency: percentiles{P50: over(func(f figures) float64 { return f.Latency.P50 }), P95: over(func(f figures) float64 { return f.Latency.P95 }),
			P99: over(func(f figures) float64 { return f.Latency.P99 }), Max: over(func(f figures) float64 { return f.Latency.Max })},
		Errors: map[string]int{}, More: map[string]float64{},
	}
	for _, f := range runs {
		for code, n := range f.Errors {
			m.Errors[code] += n
		}
		for name := range f.More {
			m.More[name] = over(func(f figures) float64 { return f.More[name] })
		}
	}
	for i, c := range runs[0].Costs {
		at := func(of func(cost) float64) float64 { return over(func(f figures) float64 { return of(f.Costs[i]) }) }
		m.Costs = append(m.Costs, cost{Process: c.Process, CPU: at(func(c cost) float64 { return c.CPU }), PeakMB: at(func(c cost) float64 { return c.PeakMB }),
			Per: at(func(c cost) float64 { return c.Per }), PerMin: at(func(c cost) float64 { return c.PerMin })})
	}
	return m
}
