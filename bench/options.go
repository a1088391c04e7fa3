package main

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options say what is measured, and how long.
type options struct {
	scenarios  []string
	runs       int
	duration   time.Duration // of each case of each run
	warmup     time.Duration // before the first run of a case
	idle       time.Duration // that idle processes are watched
	soakTime   time.Duration
	soakRate   int           // messages a second
	limit      time.Duration // of everything
	few, many  int           // sessions
	users      int           // of the mixed scenario
	history    int           // messages
	crowd      int           // stopped sessions of the scale scenario
	backlog    int           // messages that may wait while sending goes as fast as it can
	rates      []int         // messages a second of e2e and scale, one after another; 0: as fast as it can
	results    string        // folder
	data       string        // folder on a disk
	source     string        // folder of Kurir's module
	kurir      string        // binary; "": it is built
	profiles   string        // folder for profiles of CPU, allocations and locks; "": none
	statements bool          // have PostgreSQL count its statements, and Redis its commands
	volatile   bool          // tests: no fsync, data wherever they are
}

func readOptions(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	names := f.String("scenarios", "all", "which: all, or some of "+strings.Join(scenarioNames(), ","))
	f.IntVar(&o.runs, "runs", 3, "how often each case is run; results are medians")
	f.DurationVar(&o.duration, "duration", 30*time.Second, "how long each case runs")
	f.DurationVar(&o.warmup, "warmup", 5*time.Second, "how long each case runs before it is measured")
	f.DurationVar(&o.idle, "idle", time.Minute, "how long idle processes are watched")
	f.DurationVar(&o.soakTime, "soak", 30*time.Minute, "how long the soak lasts, which all does not include")
	f.IntVar(&o.soakRate, "soak-rate", 300, "messages a second of the soak: each has a webhook, so take less than half of what e2e reaches")
	f.DurationVar(&o.limit, "limit", 3*time.Hour, "ends everything, with what was measured so far")
	f.IntVar(&o.few, "few", 50, "sessions of most scenarios")
	f.IntVar(&o.many, "many", 1000, "sessions of the large ones")
	f.IntVar(&o.users, "users", 1000, "users of the mixed scenario")
	f.IntVar(&o.history, "history", 1_000_000, "messages of the history and scale scenarios")
	f.IntVar(&o.crowd, "crowd", 100_000, "stopped sessions of the scale scenario")
	f.IntVar(&o.backlog, "backlog", 2000, "messages that may wait when sending at full speed")
	o.rates = []int{0, 500}
	f.Func("rates", "messages a second of e2e and scale, one after another; 0 is as fast as it can (default 0,500)", o.readRates)
	f.StringVar(&o.results, "out", "results", "folder of results; a folder is made in it")
	f.StringVar(&o.data, "data", "/var/tmp", "folder on a disk for the servers' data, which are deleted at the end")
	f.StringVar(&o.source, "source", "..", "Kurir's source")
	f.StringVar(&o.kurir, "kurir", "", "a kurir that is built already; with -profiles, its test binary")
	f.StringVar(&o.profiles, "profiles", "", "folder for profiles of the processes: CPU, allocations, mutexes, blocking; such figures are no results")
	f.BoolVar(&o.statements, "statements", false, "list the statements that cost PostgreSQL most, the commands that cost Redis most and its slow ones, and time its PINGs; such figures are no results")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.scenarios = slices.DeleteFunc(scenarioNames(), func(name string) bool { return name == "soak" })
	if *names != "all" && *names != "" {
		o.scenarios = strings.Split(*names, ",")
	}
	return o, o.check()
}

func (o *options) readRates(list string) error {
	o.rates = nil
	for part := range strings.SplitSeq(list, ",") {
		rate, err := strconv.Atoi(part)
		if err != nil || rate < 0 {
			return fmt.Errorf("%q is no number of messages a second", part)
		}
		o.rates = append(o.rates, rate)
	}
	return nil
}

func (o *options) check() error {
	for _, name := range o.scenarios {
		if !slices.Contains(scenarioNames(), name) {
			return fmt.Errorf("-scenarios: %q is none of %s", name, strings.Join(scenarioNames(), ", "))
		}
	}
	if o.runs < 1 || o.duration < time.Second || o.warmup < 0 || o.few < 1 || o.many < 1 || o.users < 1 || o.soakTime < soakLooks*time.Second/10 || o.soakRate < 1 || o.history < 1000 || o.crowd < 1 || o.backlog < 1 {
		return fmt.Errorf("-runs, -few, -many, -users, -crowd and -backlog must be 1 or more, -duration 1s, -history 1000, -soak 18s")
	}
	return nil
}
