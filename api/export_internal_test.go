package api

import (
	"testing"
	"time"
)

// SetExportWriteTime shortens what clients have to read a page, for one test.
func SetExportWriteTime(t testing.TB, d time.Duration) {
	former := exportWriteTime
	exportWriteTime = d
	t.Cleanup(func() { exportWriteTime = former })
}
