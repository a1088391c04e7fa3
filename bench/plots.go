package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plots draws what the tables say, into files of a folder, and returns their names by scenario.
func plots(r *report, folder string) (names map[string][]string, err error) {
	names = map[string][]string{}
	for _, sc := range scenarios() {
		list := r.of(sc.name)
		if len(list) == 0 {
			continue
		}
		for _, kind := range []struct {
			name string
			draw func([]*result) (*plot.Plot, error)
		}{{"throughput", drawThroughput}, {"latency", drawLatency}, {"cpu", drawCosts}, {"time", drawTime}} {
			p, failed := kind.draw(list)
			if p == nil {
				err = errors.Join(err, failed)
				continue
			}
			file := sc.name + "-" + kind.name + ".svg"
			names[sc.name] = append(names[sc.name], file)
			err = errors.Join(err, failed, p.Save(20*vg.Centimeter, height(list), filepath.Join(folder, file)))
		}
		for _, about := range abouts(list) {
			file := sc.name + "-" + strings.ReplaceAll(strings.ReplaceAll(about, ",", ""), " ", "-") + ".svg"
			names[sc.name] = append(names[sc.name], file)
			p, failed := drawCurves(list, about)
			err = errors.Join(err, failed)
			if failed == nil {
				err = errors.Join(err, p.Save(20*vg.Centimeter, 8*vg.Centimeter, filepath.Join(folder, file)))
			}
		}
	}
	return names, err
}

// abouts are the kinds of curves.
func abouts(list []*result) (kinds []string) {
	for _, one := range list {
		for _, c := range one.Runs[0].Curves {
			if !slices.Contains(kinds, c.About) {
				kinds = append(kinds, c.About)
			}
		}
	}
	return kinds
}

// drawCurves shows what was watched for long.
func drawCurves(list []*result, about string) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text, p.Y.Min = about, "minute", about, 0
	p.Legend.Top, p.Legend.Left = true, true
	for _, one := range list {
		for i, c := range one.Runs[0].Curves {
			if c.About != about {
				continue
			}
			points := make(plotter.XYs, len(c.At))
			for k := range c.At {
				points[k] = plotter.XY{X: c.At[k], Y: c.Value[k]}
			}
			line, err := plotter.NewLine(points)
			if err != nil {
				return nil, fmt.Errorf("draw %s: %w", c.Name, err)
			}
			line.Color = plotutil.Color(i)
			p.Add(line)
			p.Legend.Add(c.Name, line)
		}
	}
	return p, nil
}

// height has room for a bar for each case.
func height(list []*result) vg.Length { return (5 + vg.Length(len(list))) * vg.Centimeter }

// with returns those that have something to show, the last first, since bars begin at the bottom.
func with(list []*result, has func(figures) bool) (some []*result) {
	for _, one := range slices.Backward(list) {
		if has(one.Median) {
			some = append(some, one)
		}
	}
	return some
}

const barWidth = 14

// bars is a picture of horizontal bars, a row for each case.
func bars(title, axis string, cases []*result) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.X.Min = title, axis, 0
	names := make([]string, len(cases))
	for i, one := range cases {
		names[i] = one.Case
	}
	p.NominalY(names...)
	p.Legend.Top = true
	return p
}

func addBars(p *plot.Plot, n int, label string, on *plotter.BarChart, offset vg.Length, width float64, values plotter.Values) (*plotter.BarChart, error) {
	b, err := plotter.NewBarChart(values, vg.Points(width))
	if err != nil {
		return nil, err
	}
	b.Horizontal, b.Color, b.Offset, b.LineStyle.Width = true, plotutil.Color(n), offset, 0
	if on != nil {
		b.StackOn(on)
	}
	p.Add(b)
	if label != "" {
		p.Legend.Add(label, b)
	}
	return b, nil
}

func valuesOf(cases []*result, of func(figures) float64) plotter.Values {
	v := make(plotter.Values, len(cases))
	for i, one := range cases {
		v[i] = of(one.Median)
	}
	return v
}

func drawThroughput(list []*result) (*plot.Plot, error) {
	cases := with(list, func(f figures) bool { return f.PerSecond > 0 })
	if len(cases) == 0 {
		return nil, nil
	}
	p := bars("Throughput", list[0].Unit+" a second", cases)
	_, err := addBars(p, 2, "", nil, 0, barWidth, valuesOf(cases, func(f figures) float64 { return f.PerSecond }))
	return p, err
}

func drawLatency(list []*result) (*plot.Plot, error) {
	cases := with(list, func(f figures) bool { return f.Latency.P50 > 0 })
	if len(cases) == 0 {
		return nil, nil
	}
	p := bars("Latency", "milliseconds", cases)
	const width = barWidth / 2
	for i, of := range []func(figures) float64{func(f figures) float64 { return f.Latency.P99 }, func(f figures) float64 { return f.Latency.P95 }, func(f figures) float64 { return f.Latency.P50 }} {
		if _, err := addBars(p, i, []string{"p99", "p95", "p50"}[i], nil, vg.Points(width)*vg.Length(i-1), width, valuesOf(cases, of)); err != nil {
			return p, err
		}
	}
	return p, nil
}

// drawCosts stacks the CPU time that each process took for one of what was done.
func drawCosts(list []*result) (*plot.Plot, error) {
	cases := with(list, func(f figures) bool { return f.Count > 0 && len(f.Costs) > 0 })
	if len(cases) == 0 {
		return nil, nil
	}
	p := bars("CPU", "microseconds for each", cases)
	var names []string
	for _, one := range slices.Backward(cases) {
		for _, c := range one.Median.Costs {
			if c.Process != gatewayName && !slices.Contains(names, c.Process) {
				names = append(names, c.Process)
			}
		}
	}
	var below *plotter.BarChart
	for i, name := range names {
		var err error
		below, err = addBars(p, i, name, below, 0, barWidth, valuesOf(cases, func(f figures) float64 {
			for _, c := range f.Costs {
				if c.Process == name {
					return c.Per
				}
			}
			return 0
		}))
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// drawTime shows what was done in each second of the first run.
func drawTime(list []*result) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text, p.Y.Min = "First run", "second", list[0].Unit+" a second", 0
	p.Legend.Top = true
	drawn := 0
	for _, one := range list {
		if len(one.Runs[0].Done) < 2 {
			continue
		}
		points := make(plotter.XYs, len(one.Runs[0].Done))
		for i, n := range one.Runs[0].Done {
			points[i] = plotter.XY{X: float64(i), Y: n}
		}
		line, err := plotter.NewLine(points)
		if err != nil {
			return nil, fmt.Errorf("draw %s: %w", one.Case, err)
		}
		line.Color = plotutil.Color(drawn)
		p.Add(line)
		p.Legend.Add(one.Case, line)
		drawn++
	}
	if drawn == 0 {
		return nil, nil
	}
	return p, nil
}
