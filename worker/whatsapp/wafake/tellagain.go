package wafake

import (
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// ShowOnce lets somebody send a number what is shown once only, and returns the message's ID. Of the content, which phones alone get,
// its linked devices hear nothing.
func (s *Server) ShowOnce(from, to string) (types.MessageID, error) {
	return s.withheld(from, to, attrs{"type": "view_once"}, nil)
}

// Withhold lets somebody send a number a message that its linked devices do not get: they hear that there is one, and have to ask
// their phone for it.
func (s *Server) Withhold(from, to string, m *waE2E.Message) (types.MessageID, error) {
	return s.withheld(from, to, nil, m)
}

func (s *Server) withheld(from, to string, why attrs, m *waE2E.Message) (types.MessageID, error) {
	p, err := s.Person(from)
	if err != nil {
		return "", err
	}
	phone, err := s.Person(to)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	a, author := s.accounts[phone.Number], s.accounts[p.Number].devices[0]
	id := fmt.Sprintf("WITHHELD%08X", s.number())
	s.mu.Unlock()
	if m != nil {
		source := types.MessageSource{Chat: author.jid().ToNonAD(), Sender: author.jid()}
		phone.change(func() {
			phone.show(&events.Message{Info: types.MessageInfo{MessageSource: source, ID: id, Timestamp: time.Now(), PushName: author.account.name}, Message: m, RawMessage: m})
		})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := node{Attrs: attrs{"id": id, "to": a.jid(), "type": "media"}}
	for _, d := range a.devices {
		if d.id != 0 {
			s.deliver(d, direct(author, a.jid(), d, &n, []node{{Tag: "unavailable", Attrs: why}}))
		}
	}
	return id, nil
}

// tellAgain answers a linked device that asks its phone for messages that it could not read, when the phone has them. They are asked of
// their authors too, who answer as well, but for what was withheld. The phone tells when a message came first; their authors' copies are
// stamped anew.
func (p *Person) tellAgain(e *events.Message) {
	request := e.Message.GetProtocolMessage().GetPeerDataOperationRequestMessage()
	answer := &waE2E.PeerDataOperationRequestResponseMessage{PeerDataOperationRequestType: request.PeerDataOperationRequestType, StanzaID: proto.String(e.Info.ID)}
	for _, one := range request.GetPlaceholderMessageResendRequest() {
		m, err := p.Await(one.GetMessageKey().GetID())
		if err != nil { // it is shown once only
			continue
		}
		raw, err := proto.Marshal(&waWeb.WebMessageInfo{
			Key: p.Client.BuildMessageKey(m.Chat, m.Sender, m.ID), Message: m.Message, PushName: proto.String(m.PushName),
			MessageTimestamp: proto.Uint64(uint64(m.Timestamp.Unix())), //nolint:gosec // after 1970
		})
		if err != nil {
			continue
		}
		answer.PeerDataOperationResult = append(answer.PeerDataOperationResult, &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult{
			PlaceholderMessageResendResponse: &waE2E.PeerDataOperationRequestResponseMessage_PeerDataOperationResult_PlaceholderMessageResendResponse{WebMessageInfoBytes: raw},
		})
	}
	if len(answer.PeerDataOperationResult) == 0 {
		return
	}
	_, _ = p.Send(e.Info.Sender, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{ // a phone that is off answers nobody
		Type: waE2E.ProtocolMessage_PEER_DATA_OPERATION_REQUEST_RESPONSE_MESSAGE.Enum(), PeerDataOperationRequestResponseMessage: answer,
	}}, whatsmeow.SendRequestExtra{Peer: true})
}
