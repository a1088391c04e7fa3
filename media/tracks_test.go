package media_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/fault"
)

// box is one of an MP4's.
func box(kind string, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	return slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(8+len(body))), []byte(kind), body)
}

func largeBox(kind string, body []byte) []byte {
	return slices.Concat([]byte{0, 0, 0, 1}, []byte(kind), binary.BigEndian.AppendUint64(nil, uint64(16+len(body))), body)
}

func track(handler string) []byte {
	return box("trak", box("tkhd", make([]byte, 84)), box("mdia", box("mdhd", make([]byte, 24)),
		box("hdlr", make([]byte, 8), []byte(handler), make([]byte, 12), []byte("a name\x00")), box("minf", []byte("hdlrvide"))))
}

// The brand of an MP4 does not tell whether there is a film in it; its tracks do, wherever they stand.
func TestSoundInAnMP4IsAudio(t *testing.T) {
	s := newShelf(t)
	brand := func(name string) []byte { return box("ftyp", []byte(name), make([]byte, 4), []byte("isommp42")) }
	data := bytes.Repeat([]byte("moov hdlr vide "), 10_000)
	sound, film := box("moov", box("mvhd", make([]byte, 100)), track("soun")), box("moov", track("soun"), track("vide"))
	for name, c := range map[string]struct {
		content []byte
		kinds   map[string]string // to type, "": refused
	}{
		"before the data":  {slices.Concat(brand("mp42"), sound, box("mdat", data)), map[string]string{"audio": "audio/mp4", "": "audio/mp4", "document": "audio/mp4", "video": ""}},
		"after the data":   {slices.Concat(brand("isom"), box("free"), box("mdat", data), sound), map[string]string{"audio": "audio/mp4", "video": ""}},
		"after large data": {slices.Concat(brand("isom"), largeBox("mdat", data), sound), map[string]string{"audio": "audio/mp4"}},
		"as Apple says it": {slices.Concat(brand("M4A "), sound, box("mdat", data)), map[string]string{"audio": "audio/mp4"}},
		"a film":           {slices.Concat(brand("mp42"), box("mdat", data), film), map[string]string{"audio": "", "video": "video/mp4", "": "video/mp4"}},
		"nothing known":    {slices.Concat(brand("isom"), box("mdat", data)), map[string]string{"audio": "", "video": "video/mp4"}},
		"cut off":          {slices.Concat(brand("isom"), sound[:100]), map[string]string{"audio": "", "video": "video/mp4"}},
		"a box without end": {slices.Concat(brand("isom"), []byte{0, 0, 0, 0}, []byte("mdat"), data, sound),
			map[string]string{"audio": "", "video": "video/mp4"}},
		"boxes of nonsense": {slices.Concat(brand("isom"), []byte{0, 0, 0, 4}, []byte("moov"), sound), map[string]string{"audio": ""}},
		"a size too large": {slices.Concat(brand("isom"), []byte{0, 0, 0, 1}, []byte("mdat"), bytes.Repeat([]byte{0xff}, 8), sound),
			map[string]string{"audio": ""}},
	} {
		for kind, want := range c.kinds {
			before := s.files()
			m, err := s.Put(t.Context(), s.user.ID, kind, bytes.NewReader(c.content))
			if want == "" {
				require.Equal(t, "media_type_not_allowed", fault.Code(err), "%s as %q: %v", name, kind, err)
				require.Equal(t, before, s.files())
				continue
			}
			require.NoError(t, err, "%s as %q", name, kind)
			require.Equal(t, want, m.MIMEType, "%s as %q", name, kind)
		}
	}
	m, err := s.Find(t.Context(), s.user.ID, nil, s.put("", slices.Concat(brand("mp42"), sound)).ID)
	require.NoError(t, err)
	require.NoError(t, s.Rules().Check("audio", m.MIMEType, m.Size), "what was uploaded without its kind")
}
