package simnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// The journal is what a network remembers over a restart: one JSON object a line, appended. Links, unlinks, bans and
// shown messages are written within flushInterval; a kill loses at most that. Events that were not acknowledged
// are written at Close only. A torn last line, which a kill can leave, is cut off.

// Operations of journal entries.
const (
	opLink    = "link"
	opUnlink  = "unlink"
	opBan     = "ban"
	opShown   = "shown"
	opPending = "pending" // the events that follow are all that is not acknowledged
	opEvent   = "event"
	opGroup   = "group"   // as it is from here on
	opContact = "contact" // the name by which a session's phone knows a number
)

type entry struct {
	Op      string `json:"op"`
	Session string `json:"session,omitempty"`
	Number  string `json:"number,omitempty"` // linked, or of the phone that shows
	Shown   *Shown `json:"shown,omitempty"`
	Event   *Event `json:"event,omitempty"`
	Group   *Group `json:"group,omitempty"`
	Name    string `json:"name,omitempty"`
}

const flushInterval = 100 * time.Millisecond

// journal appends entries. A nil journal keeps nothing.
type journal struct {
	file *os.File
	stop chan struct{}
	done chan struct{}

	mu  sync.Mutex
	buf bytes.Buffer
	err error // the first one; nothing is written after it
}

// openJournal replays the file at path, which need not exist, and opens it for more.
func openJournal(path string, replay func(entry) error) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the simulated network's journal: %w", err)
	}
	if err := replayFile(file, replay); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("read the simulated network's journal %s: %w", path, err)
	}
	j := &journal{file: file, stop: make(chan struct{}), done: make(chan struct{})}
	go j.run()
	return j, nil
}

// replayFile hands every entry on and leaves the file's position after the last whole one.
func replayFile(file *os.File, replay func(entry) error) error {
	data, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	good := bytes.LastIndexByte(data, '\n') + 1
	number := 0
	for line := range bytes.Lines(data[:good]) {
		number++
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if err := replay(e); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := file.Truncate(int64(good)); err != nil {
		return err
	}
	_, err = file.Seek(int64(good), io.SeekStart)
	return err
}

func (j *journal) add(e entry) {
	if j == nil {
		return
	}
	line, err := json.Marshal(&e)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.err = errors.Join(j.err, err)
		return
	}
	j.buf.Write(line)
	j.buf.WriteByte('\n')
}

func (j *journal) run() {
	defer close(j.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	var spare bytes.Buffer
	for {
		select {
		case <-tick.C:
			j.flush(&spare)
		case <-j.stop:
			j.flush(&spare)
			return
		}
	}
}

func (j *journal) flush(spare *bytes.Buffer) {
	spare.Reset()
	j.mu.Lock()
	j.buf, *spare = *spare, j.buf
	failed := j.err != nil
	j.mu.Unlock()
	if failed || spare.Len() == 0 {
		return
	}
	if _, err := j.file.Write(spare.Bytes()); err != nil {
		j.mu.Lock()
		j.err = fmt.Errorf("write the simulated network's journal: %w", err)
		j.mu.Unlock()
	}
}

// close writes what is left and reports the first error of all writes.
func (j *journal) close() error {
	close(j.stop)
	<-j.done
	return errors.Join(j.err, j.file.Close())
}

// restore applies one entry of an earlier run.
func (n *Network) restore(e entry) error {
	switch e.Op {
	case opLink:
		s := n.session(e.Session, true)
		s.linked, s.banned, s.number = true, false, e.Number
		n.phones.get(e.Number).owner.Store(s)
	case opUnlink:
		s := n.session(e.Session, true)
		if s.banned {
			s.salt++
		}
		s.linked, s.banned = false, false
		s.events.forget()
	case opBan:
		s := n.session(e.Session, true)
		s.linked, s.banned = false, true
		s.events.forget()
	case opShown:
		if e.Shown == nil {
			return errors.New("shown without a message")
		}
		n.show(n.session(e.Shown.SessionID, true), n.phones.get(e.Number), *e.Shown)
	case opPending:
		for _, s := range n.all() {
			s.events.forget()
		}
	case opEvent:
		if e.Event == nil {
			return errors.New("event without an event")
		}
		n.session(e.Session, true).events.push(*e.Event)
	case opGroup:
		if e.Group == nil {
			return errors.New("group without a group")
		}
		n.groups.put(e.Group)
	case opContact:
		n.session(e.Session, true).knows(e.Number, e.Name)
	default:
		return fmt.Errorf("unknown entry %q", e.Op)
	}
	return nil
}

// writePending journals the events that nobody acknowledged.
func (n *Network) writePending() {
	n.journal.add(entry{Op: opPending})
	for _, s := range n.all() {
		s.mu.Lock()
		s.events.unacked(func(e Event) { n.journal.add(entry{Op: opEvent, Session: s.id, Event: &e}) })
		s.mu.Unlock()
	}
}
