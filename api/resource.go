package api

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
)

// Body is the envelope of a success.
type Body[T any] struct {
	Success bool `json:"success" enum:"true" doc:"Always true"`
	Data    T    `json:"data"`
}

// Reply is an answer with nothing but a body.
type Reply[T any] struct {
	Body Body[T]
}

func reply[T any](data T) *Reply[T] { return &Reply[T]{Body: Body[T]{Success: true, Data: data}} }

// Started answers a call that started work.
type Started[T any] struct {
	Status            int
	Location          string `header:"Location" doc:"Where the job can be read"`
	PreferenceApplied string `header:"Preference-Applied" doc:"The part of Prefer that was honoured"`
	Body              Body[T]
}

func started[T any](status int, job uuid.UUID, preference string, data T) *Started[T] {
	return &Started[T]{Status: status, Location: basePath + "/jobs/" + job.String(), PreferenceApplied: preference,
		Body: Body[T]{Success: true, Data: data}}
}

// Page asks for a part of a list.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"How many at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"nextCursor of the page before"`
}

// after reads the cursor: the last ID of the page before.
func (p Page) after() (uuid.UUID, error) {
	if p.Cursor == "" {
		return uuid.Nil, nil
	}
	return decodeCursor(p.Cursor)
}

// next is the cursor of the page after one that ends with the given ID, nil if that was the last page.
func (p Page) next(count int, last uuid.UUID) *string {
	if count <= p.Limit {
		return nil
	}
	cursor := encodeCursor(last)
	return &cursor
}

// first cuts a list that was read with one row more than asked for.
func first[T any](list []T, limit int) []T { return list[:min(len(list), limit)] }

// SessionPath names a session.
type SessionPath struct {
	ID string `path:"id" maxLength:"64" doc:"The session's ID" example:"shop"`
}

// idOf reads a UUID from a path. What is none names nothing.
func idOf(text string, absent *fault.Error) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return uuid.Nil, absent
	}
	return id, nil
}

// found turns "no rows" into the resource's own 404, and other errors into a 503.
func found(err error, absent *fault.Error) error {
	ok, err := models.Found(err)
	switch {
	case err != nil:
		return databaseFault(err)
	case !ok:
		return absent
	}
	return nil
}

// inside names the part of the body that the fields of a fault belong to.
func inside(part string, err error) error {
	var f *fault.Error
	if !errors.As(err, &f) || len(f.Details) == 0 {
		return err
	}
	c := *f
	c.Details = slices.Clone(f.Details)
	for i := range c.Details {
		c.Details[i].Field = part + "." + c.Details[i].Field
	}
	c.Sentence = c.Details[0].Field + ": " + c.Details[0].Message
	return &c
}

// stored lets faults through and calls every other error of a transaction the database's.
func stored(err error) error {
	if err == nil || fault.Of(err) != fault.Internal || models.IsBroken(err) {
		return err
	}
	return databaseFault(err)
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
