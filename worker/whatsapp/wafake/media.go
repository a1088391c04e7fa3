package wafake

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

const (
	mediaHost = "mmg.whatsapp.net"
	mediaPath = "/v/wafake/"
)

func (s *Server) mediaConn() node {
	return node{
		Tag:   "media_conn",
		Attrs: attrs{"auth": "wafake", "ttl": "3600", "auth_ttl": "3600", "max_buckets": "12"},
		Content: []node{
			{Tag: "host", Attrs: attrs{"hostname": mediaHost, "type": "primary"}},
		},
	}
}

// keep stores a blob and returns its path. The caller has the lock.
func (s *Server) keep(blob []byte) string {
	sum := sha256.Sum256(blob)
	token := base64.RawURLEncoding.EncodeToString(sum[:])
	s.media[token] = blob
	return mediaPath + token + "?ccb=wafake"
}

// upload takes a medium, which the client has encrypted.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	blob, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	refused, path := due(&s.faults.uploads), ""
	if !refused {
		path = s.keep(blob)
	}
	s.mu.Unlock()
	if refused {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"url": "https://" + mediaHost + path, "direct_path": path, "handle": "", "object_id": ""})
}

func (s *Server) download(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	blob, ok := s.media[r.PathValue("token")]
	s.mu.Unlock()
	if !ok {
		http.Error(w, "gone", http.StatusGone)
		return
	}
	_, _ = w.Write(blob)
}

// LoseMedia forgets every medium that was uploaded. Who wants one is told that it is gone.
func (s *Server) LoseMedia() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.media)
}

// MediumSize is how long a medium is as it was uploaded, by its direct path.
func (s *Server) MediumSize(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, _, _ := strings.Cut(strings.TrimPrefix(path, mediaPath), "?")
	return len(s.media[token])
}
