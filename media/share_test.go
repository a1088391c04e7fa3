package media_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/egress/egresstest"
	"kurir/fault"
	"kurir/media"
	"kurir/models/modelstest"
)

// One tenant's servers that hang take a quarter of the places, and no more.
func TestServersThatHangHoldUpNobodyElse(t *testing.T) {
	s := newShelf(t)
	other := modelstest.User(t, s.db)
	asked, together := make(chan struct{}, 4), new(sync.WaitGroup)
	together.Add(3)
	base := egresstest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/together": // three at once, or none
			together.Done()
			together.Wait()
			_, _ = w.Write(png)
			return
		case "/drip":
			w.(http.Flusher).Flush()
		}
		asked <- struct{}{}
		<-r.Context().Done()
	})
	fetcher := media.NewFetcher(s.Store, onlyPublic(), media.FetchConfig{Timeout: patience, Concurrency: 4, Patience: 500 * time.Millisecond})
	ctx, stop := context.WithCancel(t.Context())
	failed, fetched := make(chan error, 4), make(chan error, 3)
	var running sync.WaitGroup
	for i := range 4 {
		path := []string{"/hang", "/drip"}[i%2]
		running.Go(func() {
			_, err := fetcher.Fetch(ctx, s.user.ID, base+path, "image")
			failed <- err
		})
	}
	for range 4 {
		<-asked
	}
	for range 3 {
		running.Go(func() {
			_, err := fetcher.Fetch(t.Context(), other.ID, base+"/together", "image")
			fetched <- err
		})
	}
	for range 3 {
		require.NoError(t, <-fetched)
		err := <-failed
		require.Equal(t, "media_unreachable", fault.Code(err), "%v", err)
		require.Equal(t, fault.Unavailable, fault.Of(err), "it is tried again")
		require.ErrorContains(t, err, "others wait")
	}
	require.Empty(t, failed, "a quarter of the places may hang")
	stop()
	running.Wait()
	require.Error(t, <-failed)
}
