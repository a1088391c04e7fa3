package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPercentiles(t *testing.T) {
	values := make([]float64, 1001)
	for i := range values {
		values[i] = float64(1000 - i)
	}
	require.Equal(t, percentiles{P50: 500, P95: 950, P99: 990, Max: 1000}, percentilesOf(values))
	require.Equal(t, percentiles{P50: 7, P95: 7, P99: 7, Max: 7}, percentilesOf([]float64{7}))
	require.Zero(t, percentilesOf(nil))
}

// Each figure is the median of its own; a run that went badly shows in the errors.
func TestMedians(t *testing.T) {
	m := medians([]figures{
		{PerSecond: 100, Count: 10, Latency: percentiles{P50: 3}, More: map[string]float64{"ratio": 0.5}, Costs: []cost{{Process: "api", CPU: 1, PeakMB: 30}}},
		{PerSecond: 300, Count: 30, Latency: percentiles{P50: 1}, More: map[string]float64{"ratio": 1.5}, Costs: []cost{{Process: "api", CPU: 3, PeakMB: 10}}, Errors: map[string]int{"503": 2}},
		{PerSecond: 200, Count: 20, Latency: percentiles{P50: 2}, More: map[string]float64{"ratio": 1.0}, Costs: []cost{{Process: "api", CPU: 2, PeakMB: 20}}, Errors: map[string]int{"503": 1}},
	})
	require.Equal(t, 200.0, m.PerSecond)
	require.Equal(t, 2.0, m.Latency.P50)
	require.Equal(t, map[string]float64{"ratio": 1}, m.More)
	require.Equal(t, map[string]int{"503": 3}, m.Errors)
	require.Equal(t, []cost{{Process: "api", CPU: 2, PeakMB: 20}}, m.Costs)
	require.Equal(t, 1.5, median([]float64{2, 1}, func(f float64) float64 { return f }))
}

func TestCharge(t *testing.T) {
	f := figures{Count: 1000}
	f.charge([]cost{{Process: "api", CPU: 0.5}})
	require.Equal(t, 500.0, f.Costs[0].Per)
}

func TestWeightsOfUsers(t *testing.T) {
	sum := 0
	for _, h := range habits {
		sum += h.weight
	}
	require.Equal(t, 100, sum)
	require.Equal(t, "send", chooseHabit(0).kind)
	require.Equal(t, "send", chooseHabit(29).kind)
	require.Equal(t, "message", chooseHabit(30).kind)
	require.Equal(t, "wrong address", chooseHabit(99).kind)
}

// A report says on what it was measured, what it cost and what went wrong.
func TestMarkdown(t *testing.T) {
	r := &report{Version: "v1", Machine: machine{Cores: 2, Load1: 0.25}, Options: map[string]string{"runs": "3"}}
	r.add("accept", "64 connections", "messages", figures{PerSecond: 8000, Count: 80000, Errors: map[string]int{"503 database_unavailable": 1}, Costs: []cost{{Process: "api", Per: 70, PeakMB: 40}}})
	r.add("accept", "64 connections", "messages", figures{PerSecond: 9000, Count: 90000, Costs: []cost{{Process: "api", Per: 80, PeakMB: 50}}})
	r.add("idle", "1000 sessions", "calls", figures{Costs: []cost{{Process: "api", PerMin: 1.5, PeakMB: 30}}})
	text := r.markdown(map[string][]string{"accept": {"accept-cpu.svg"}})
	require.Contains(t, text, "2 cores")
	require.Contains(t, text, "0.25 (1 min)")
	require.Contains(t, text, "| 64 connections | 8500 | 8000, 9000 |")
	require.Contains(t, text, "1 times `503 database_unavailable`")
	require.Contains(t, text, "| 64 connections | 75, 45 MB |")
	require.Contains(t, text, "| 1000 sessions | 1.50 s, 30 MB |")
	require.Contains(t, text, "![accept-cpu](accept-cpu.svg)")
}

func TestGrown(t *testing.T) {
	require.InDelta(t, 0.5, grown(&curve{Value: []float64{1, 1, 2, 2, 9, 9, 3, 3}}), 1e-9)
	require.Zero(t, grown(&curve{Value: []float64{1, 2, 3}}), "too short to tell")
}
