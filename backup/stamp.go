// Package backup puts Kurir's database into one file and brings it back, by PostgreSQL's own pg_dump, pg_restore and psql. What a
// database needs that was put back to a state of the past is models.Recovery; media are in a store of their own, and are not
// known here.
package backup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Stamp says what a backup is of. It is the file's first line, so that people can read it; what follows is an archive of pg_dump's
// in its custom format, which `tail -n +2` gives to any pg_restore.
type Stamp struct {
	Kurir    string    `json:"kurir"`    // version of the program that wrote it
	Schema   string    `json:"schema"`   // number of the last migration
	TakenAt  time.Time `json:"takenAt"`  // of the snapshot, by PostgreSQL's clock
	Postgres int       `json:"postgres"` // version of the server, as 170002
	Tool     int       `json:"pgDump"`   // major version of pg_dump

	Credentials []Credentials `json:"credentials"` // of linked phones
}

const (
	magic      = "kurir backup 1 "
	plainMagic = "PGDMP" // of an archive without our line
	longest    = 4096
)

func (s Stamp) write(w io.Writer) error {
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", magic, line)
	return err
}

var (
	errNoBackup = errors.New("this is no backup of Kurir's: it does not begin with `" + magic + "`")
	errPlain    = errors.New("this is an archive of pg_dump without Kurir's first line: bring it back with pg_restore, then run `kurir restore --recovered`")
)

// ReadStamp reads the first line of a backup, and leaves what follows to be read.
func ReadStamp(r *bufio.Reader) (s Stamp, err error) {
	head, _ := r.Peek(len(magic)) // less is none of ours
	switch {
	case bytes.HasPrefix(head, []byte(plainMagic)):
		return s, errPlain
	case string(head) != magic:
		return s, errNoBackup
	}
	line, err := r.ReadSlice('\n')
	if err != nil || len(line) > longest {
		return s, fmt.Errorf("%w, and a line that can be read", errNoBackup)
	}
	if err := json.Unmarshal(line[len(magic):], &s); err != nil {
		return s, fmt.Errorf("%w, and a line that can be read: %w", errNoBackup, err)
	}
	if s.Schema == "" || s.TakenAt.IsZero() {
		return s, fmt.Errorf("%w, with schema and time", errNoBackup)
	}
	return s, nil
}

// schemas are those that a backup holds.
func (s Stamp) schemas() []string {
	list := []string{"public"}
	for _, c := range s.Credentials {
		list = append(list, c.Schema)
	}
	return list
}
