package media_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/fault"
	"kurir/media"
	"kurir/models"
	"kurir/models/modelstest"
)

// bucket speaks as much of S3 as the store needs.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	changed map[string]time.Time
	parts   map[string]map[int][]byte // by upload
	away    bool
	largest int // body of one request
}

type listed struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listedObject
}

type listedObject struct {
	Key          string
	LastModified time.Time
	Size         int
	ETag         string
}

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := payload(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil || b.away {
		w.WriteHeader(http.StatusForbidden) // which is not tried again
		return
	}
	b.largest = max(b.largest, len(body))
	key, q := strings.TrimPrefix(r.URL.Path, "/media/"), r.URL.Query()
	object, there := b.objects[key]
	switch {
	case r.Method == http.MethodGet && q.Get("list-type") == "2":
		b.list(w, q.Get("prefix"), q.Get("continuation-token"))
	case r.Method == http.MethodPost && q.Has("uploads"):
		b.parts[key] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><Bucket>media</Bucket><Key>%s</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>", key)
	case r.Method == http.MethodPut && q.Has("partNumber"):
		n, _ := strconv.Atoi(q.Get("partNumber"))
		b.parts[key][n] = body
		w.Header().Set("ETag", etag(body))
	case r.Method == http.MethodPost && q.Has("uploadId"):
		var whole []byte
		for n := 1; n <= len(b.parts[key]); n++ {
			whole = append(whole, b.parts[key][n]...)
		}
		b.put(key, whole)
		fmt.Fprintf(w, "<CompleteMultipartUploadResult><Key>%s</Key><ETag>%s</ETag></CompleteMultipartUploadResult>", key, etag(whole))
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		delete(b.parts, key)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		source, _ := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
		source = strings.TrimPrefix(strings.TrimPrefix(source, "/"), "media/")
		b.put(key, b.objects[source])
		fmt.Fprintf(w, "<CopyObjectResult><ETag>%s</ETag></CopyObjectResult>", etag(b.objects[source]))
	case r.Method == http.MethodPut:
		b.put(key, body)
		w.Header().Set("ETag", etag(body))
	case r.Method == http.MethodDelete:
		delete(b.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case !there:
		w.WriteHeader(http.StatusNotFound)
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
		}
	default:
		w.Header().Set("ETag", etag(object))
		http.ServeContent(w, r, "", b.changed[key], bytes.NewReader(object))
	}
}

func (b *bucket) put(key string, content []byte) {
	b.objects[key], b.changed[key] = content, time.Now()
}

func (b *bucket) list(w http.ResponseWriter, prefix, after string) {
	const page = 2
	var l listed
	for _, key := range slices.Sorted(func(yield func(string) bool) {
		for key := range b.objects {
			if !yield(key) {
				return
			}
		}
	}) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		if len(l.Contents) == page {
			l.IsTruncated, l.NextContinuationToken = true, l.Contents[page-1].Key
			break
		}
		l.Contents = append(l.Contents, listedObject{Key: key, LastModified: b.changed[key], Size: len(b.objects[key]), ETag: etag(b.objects[key])})
	}
	_ = xml.NewEncoder(w).Encode(l)
}

func etag(content []byte) string {
	sum := md5.Sum(content)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// payload reads a body, also in the chunks of AWS's own kind.
func payload(r *http.Request) ([]byte, error) {
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		return io.ReadAll(r.Body)
	}
	var whole []byte
	for lines := bufio.NewReader(r.Body); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(strings.Split(line, ";")[0]), 16, 64)
		if err != nil || size == 0 {
			return whole, err
		}
		chunk := make([]byte, size+2)
		if _, err := io.ReadFull(lines, chunk); err != nil {
			return nil, err
		}
		whole = append(whole, chunk[:size]...)
	}
}

func (b *bucket) keys() (keys []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.objects {
		keys = append(keys, key)
	}
	return keys
}

// goAway is locked: an answer of the test's server may reach the client before its handler has ended, and calls that break off are still served.
func (b *bucket) goAway(away bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = away
}

// The store in a bucket does what the one in a folder does.
func TestStoreInABucket(t *testing.T) {
	b := &bucket{objects: map[string][]byte{}, changed: map[string]time.Time{}, parts: map[string]map[int][]byte{}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	db := modelstest.DB(t)
	store, err := media.Open(t.Context(), media.Config{URL: "s3://media?region=us-east-1&use_path_style=true&endpoint=" + server.URL}, db, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	s := &shelf{TB: t, Store: store, db: db, user: modelstest.User(t, db)}

	m := s.put("image", png)
	require.Equal(t, len(png), len(s.read(m, 0, -1)))
	require.Equal(t, string(png[8:12]), s.read(m, 8, 4))
	s.put("image", png)
	require.Len(t, b.keys(), 1)
	large := append([]byte("%PDF-"), bytes.Repeat([]byte("large"), 3<<20)...)
	doc := s.put("document", large)
	require.Equal(t, len(large), len(s.read(doc, 0, -1)))
	b.mu.Lock()
	require.LessOrEqual(t, b.largest, 5<<20, "parts")
	b.mu.Unlock()
	before := b.keys()
	_, err = s.Put(t.Context(), s.user.ID, "", &brokenAt{7 << 20, context.Canceled})
	var source *media.SourceError
	require.ErrorAs(t, err, &source)
	require.ElementsMatch(t, before, b.keys(), "what breaks off leaves nothing")

	b.goAway(true)
	_, err = s.Put(t.Context(), s.user.ID, "", bytes.NewReader([]byte("x")))
	require.Equal(t, "media_store_unavailable", fault.Code(err), "%v", err)
	_, err = s.Open(t.Context(), m, 0, -1)
	require.Equal(t, "media_store_unavailable", fault.Code(err), "%v", err)
	b.goAway(false)

	s.refer(m)
	b.mu.Lock()
	b.put("tmp/0", []byte("left"))
	b.put("notes.txt", []byte("the operator's"))
	b.put(models.NewID().String()+"/"+strings.Repeat("ab", 32), []byte("of nobody"))
	for key := range b.changed {
		b.changed[key] = time.Now().Add(-25 * time.Hour)
	}
	b.mu.Unlock()
	_, err = db.Pool.Exec(t.Context(), `UPDATE media SET look_at = look_at - interval '25 hours', used_at = used_at - interval '25 hours'`)
	require.NoError(t, err)
	dropped := 0
	for range 4 { // a page at a time
		n, err := s.Upkeep(t.Context())
		require.NoError(t, err)
		dropped += n
	}
	require.Equal(t, 3, dropped)
	require.Len(t, b.keys(), 2, "%v", b.keys())
	require.Equal(t, string(png), s.read(m, 0, -1))
	_, err = s.Open(t.Context(), doc, 0, -1)
	require.ErrorIs(t, err, models.ErrNoMedia)
}
