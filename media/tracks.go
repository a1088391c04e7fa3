package media

import (
	"encoding/binary"
	"math"
)

const (
	audioMP4 = "audio/mp4"
	videoMP4 = "video/mp4"
)

// tracks looks for the tracks of an MP4 content as it passes by. Sound and film come in the same container, and the brand in
// its first bytes does not tell: recorders name their sound files mp42 or isom as well. What the tracks are stands in
// moov/trak/mdia/hdlr, before or after the data. The zero value is ready.
type tracks struct {
	at, next     int64 // where we are, and where the next box begins
	head         []byte
	over         bool // no further box is looked for
	sound, video bool
}

// soundOnly reports whether the content has sound and no film.
func (t *tracks) soundOnly() bool { return t.sound && !t.video }

// Write takes the content's next bytes. It never fails: what is no MP4 has no tracks.
func (t *tracks) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !t.over {
		if skip := min(t.next-t.at, int64(len(p))); skip > 0 {
			t.at, p = t.at+skip, p[skip:]
			continue
		}
		// The header begins at next-len(head), which moves on with it.
		t.head = append(t.head, p[0])
		t.at, t.next, p = t.at+1, t.next+1, p[1:]
		t.look()
	}
	return n, nil
}

// look decides what a box is, once enough of it is here.
func (t *tracks) look() {
	const header, large, handler = 8, 16, 20
	n := int64(len(t.head))
	if n < header {
		return
	}
	size, kind := int64(binary.BigEndian.Uint32(t.head)), string(t.head[4:8])
	switch {
	case size == 0: // to the end of the content
		t.over = true
		return
	case size == 1 && n < large:
		return
	case size == 1:
		if _, err := binary.Decode(t.head[8:], binary.BigEndian, &size); err != nil {
			size = 0
		}
	}
	if start := t.next - n; size < n || size > math.MaxInt64-start {
		t.over = true // no MP4, or none that ends
		return
	}
	switch kind {
	case "moov", "trak", "mdia": // what is in it comes next
		t.head = t.head[:0]
		return
	case "hdlr":
		if n < handler {
			return
		}
		switch string(t.head[16:20]) {
		case "soun":
			t.sound = true
		case "vide":
			t.video = true
		}
	}
	t.next, t.head = t.next-n+size, t.head[:0]
}
