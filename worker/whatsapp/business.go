package whatsapp

import (
	"cmp"
	"strings"

	"go.mau.fi/whatsmeow/proto/waE2E"

	"kurir/message"
)

// parseBusiness reads what businesses send, with buttons and lists that phones alone can show: as its text, or as what stands above
// it, with the text as the caption.
func parseBusiness(m *waE2E.Message, s *said) bool {
	head, words, info := ofTemplate(cmp.Or(m.GetTemplateMessage(), m.GetHighlyStructuredMessage().GetHydratedHsm()))
	switch {
	case m.GetInteractiveMessage() != nil:
		head, words, info = ofInteractive(m.GetInteractiveMessage())
	case m.GetButtonsMessage() != nil:
		v := m.GetButtonsMessage()
		head = headOf(v)
		words, info = []string{v.GetText(), v.GetContentText(), v.GetFooterText()}, v.GetContextInfo()
	case m.GetListMessage() != nil:
		v := m.GetListMessage()
		words, info = []string{v.GetTitle(), v.GetDescription(), v.GetFooterText()}, v.GetContextInfo()
	}
	text := joined(words)
	switch {
	case parseMedium(head, s):
		s.Caption = text
	case parseThing(head, s):
		s.Message = text
	case text != "":
		s.Type, s.Message = message.Text, text
	default:
		return false
	}
	s.info = info
	return true
}

// headOf is what stands above a text, as a message of its own.
func headOf(above interface {
	GetDocumentMessage() *waE2E.DocumentMessage
	GetImageMessage() *waE2E.ImageMessage
	GetVideoMessage() *waE2E.VideoMessage
	GetLocationMessage() *waE2E.LocationMessage
}) *waE2E.Message {
	return &waE2E.Message{DocumentMessage: above.GetDocumentMessage(), ImageMessage: above.GetImageMessage(), VideoMessage: above.GetVideoMessage(),
		LocationMessage: above.GetLocationMessage()}
}

func ofTemplate(t *waE2E.TemplateMessage) (head *waE2E.Message, words []string, info *waE2E.ContextInfo) {
	if t.GetInteractiveMessageTemplate() != nil {
		head, words, info = ofInteractive(t.GetInteractiveMessageTemplate())
		return head, words, cmp.Or(t.GetContextInfo(), info)
	}
	v := cmp.Or(t.GetHydratedTemplate(), t.GetHydratedFourRowTemplate())
	head = headOf(v)
	return head, []string{v.GetHydratedTitleText(), v.GetHydratedContentText(), v.GetHydratedFooterText()}, t.GetContextInfo()
}

func ofInteractive(v *waE2E.InteractiveMessage) (head *waE2E.Message, words []string, info *waE2E.ContextInfo) {
	h := v.GetHeader()
	head = headOf(h)
	words = []string{h.GetTitle(), h.GetSubtitle(), v.GetBody().GetText(), v.GetFooter().GetText()}
	for _, card := range v.GetCarouselMessage().GetCards() {
		words = append(words, card.GetHeader().GetTitle(), card.GetBody().GetText())
	}
	return head, words, v.GetContextInfo()
}

// joined are the texts that say something, one on each line.
func joined(texts []string) string {
	var said []string
	for _, text := range texts {
		if text != "" {
			said = append(said, text)
		}
	}
	return strings.Join(said, "\n")
}
