package simnet

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"kurir/wire"
)

const maxMedium = 256 << 20 // bytes

// mediaStore holds media in files named by their SHA-256: beside the journal, or in a folder that goes at the end.
type mediaStore struct {
	mu   sync.Mutex
	dir  string // of the journal; once made: of the media
	made bool
	temp bool
}

func (m *mediaStore) folder() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.made {
		return m.dir, nil
	}
	dir, err := m.dir+".media", error(nil)
	if m.dir == "" {
		m.temp = true
		dir, err = os.MkdirTemp("", "simnet-media-")
	} else {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", err
	}
	m.dir, m.made = dir, true
	return dir, nil
}

func (m *mediaStore) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.made || !m.temp {
		return nil
	}
	dir := m.dir
	m.made, m.dir = false, ""
	return os.RemoveAll(dir)
}

// put stores what r has.
func (m *mediaStore) put(r io.Reader) (Medium, error) {
	dir, err := m.folder()
	if err != nil {
		return Medium{}, err
	}
	f, err := os.CreateTemp(dir, "upload-")
	if err != nil {
		return Medium{}, err
	}
	defer func() { _ = os.Remove(f.Name()) }() // renamed, if all went well
	hash := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, hash), r)
	if err = errors.Join(err, f.Close()); err != nil {
		return Medium{}, err
	}
	name := hex.EncodeToString(hash.Sum(nil))
	return Medium{SHA256: name, Size: size}, os.Rename(f.Name(), filepath.Join(dir, name))
}

// open finds a medium; fs.ErrNotExist says that there is none.
func (m *mediaStore) open(name string) (*os.File, error) {
	if len(name) != 2*sha256.Size || strings.Trim(name, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
	}
	dir, err := m.folder()
	if err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(dir, name))
}

// downloaded is the medium of a send as its phone has it. ok is false if it is not on the network.
func (n *Network) downloaded(m *wire.Send) (medium *Medium, ok bool) {
	if m.Media == nil {
		return nil, true
	}
	f, err := n.media.open(m.Media.SHA256)
	if err != nil {
		return nil, false
	}
	defer func() { _ = f.Close() }() // only read
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return nil, false
	}
	return &Medium{SHA256: hex.EncodeToString(hash.Sum(nil)), Size: size, MIMEType: m.Media.MIMEType}, true
}

func (n *Network) postMedia(w http.ResponseWriter, r *http.Request) {
	medium, err := n.media.put(http.MaxBytesReader(w, r.Body, maxMedium))
	if err != nil {
		err = refusef(http.StatusBadRequest, "store the medium: %v", err)
	}
	answerAs(w, medium, err)
}

func (n *Network) getMedia(w http.ResponseWriter, r *http.Request) {
	f, err := n.media.open(r.PathValue("sha256"))
	if err != nil {
		answerAs(w, nil, refusef(http.StatusNotFound, "there is no such medium"))
		return
	}
	defer func() { _ = f.Close() }() // only read
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(w, f) // the caller is gone if this fails
}
