// Package embeddedtest gives tests a private PostgreSQL and Redis, started when a test first asks, and a way to them, or
// to anything else, that a test can break. It is for tests only: its PostgreSQL survives no power cut.
//
// Each test process has one PostgreSQL, beside those of tests that take theirs away. Its data are copied from a template
// that the first process on the machine makes, since a copy takes a tenth of the time of initdb. One server for all
// processes would be quicker still, but then somebody has to know when the last of them has ended, and a test that
// kills or fills it would disturb the others.
//
// A package whose tests use it has
//
//	func TestMain(m *testing.M) { embeddedtest.Main(m) }
//
// so that its servers end in order. Without that, and after a panic or a kill, the kernel ends them (on Linux) and the
// next test process deletes what they left.
package embeddedtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"kurir/embedded"
)

// patience bounds each start and stop. Test processes share the machine, and may wait for the template to be made.
const patience = 2 * time.Minute

// process is what this test process runs. It is a global because it belongs to the process: tests of many packages'
// helpers share it, and nobody but the process's end can stop it.
var process struct {
	sync.Mutex
	folder   *folder
	servers  *embedded.Servers
	counter  int
	prepared sync.Map // name of a template -> func() (string, error)
}

// Main runs the tests, stops the servers and exits.
func Main(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	defer stop()
	return m.Run()
}

func stop() {
	process.Lock()
	defer process.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if process.servers != nil {
		if err := process.servers.Stop(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "embeddedtest:", err)
		}
	}
	if process.folder != nil {
		process.folder.remove()
	}
	process.servers, process.folder = nil, nil
}

// next returns the folder of this process and a number used once in it.
func next() (*folder, int, error) {
	process.Lock()
	defer process.Unlock()
	if process.folder == nil {
		f, err := newFolder()
		if err != nil {
			return nil, 0, err
		}
		process.folder = f
	}
	process.counter++
	return process.folder, process.counter, nil
}

// server returns the PostgreSQL of this process.
func server() (*embedded.Servers, error) {
	f, _, err := next()
	if err != nil {
		return nil, err
	}
	process.Lock()
	defer process.Unlock()
	if process.servers != nil {
		return process.servers, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	home := filepath.Join(f.path, "postgres")
	if err := copyTemplate(ctx, home); err != nil {
		return nil, fmt.Errorf("copy the template: %w", err)
	}
	process.servers, err = embedded.Start(ctx, embedded.Config{Home: home, Postgres: true, NoFsync: true})
	return process.servers, err
}
