package webhook

import "time"

// Call is the data of call.received: somebody calls the session's number. Kurir never takes a call.
type Call struct {
	ID       string  `json:"id" doc:"WhatsApp's name of the call; a call is one event"`
	Chat     string  `json:"chat" doc:"JID of the conversation, of a group for a group call" example:"6281234567890@s.whatsapp.net"`
	From     Contact `json:"from" doc:"Who calls"`
	Video    bool    `json:"video"`
	Group    bool    `json:"group"`
	Rejected bool    `json:"rejected" doc:"Refused for you, as the session's settings say"`
}

// Group is the data of group.updated.
type Group struct {
	ID          string    `json:"id" doc:"JID of the group" example:"120363041234567890@g.us"`
	Action      string    `json:"action" enum:"created,added,removed,left,promoted,demoted,changed" doc:"created: it is new, or the session was added to it; changed: name or description"`
	By          *Contact  `json:"by" doc:"Who did it, null where WhatsApp does not tell"`
	Members     []Contact `json:"members" doc:"Whom it happened to"`
	Subject     *string   `json:"subject" doc:"The new name, null if it has not changed"`
	Description *string   `json:"description" doc:"The new description, null if it has not changed"`
}

// Presence is the data of presence.updated: it is of the moment, and may be left out when there is more to tell than can be told.
type Presence struct {
	Chat     string     `json:"chat" doc:"JID of the conversation" example:"6281234567890@s.whatsapp.net"`
	From     Contact    `json:"from" doc:"Whom it is about"`
	State    string     `json:"state" enum:"available,unavailable,composing,recording,paused"`
	LastSeen *time.Time `json:"lastSeen" doc:"Of an unavailable one, where the person shows it"`
}
