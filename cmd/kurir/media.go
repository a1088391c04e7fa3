package main

import (
	"context"
	"fmt"

	"kurir/egress"
	"kurir/media"
	"kurir/message"
)

type byteSize = message.Size

// rulesOfMedia are WhatsApp's, with sizes of the operator's.
func (c *config) rulesOfMedia() (media.Rules, error) {
	rules := media.DefaultRules()
	for kind, size := range map[string]byteSize{message.Image: c.MediaImage, message.Video: c.MediaVideo, message.Audio: c.MediaAudio,
		message.Voice: c.MediaAudio, message.Document: c.MediaDocument, message.Sticker: c.MediaSticker} {
		rule := rules[kind]
		rule.Max = int64(size)
		rules[kind] = rule
		if size > c.MediaDocument {
			return nil, fmt.Errorf("no kind may be larger than a document")
		}
	}
	return rules, nil
}

// openMedia opens the media store.
func (p *parts) openMedia(ctx context.Context) (err error) {
	p.media, err = media.Open(ctx, media.Config{URL: p.cfg.MediaURL, Rules: p.cfg.mediaRules}, p.db, p.log)
	if err != nil {
		return fmt.Errorf("MEDIA_URL: %w", err)
	}
	p.onClose(func() { _ = p.media.Close() })
	return nil
}

// fetcher takes media in that tenants name by URL.
func (p *parts) fetcher() *media.Fetcher {
	return media.NewFetcher(p.media, egress.NewGuard(p.cfg.mediaAllow), media.FetchConfig{})
}
