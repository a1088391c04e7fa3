package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"image"
	"image/jpeg"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"kurir/message"
)

// sample is a small real file of a kind that can be sent.
type sample struct {
	name    string
	content []byte
}

func (s sample) sum() [32]byte { return sha256.Sum256(s.content) }

func (s sample) sha256() string {
	sum := s.sum()
	return hex.EncodeToString(sum[:])
}

func (s sample) base64() string { return base64.StdEncoding.EncodeToString(s.content) }

// sampleOf makes the file of a type of message. Each mark gives another content.
func sampleOf(t *testing.T, kind string, mark byte) sample {
	t.Helper()
	switch kind {
	case message.Video:
		return sample{"cat.mp4", movie(mark)}
	case message.Audio:
		frame := append([]byte{0xff, 0xfb, 0x90, 0x64}, make([]byte, 413)...) // MPEG 1, layer 3, 128 kbit/s, 44.1 kHz: silence
		return sample{"song.mp3", bytes.Repeat(frame, 2+int(mark))}
	case message.Voice:
		return sample{"note.ogg", voiceNote(mark)}
	case message.Document:
		return sample{"prices.pdf", fmt.Appendf(nil, "%%PDF-1.4\n%% %d\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n%%%%EOF\n", mark)}
	case message.Sticker:
		content, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
		require.NoError(t, err)
		extra := []byte{'E', 'X', 'I', 'F', 2, 0, 0, 0, mark, 0}
		binary.LittleEndian.PutUint32(content[4:], uint32(len(content)+len(extra)-8))
		return sample{"cat.webp", append(content, extra...)}
	}
	picture := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range picture.Pix {
		picture.Pix[i] = mark * 16
	}
	var b bytes.Buffer
	require.NoError(t, jpeg.Encode(&b, picture, nil))
	return sample{"cat.jpg", b.Bytes()}
}

// box is one of MP4's.
func box(kind string, content ...[]byte) []byte {
	all := bytes.Join(content, nil)
	return append(append(binary.BigEndian.AppendUint32(nil, uint32(8+len(all))), kind...), all...)
}

// movie is an MP4 file without a track.
func movie(mark byte) []byte {
	header := make([]byte, 100)
	binary.BigEndian.PutUint32(header[12:], 1000)       // ticks per second
	binary.BigEndian.PutUint32(header[20:], 0x00010000) // rate
	binary.BigEndian.PutUint32(header[96:], 1)          // next track
	return bytes.Join([][]byte{box("ftyp", []byte("isom\x00\x00\x02\x00isomiso2mp41")), box("moov", box("mvhd", header)), box("mdat", []byte{mark})}, nil)
}

// voiceNote is 20 ms of silence in Opus, in Ogg.
func voiceNote(mark byte) []byte {
	head := []byte("OpusHead\x01\x01\x00\x00\x80\xbb\x00\x00\x00\x00\x00")
	vendor := fmt.Sprintf("test-%03d", mark)
	tags := append(binary.LittleEndian.AppendUint32([]byte("OpusTags"), uint32(len(vendor))), vendor+strings.Repeat("\x00", 4)...)
	return bytes.Join([][]byte{oggPage(2, 0, 0, head), oggPage(0, 0, 1, tags), oggPage(4, 960, 2, []byte{0xf8, 0xff, 0xfe})}, nil)
}

// oggPage is a page of one packet, which is below 255 bytes.
func oggPage(flags byte, position uint64, number uint32, packet []byte) []byte {
	page := append([]byte("OggS\x00"), flags)
	page = binary.LittleEndian.AppendUint64(page, position)
	page = binary.LittleEndian.AppendUint32(page, 1) // stream
	page = binary.LittleEndian.AppendUint32(page, number)
	page = append(page, 0, 0, 0, 0, 1, byte(len(packet)))
	page = append(page, packet...)
	var sum uint32
	for _, b := range page {
		sum ^= uint32(b) << 24
		for range 8 {
			if sum&(1<<31) != 0 {
				sum = sum<<1 ^ 0x04c11db7
			} else {
				sum <<= 1
			}
		}
	}
	binary.LittleEndian.PutUint32(page[22:], sum)
	return page
}
