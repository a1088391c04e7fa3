package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// report is all that was measured.
type report struct {
	Started time.Time         `json:"started"`
	Version string            `json:"version"`
	Machine machine           `json:"machine"`
	Options map[string]string `json:"options"`
	Failed  string            `json:"failed,omitempty"` // why it ended early
	Results []*result         `json:"results"`
}

// result is a case of a scenario.
type result struct {
	Scenario string    `json:"scenario"`
	Case     string    `json:"case"`
	Unit     string    `json:"unit"`
	Median   figures   `json:"median"`
	Runs     []figures `json:"runs"`
}

// add notes a run; a case is known by its name.
func (r *report) add(scenario, name, unit string, f figures) {
	i := slices.IndexFunc(r.Results, func(one *result) bool { return one.Scenario == scenario && one.Case == name })
	if i < 0 {
		i, r.Results = len(r.Results), append(r.Results, &result{Scenario: scenario, Case: name, Unit: unit})
	}
	r.Results[i].Runs = append(r.Results[i].Runs, f)
	r.Results[i].Median = medians(r.Results[i].Runs)
}

func (r *report) of(scenario string) (list []*result) {
	for _, one := range r.Results {
		if one.Scenario == scenario {
			list = append(list, one)
		}
	}
	return list
}

// write makes the folder of the results.
func (b *bench) write() error {
	if len(b.report.Results) == 0 {
		return nil
	}
	folder := filepath.Join(b.results, b.report.Started.UTC().Format("2006-01-02T1504")+"-"+b.report.Version)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	encoded, err := json.MarshalIndent(&b.report, "", " ")
	if err != nil {
		return err
	}
	pictures, plotted := plots(&b.report, folder)
	err = errors.Join(plotted, os.WriteFile(filepath.Join(folder, "results.json"), append(encoded, '\n'), 0o600),
		os.WriteFile(filepath.Join(folder, "results.md"), []byte(b.report.markdown(pictures)), 0o600))
	b.say("results are in %s", folder)
	return err
}

// markdown is the report for people; pictures are files by scenario.
func (r *report) markdown(pictures map[string][]string) string {
	var s strings.Builder
	fmt.Fprintf(&s, "# Kurir %s, %s\n\n", r.Version, r.Started.UTC().Format("2006-01-02 15:04 UTC"))
	if r.Failed != "" {
		fmt.Fprintf(&s, "**It ended early: %s**\n\n", r.Failed)
	}
	m := r.Machine
	fmt.Fprintf(&s, "%d cores (%s), %.0f GB, Linux %s, data on %s; %s, PostgreSQL %s, %s. Load average when it began: %.2f (1 min), %.2f (5 min).\n\n",
		m.Cores, m.Processor, m.MemoryGB, m.Kernel, m.Disk, m.Go, m.PostgreSQL, m.Redis, m.Load1, m.Load5)
	var said []string
	for _, name := range slices.Sorted(maps.Keys(r.Options)) {
		said = append(said, name+" "+r.Options[name])
	}
	fmt.Fprintf(&s, "%s. Figures are medians of the runs, with the least and the most throughput behind them.\n", strings.Join(said, ", "))
	for _, sc := range scenarios() {
		list := r.of(sc.name)
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&s, "\n## %s\n\n%s\n\n", sc.name, sc.about)
		throughput(&s, list)
		costsTable(&s, list)
		growthTable(&s, list)
		for _, file := range pictures[sc.name] {
			fmt.Fprintf(&s, "\n![%s](%s)\n", strings.TrimSuffix(file, ".svg"), file)
		}
	}
	return s.String()
}

func throughput(s *strings.Builder, list []*result) {
	s.WriteString("| case | per second | least, most | p50 ms | p95 ms | p99 ms | wrong | and |\n|---|--:|--:|--:|--:|--:|--:|---|\n")
	for _, one := range list {
		m := one.Median
		rates := make([]float64, len(one.Runs))
		for i, f := range one.Runs {
			rates[i] = f.PerSecond
		}
		var more []string
		for _, name := range slices.Sorted(maps.Keys(m.More)) {
			more = append(more, fmt.Sprintf("%s %.4g", name, m.More[name]))
		}
		for _, code := range slices.Sorted(maps.Keys(m.Errors)) {
			more = append(more, fmt.Sprintf("%d times `%s`", m.Errors[code], code))
		}
		fmt.Fprintf(s, "| %s | %.0f | %.0f, %.0f | %.2f | %.2f | %.2f | %d | %s |\n", one.Case, m.PerSecond, slices.Min(rates), slices.Max(rates),
			m.Latency.P50, m.Latency.P95, m.Latency.P99, m.faults(), strings.Join(more, "; "))
	}
}

// costsTable says what each process took: CPU microseconds for each of what was done, or CPU seconds a minute where nothing was, and
// the most memory.
func costsTable(s *strings.Builder, list []*result) {
	var names []string
	for _, one := range list {
		for _, c := range one.Median.Costs {
			if !slices.Contains(names, c.Process) {
				names = append(names, c.Process)
			}
		}
	}
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(s, "\nCPU µs for each (CPU s a minute where nothing is done), and the most memory in MB:\n\n| case | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("--:|", len(names)))
	for _, one := range list {
		if len(one.Median.Costs) == 0 {
			continue
		}
		fmt.Fprintf(s, "| %s |", one.Case)
		for _, name := range names {
			i := slices.IndexFunc(one.Median.Costs, func(c cost) bool { return c.Process == name })
			if i < 0 {
				s.WriteString(" |")
				continue
			}
			c := one.Median.Costs[i]
			if one.Median.Count > 0 {
				fmt.Fprintf(s, " %.0f, %.0f MB |", c.Per, c.PeakMB)
			} else {
				fmt.Fprintf(s, " %.2f s, %.0f MB |", c.PerMin, c.PeakMB)
			}
		}
		s.WriteString("\n")
	}
}

// growthTable says what was watched for long, where it was.
func growthTable(s *strings.Builder, list []*result) {
	for _, one := range list {
		curves := one.Runs[0].Curves
		if len(curves) == 0 {
			continue
		}
		fmt.Fprintf(s, "\n%s: the last quarter beside the second one\n\n| what | whose | at the end | grown by |\n|---|---|--:|--:|\n", one.Case)
		for _, c := range curves {
			fmt.Fprintf(s, "| %s | %s | %.0f | %.0f %% |\n", c.About, c.Name, c.Value[len(c.Value)-1], 100*grown(c))
		}
	}
}
