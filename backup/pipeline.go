package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// pipeline is pg_restore, which makes a script of an archive, and psql, which runs it.
type pipeline struct {
	restore, psql    *child
	opening, closing []string
	server           int         // version of PostgreSQL
	decide           func() bool // false: it is to be broken off. Once it has said true, it goes through
}

// run returns nil if all of it is committed, and an error if nothing is.
func (p *pipeline) run(stop func()) error {
	script, err := p.psql.StdinPipe()
	if err != nil {
		return err
	}
	answers, err := p.psql.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.psql.Start(); err != nil {
		return p.psql.failed(err)
	}
	err = p.feed(script, bufio.NewReader(answers))
	if err != nil {
		stop() // it may be at something that takes long
	}
	_ = script.Close()
	ended := p.psql.failed(p.psql.Wait())
	if err == nil || ended != nil && (errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF)) { // it took no more, and says why
		return ended
	}
	return err
}

// ready is what psql says when it has come to the end of the script.
const ready = "ready"

func (p *pipeline) feed(script io.Writer, answers *bufio.Reader) error {
	w := bufio.NewWriterSize(script, 64<<10)
	if err := say(w, p.opening...); err != nil {
		return err
	}
	if err := p.replay(w); err != nil {
		return err
	}
	if err := say(w, p.closing...); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\\echo %s\n", ready); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if _, err := answers.ReadString('\n'); err != nil {
		return err
	}
	if !p.decide() {
		return context.Canceled
	}
	return errors.Join(say(w, "COMMIT"), w.Flush())
}

// replay has pg_restore write its script.
func (p *pipeline) replay(w *bufio.Writer) error {
	sql, err := p.restore.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.restore.Start(); err != nil {
		return p.restore.failed(err)
	}
	if err := pass(w, sql, p.server); err != nil {
		_ = p.restore.Process.Kill() // nobody takes what it makes
		_ = p.restore.Wait()
		return err
	}
	return p.restore.failed(p.restore.Wait())
}

func say(w io.Writer, statements ...string) error {
	for _, s := range statements {
		if _, err := fmt.Fprintf(w, "%s;\n", s); err != nil {
			return err
		}
	}
	return nil
}

// preamble is how many lines a script of pg_restore's has at most before it begins with what is restored.
const preamble = 64

// pass copies the script. A pg_restore that is younger than the server sets what that does not know.
func pass(w *bufio.Writer, sql io.Reader, server int) error {
	r := bufio.NewReaderSize(sql, 64<<10)
	for range preamble {
		line, err := r.ReadString('\n')
		if server >= 170000 || !strings.HasPrefix(line, "SET transaction_timeout") {
			if _, err := w.WriteString(line); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if strings.HasPrefix(line, "SELECT pg_catalog.set_config('search_path'") {
			break
		}
	}
	_, err := io.Copy(w, r)
	return err
}
