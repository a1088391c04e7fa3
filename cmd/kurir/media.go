package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"kurir/egress"
	"kurir/media"
	"kurir/message"
)

// byteSize is a size: a number of bytes, or one with KB or MB, which count in 1,024.
type byteSize int64

// UnmarshalText reads a size.
func (b *byteSize) UnmarshalText(text []byte) error {
	number, unit := strings.ToUpper(strings.TrimSpace(string(text))), int64(1)
	for suffix, size := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20} {
		if rest, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = strings.TrimSpace(rest), size
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > mostMedia/unit {
		return fmt.Errorf("%q is no size", text)
	}
	*b = byteSize(n * unit)
	return nil
}

// mostMedia is what WhatsApp's clients take of a document.
const mostMedia = 2 << 30

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
