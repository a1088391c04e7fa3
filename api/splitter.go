package api

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"kurir/media"
)

// splitter copies JSON up to the value of a top-level field mediaBase64. Of JSON it knows strings and nesting, no more.
type splitter struct {
	in     *bufio.Reader
	broken *watchedReader
	copy   bytes.Buffer

	depth    int
	inString bool
	escaped  bool
	keyNext  bool // at depth 1: the next string is a name
	keyFrom  int  // where the last name of depth 1 began in the copy
	key      string
	colon    bool // nothing but it stands behind the name
	id       bool // a mediaId was there, or was put there
	taken    bool // ours is
	second   bool // and another one came behind it
}

// watchedReader remembers why reading failed.
type watchedReader struct {
	r   io.Reader
	err error
}

func (w *watchedReader) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

func newSplitter(r io.Reader) *splitter {
	w := &watchedReader{r: r}
	return &splitter{in: bufio.NewReaderSize(w, 32<<10), broken: w}
}

// next copies one byte. It says true when the value of mediaBase64 begins, whose quotation mark it has read and not copied.
func (s *splitter) next() (bool, error) {
	b, err := s.in.ReadByte()
	if err != nil {
		if s.broken.err != nil {
			return false, &media.SourceError{Err: s.broken.err}
		}
		return false, err
	}
	if b == '"' && !s.inString && s.depth == 1 && s.colon && s.key == base64Field {
		if s.id {
			return false, errTwoMedia
		}
		return true, nil
	}
	if s.copy.Len() >= bodyLimit {
		return false, fiber.ErrRequestEntityTooLarge
	}
	s.copy.WriteByte(b)
	if s.inString {
		s.text(b)
	} else {
		s.structure(b)
	}
	return false, nil
}

func (s *splitter) text(b byte) {
	switch {
	case s.escaped:
		s.escaped = false
	case b == '\\':
		s.escaped = true
	case b == '"':
		s.inString = false
		if s.depth == 1 && s.keyNext {
			s.key, s.keyNext, s.colon = string(s.copy.Bytes()[s.keyFrom+1:s.copy.Len()-1]), false, false
			if s.key == "mediaId" {
				s.id, s.second = true, s.taken
			}
		}
	}
}

func (s *splitter) structure(b byte) {
	switch b {
	case ' ', '\t', '\r', '\n':
		return
	case ':':
		s.colon = true
		return
	}
	s.colon = false
	switch b {
	case '"':
		s.inString = true
		if s.depth == 1 && s.keyNext {
			s.keyFrom = s.copy.Len() - 1
		}
	case '{', '[':
		s.depth++
		s.keyNext = s.depth == 1 && b == '{'
	case '}', ']':
		s.depth--
	case ',':
		if s.depth == 1 {
			s.keyNext, s.key = true, ""
		}
	}
}

// replace puts another field in the place of the last name.
func (s *splitter) replace(field string) {
	s.copy.Truncate(s.keyFrom)
	s.copy.WriteString(field)
	s.key, s.id, s.taken = "", true, true
}

// base64Text is the rest of a JSON string whose text is base64, standard or for URLs, with or without padding, line breaks
// and a data URL's prefix.
type base64Text struct {
	in     *bufio.Reader
	ended  bool // its closing quotation mark was read
	padded bool
}

var errNotBase64 = errors.New("not base64")

// decoder reads what the text stands for.
func (t *base64Text) decoder() io.Reader {
	if head, _ := t.in.Peek(5); string(head) == "data:" {
		if err := t.prefix(); err != nil {
			return failing{err}
		}
	}
	return base64.NewDecoder(base64.RawStdEncoding, t)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// longestPrefix is more than any data URL has before its comma.
const longestPrefix = 256

func (t *base64Text) prefix() error {
	var prefix []byte
	for len(prefix) < longestPrefix {
		b, err := t.char()
		if err != nil || t.ended {
			return errors.Join(errNotBase64, err)
		}
		if b == ',' {
			if !bytes.HasSuffix(prefix, []byte(";base64")) {
				return errNotBase64
			}
			return nil
		}
		prefix = append(prefix, b)
	}
	return errNotBase64
}

// Read gives the digits of the text, those for URLs as the standard ones.
func (t *base64Text) Read(p []byte) (n int, err error) {
	for n < len(p) && !t.ended {
		if n > 0 && t.in.Buffered() == 0 {
			return n, nil
		}
		b, err := t.char()
		if err != nil {
			return n, err
		}
		switch {
		case t.ended:
			return n, io.EOF
		case b == '=':
			t.padded = true
			continue
		case b == '\n' || b == '\r' || b == '\t' || b == ' ':
			continue
		case b == '-':
			b = '+'
		case b == '_':
			b = '/'
		}
		if t.padded || !isDigit64(b) {
			return n, errNotBase64
		}
		p[n] = b
		n++
	}
	if t.ended {
		return n, io.EOF
	}
	return n, nil
}

func isDigit64(b byte) bool {
	return b >= 'A' && b <= 'Z' || b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '+' || b == '/'
}

// char reads one character of a JSON string, which has to be ASCII.
func (t *base64Text) char() (byte, error) {
	b, err := t.in.ReadByte()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil || b != '\\' {
		t.ended = err == nil && b == '"'
		return b, err
	}
	if b, err = t.in.ReadByte(); err != nil {
		return 0, io.ErrUnexpectedEOF
	}
	switch b {
	case '/', '\\', '"':
		return b, nil
	case 'n', 'r', 't':
		return '\n', nil
	case 'u':
		digits := make([]byte, 4)
		if _, err := io.ReadFull(t.in, digits); err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		if code, err := strconv.ParseUint(string(digits), 16, 8); err == nil {
			return byte(code), nil
		}
	}
	return 0, errNotBase64
}

// end makes sure that the string was read to its end.
func (t *base64Text) end() error {
	if !t.ended {
		return errBase64
	}
	return nil
}
