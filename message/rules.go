package message

import "slices"

// Limits of WhatsApp, in characters where nothing else is said.
const (
	MaxText         = 65_536
	MaxCaption      = 1_024
	MaxFilename     = 255
	MaxQuestion     = 255
	MaxOption       = 100
	MinOptions      = 2
	MaxOptions      = 12
	MaxContacts     = 50
	MaxMentions     = 256
	MaxVCard        = 16_384
	MaxMetadata     = 1_024 // bytes
	MaxAheadSeconds = 30 * 24 * 60 * 60
)

// Rule is what a type of message takes beside the fields that all take.
type Rule struct {
	Takes []string   // fields, the needed ones too
	Needs [][]string // of each group exactly one
}

// CommonFields are those that every type takes.
func CommonFields() []string {
	return []string{"to", "type", "sendAt", "expiresAt", "ttl", "priority", "metadata"}
}

var (
	content  = []string{"replyTo", "mentions", "forwarded"}
	medium   = []string{"mediaUrl", "mediaBase64", "mediaId"}
	hint     = []string{"mimetype"}
	about    = []string{"messageId"}
	onlyText = []string{"message"}
)

var rules = map[string]Rule{
	Text:     {Takes: takes(onlyText, content, []string{"linkPreview"}), Needs: [][]string{onlyText, {"to"}}},
	Image:    {Takes: takes(medium, hint, content, []string{"caption", "filename"}), Needs: [][]string{medium, {"to"}}},
	Video:    {Takes: takes(medium, hint, content, []string{"caption", "filename"}), Needs: [][]string{medium, {"to"}}},
	Audio:    {Takes: takes(medium, hint, content, []string{"filename"}), Needs: [][]string{medium, {"to"}}},
	Voice:    {Takes: takes(medium, hint, content), Needs: [][]string{medium, {"to"}}},
	Document: {Takes: takes(medium, hint, content, []string{"caption", "filename"}), Needs: [][]string{medium, {"to"}}},
	Sticker:  {Takes: takes(medium, hint, content), Needs: [][]string{medium, {"to"}}},
	Location: {Takes: takes(content, []string{"location"}), Needs: [][]string{{"location"}, {"to"}}},
	Contact:  {Takes: takes(content, []string{"contact", "contacts"}), Needs: [][]string{{"contact", "contacts"}, {"to"}}},
	Poll:     {Takes: takes(content, []string{"poll"}), Needs: [][]string{{"poll"}, {"to"}}},
	Reaction: {Takes: takes(about, onlyText), Needs: [][]string{about, onlyText}},
	Edit:     {Takes: takes(about, onlyText, []string{"mentions"}), Needs: [][]string{about, onlyText}},
	Delete:   {Takes: about, Needs: [][]string{about}},
}

func takes(groups ...[]string) []string { return slices.Concat(groups...) }

// RuleOf returns the rule of a type, false for what cannot be sent.
func RuleOf(kind string) (Rule, bool) {
	r, ok := rules[kind]
	return r, ok
}

// present lists the fields that a draft has, in the order of its type's definition.
func (d *Draft) present() []string {
	var list []string
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"to", d.To != ""}, {"message", d.Message != nil}, {"linkPreview", d.LinkPreview != nil}, {"replyTo", d.ReplyTo != ""},
		{"mentions", len(d.Mentions) > 0}, {"forwarded", d.Forwarded}, {"mediaUrl", d.MediaURL != ""},
		{"mediaBase64", d.MediaBase64 != ""}, {"mediaId", d.MediaID != ""}, {"mimetype", d.MIMEType != ""},
		{"caption", d.Caption != ""}, {"filename", d.Filename != ""}, {"location", d.Location != nil}, {"contact", d.Contact != nil},
		{"contacts", len(d.Contacts) > 0}, {"poll", d.Poll != nil}, {"messageId", d.MessageID != ""},
	} {
		if f.has {
			list = append(list, f.name)
		}
	}
	return list
}
