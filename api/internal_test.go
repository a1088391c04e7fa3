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

// UploadsUnderWay counts the uploads that have a place.
func UploadsUnderWay(a *API) int {
	a.uploads.mu.Lock()
	defer a.uploads.mu.Unlock()
	return a.uploads.all
}
