package api

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"kurir/address"
	"kurir/wire"
)

// CheckContactsInput asks who is on WhatsApp.
type CheckContactsInput struct {
	SessionPath
	Body struct {
		Numbers []string `json:"numbers" minItems:"1" maxItems:"100" doc:"Phone numbers with country code" example:"[\"6281234567890\"]"`
	}
}

// CheckedContact says whether a number is on WhatsApp.
type CheckedContact struct {
	Number string  `json:"number" doc:"As it was asked for" example:"6281234567890"`
	Exists bool    `json:"exists"`
	JID    *string `json:"jid" doc:"Its address, null unless it exists" example:"6281234567890@s.whatsapp.net"`
	LID    *string `json:"lid" doc:"WhatsApp's pseudonymous ID, null if unknown"`
}

// CheckedContacts answers in the order of the question.
type CheckedContacts struct {
	Contacts []CheckedContact `json:"contacts"`
}

func (a *API) checkContacts(ctx context.Context, in *CheckContactsInput) (*Reply[CheckedContacts], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	asked := wire.Numbers{}
	for i, text := range in.Body.Numbers {
		number, err := parseNumber(fmt.Sprintf("numbers[%d]", i), text)
		if err != nil {
			return nil, err
		}
		asked.Numbers = append(asked.Numbers, number)
	}
	checked, err := pass(ctx, a, s, wire.CheckContacts, asked)
	if err != nil {
		return nil, err
	}
	if len(checked.Numbers) != len(asked.Numbers) {
		return nil, errBadWorkerAnswer.WithCause(fmt.Errorf("%d numbers checked of %d", len(checked.Numbers), len(asked.Numbers)))
	}
	answer := CheckedContacts{}
	for i, c := range checked.Numbers {
		if c.Number != asked.Numbers[i] || c.Exists != (c.JID != nil) {
			return nil, errBadWorkerAnswer.WithCause(fmt.Errorf("number %d is not what was asked for", i))
		}
		answer.Contacts = append(answer.Contacts, CheckedContact{Number: in.Body.Numbers[i], Exists: c.Exists, JID: c.JID, LID: c.LID})
	}
	return reply(answer), nil
}

// parseNumber reads a phone number, and returns its digits.
func parseNumber(field, text string) (string, error) {
	jid, err := parsePerson(field, text)
	if err != nil {
		return "", err
	}
	digits, ok := strings.CutSuffix(jid, "@"+address.Person)
	if !ok {
		_, err = parsePerson(field, "") // says what is expected
	}
	return digits, err
}

// ContactsInput asks for a page of contacts.
type ContactsInput struct {
	SessionPath
	JIDPage
}

// ContactResource is what the session's phone knows of somebody.
type ContactResource struct {
	JID   string  `json:"jid" example:"6281234567890@s.whatsapp.net"`
	Phone *string `json:"phone" doc:"Null if it cannot be resolved" example:"+6281234567890"`
	LID   *string `json:"lid" doc:"WhatsApp's pseudonymous ID, null if unknown"`
	Name  *string `json:"name" doc:"Null if unknown" example:"Sari"`
	About *string `json:"about" doc:"What the person says of himself; null if unknown"`
}

// ContactList is a page of contacts.
type ContactList struct {
	Contacts   []ContactResource `json:"contacts"`
	NextCursor *string           `json:"nextCursor"`
}

func (a *API) listContacts(ctx context.Context, in *ContactsInput) (*Reply[ContactList], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	page, err := in.page()
	if err != nil {
		return nil, err
	}
	people, err := pass(ctx, a, s, wire.ListContacts, page)
	if err != nil {
		return nil, err
	}
	list, next := cut(people.Contacts, in.JIDPage, people.More, func(p wire.Person) string { return p.JID })
	answer := ContactList{Contacts: []ContactResource{}, NextCursor: next}
	for _, p := range list {
		answer.Contacts = append(answer.Contacts, ContactResource(p))
	}
	return reply(answer), nil
}

func (a *API) getContact(ctx context.Context, in *SessionContactPath) (*Reply[ContactResource], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	jid, err := parsePerson("address", in.Address)
	if err != nil {
		return nil, err
	}
	p, err := pass(ctx, a, s, wire.GetContact, wire.Address{JID: jid})
	if err != nil {
		return nil, err
	}
	return reply(ContactResource(p)), nil
}

// ContactPicture is where WhatsApp shows a profile picture.
type ContactPicture struct {
	URL *string `json:"url" doc:"WhatsApp's own, good for some hours. Null: there is none, or none that the session may see"`
	ID  *string `json:"id" doc:"Changes with the picture"`
}

const maxURL = 2048

// contactPicture answers the network's URL as it is. Nobody here fetches it.
func (a *API) contactPicture(ctx context.Context, in *SessionContactPath) (*Reply[ContactPicture], error) {
	s, err := a.ownSession(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	jid, err := parsePerson("address", in.Address)
	if err != nil {
		return nil, err
	}
	p, err := pass(ctx, a, s, wire.GetPicture, wire.Address{JID: jid})
	if err != nil {
		return nil, err
	}
	if p.URL != nil {
		u, err := url.Parse(*p.URL)
		if err != nil || len(*p.URL) > maxURL || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, errBadWorkerAnswer.WithCause(fmt.Errorf("a picture's URL that is none"))
		}
	}
	return reply(ContactPicture(p)), nil
}
