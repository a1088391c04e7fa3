package media

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gocloud.dev/blob"

	"kurir/models"
)

// object is a blob as a listing shows it.
type object struct {
	key     string
	size    int64
	changed time.Time
}

func (o object) old() bool { return time.Since(o.changed) > models.MediaKept }

// where is how far the look through the store has come. The zero value is its beginning.
type where struct {
	token  []byte // of a bucket
	folder string // the last one looked into
}

// page lists what comes next in the store. Folders are read here: the library's listing fails when a file goes away
// beneath it, as temporary ones do all the time.
func (s *Store) page(ctx context.Context, at where) (list []object, next where, err error) {
	if s.folder != "" {
		return s.folders(at)
	}
	if len(at.token) == 0 {
		at.token = blob.FirstPageToken
	}
	found, token, err := s.bucket.ListPage(ctx, at.token, orphanPage, nil)
	for _, o := range found {
		list = append(list, object{o.Key, o.Size, o.ModTime})
	}
	return list, where{token: token}, err
}

func (s *Store) folders(at where) (list []object, next where, err error) {
	names, err := os.ReadDir(s.folder) // sorted
	if err != nil {
		return nil, where{}, err
	}
	for _, d := range names {
		if !d.IsDir() || d.Name() <= at.folder {
			continue
		}
		found, err := s.files(d.Name() + "/")
		if err != nil {
			return nil, where{}, err
		}
		if list = append(list, found...); len(list) >= orphanPage {
			return list, where{folder: d.Name()}, nil
		}
	}
	return list, where{}, nil
}

// files lists one folder.
func (s *Store) files(prefix string) (list []object, err error) {
	entries, err := os.ReadDir(filepath.Join(s.folder, prefix))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			list = append(list, object{prefix + e.Name(), info.Size(), info.ModTime()})
		}
	}
	return list, nil
}

// temporaries lists contents that are not known whole yet, or never will be.
func (s *Store) temporaries(ctx context.Context) (list []object, err error) {
	if s.folder != "" {
		return s.files(temporary)
	}
	found, _, err := s.bucket.ListPage(ctx, blob.FirstPageToken, orphanPage, &blob.ListOptions{Prefix: temporary}) // the oldest first, by their names
	for _, o := range found {
		list = append(list, object{o.Key, o.Size, o.ModTime})
	}
	return list, err
}
