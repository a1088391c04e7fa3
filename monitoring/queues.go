package monitoring

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/hibiken/asynqmon"
)

// hidden stands in the dashboard for what may be somebody's data.
const hidden = "(hidden)"

// maxShownPayload is in bytes: a payload of ours is an ID or two; anything longer is not one of ours.
const maxShownPayload = 200

// Dashboard is asynq's own dashboard, fit to be served: it shows IDs alone, loads nothing from elsewhere and takes no
// orders from other sites. It knows no users: whoever mounts it asks for the administrator.
type Dashboard struct {
	http.Handler
	inner *asynqmon.HTTPHandler
}

// Queues makes the dashboard under rootPath, which begins with a slash. readOnly leaves out pausing, running and deleting.
// prometheus is the URL of the Prometheus that its page of charts asks, through us; empty: there is no such page.
//
// The page as asynqmon ships it references one foreign host, fonts.googleapis.com, for two style sheets; they are cut out
// (its icons are drawn, and text falls back to the system's font), and a Content-Security-Policy keeps it at home.
func Queues(redis asynq.RedisConnOpt, rootPath string, readOnly bool, prometheus string) *Dashboard {
	inner := asynqmon.New(asynqmon.Options{
		RootPath:     rootPath,
		RedisConnOpt: redis,
		ReadOnly:     readOnly,

		PrometheusAddress: prometheus,
		PayloadFormatter:  asynqmon.PayloadFormatterFunc(func(_ string, b []byte) string { return showIDs(b) }),
		ResultFormatter:   asynqmon.ResultFormatterFunc(func(_ string, b []byte) string { return showIDs(b) }),
	})
	return &Dashboard{
		Handler: http.NewCrossOriginProtection().Handler(chartsInTime(stayHome(inner), rootPath+"/api/metrics")),
		inner:   inner,
	}
}

const (
	// chartsTimeout bounds a call for charts, which are nine queries to Prometheus: asynqmon waits for ever.
	chartsTimeout = 10 * time.Second
	// chartsAtOnce bounds what a Prometheus that does not answer can hold.
	chartsAtOnce = 4
)

// chartsInTime bounds calls to the path of charts. A call that is given up goes on to hold its place until Prometheus answers.
func chartsInTime(next http.Handler, path string) http.Handler {
	places := make(chan struct{}, chartsAtOnce)
	charts := http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
			next.ServeHTTP(w, r)
		default:
			http.Error(w, "Prometheus does not answer.", http.StatusServiceUnavailable)
		}
	}), chartsTimeout, "Prometheus does not answer.")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			charts.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Close gives back the connections to Redis.
func (d *Dashboard) Close() error { return d.inner.Close() }

// showIDs shows the fields of a JSON object that are IDs, small numbers and booleans, and hides the values of all others.
func showIDs(payload []byte) string {
	if len(payload) == 0 {
		return ""
	}
	var fields map[string]any
	if len(payload) > maxShownPayload || json.Unmarshal(payload, &fields) != nil || fields == nil {
		return hidden
	}
	for name, value := range fields {
		if !harmless(name, value) {
			fields[name] = hidden
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(fields) // came from JSON and goes back to it
	return strings.TrimSuffix(b.String(), "\n")
}

var (
	idName  = regexp.MustCompile(`^(id|[A-Za-z]+(Id|ID))$`)
	idValue = regexp.MustCompile(`^[A-Za-z0-9_:-]{1,64}$`)
	// number is what a phone number may look like; as an ID it would show one.
	number = regexp.MustCompile(`^[0-9-]+$`)
)

func harmless(name string, value any) bool {
	switch v := value.(type) {
	case nil, bool:
		return true
	case float64:
		return v > -1e6 && v < 1e6 // attempts and epochs; a phone number has more digits
	case string:
		return idName.MatchString(name) && idValue.MatchString(v) && !number.MatchString(v)
	}
	return false
}

// foreignStyle is a style sheet of another host in the page.
var foreignStyle = regexp.MustCompile(`<link rel="stylesheet" href="https?://[^>]*>`)

// stayHome serves asynqmon with its page purged of foreign hosts and under a policy that forbids them.
func stayHome(inner http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-cache")
		page := &pageWriter{ResponseWriter: w}
		inner.ServeHTTP(page, r)
		page.finish()
	})
}

// pageWriter holds back the page, which asynqmon writes in pieces for every path that is no file, until it is whole; all
// else passes through.
type pageWriter struct {
	http.ResponseWriter
	started bool
	page    *bytes.Buffer // nil: not the page
}

var pageStart = []byte("<!doctype html>")

func (p *pageWriter) Write(b []byte) (int, error) {
	if !p.started {
		p.started = true
		if bytes.HasPrefix(b, pageStart) {
			p.page = new(bytes.Buffer)
		}
	}
	if p.page != nil {
		return p.page.Write(b)
	}
	return p.ResponseWriter.Write(b)
}

func (p *pageWriter) finish() {
	if p.page == nil {
		return
	}
	page := foreignStyle.ReplaceAll(p.page.Bytes(), nil)
	p.Header().Set("Content-Type", "text/html; charset=utf-8")
	p.Header().Set("Content-Security-Policy", PolicyFor(page))
	_, _ = p.ResponseWriter.Write(page) // fails only if the client has left
}

var inlineScript = regexp.MustCompile(`(?s)<script>(.*?)</script>`)

// PolicyFor is the Content-Security-Policy of a page that somebody else has written. It allows the page's own files, its inline scripts by their hashes, and inline styles, which such pages make
// at run time.
func PolicyFor(page []byte) string {
	scripts := "'self'"
	for _, match := range inlineScript.FindAllSubmatch(page, -1) {
		hash := sha256.Sum256(match[1])
		scripts += " 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"
	}
	return "default-src 'none'; script-src " + scripts + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
