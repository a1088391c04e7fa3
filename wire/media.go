package wire

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"kurir/message"
)

// HeaderSession names the session that a medium is for: only the worker that holds it may ask.
const HeaderSession = "X-Kurir-Session"

// MediaOwner is in whose name a worker asks for a medium, or hands one over.
type MediaOwner struct {
	WorkerID  string
	Secret    string
	Term      int64
	SessionID string // the session's uid
}

// Content is a medium as it comes. Close it.
type Content struct {
	io.ReadCloser
	MIMEType string // of Send.Media, which knows better, it may be a mere application/octet-stream here
	Size     int64
}

// Media opens a medium that is to be sent, for reading as it comes. CodeMediaNotFound says that it is gone for good. ctx has
// to live as long as the reading does; a content that ends before its size makes the last Read fail.
func (g *Gateway) Media(ctx context.Context, o MediaOwner, mediaID string) (*Content, error) {
	res, err := g.stream(ctx, http.MethodGet, o, "/"+url.PathEscape(mediaID), nil)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, fmt.Errorf("gateway: %w", refusal(res))
	}
	return &Content{ReadCloser: res.Body, MIMEType: res.Header.Get("Content-Type"), Size: res.ContentLength}, nil
}

// PutMedia hands over a medium that came in, before the message that it belongs to is reported, and answers what the message
// then holds of it. It may be repeated: the same content is the same medium. CodeMediaTooLarge and
// CodeMediaEmpty are final.
func (g *Gateway) PutMedia(ctx context.Context, o MediaOwner, content io.Reader) (message.Media, error) {
	res, err := g.stream(ctx, http.MethodPost, o, "", content)
	if err != nil {
		return message.Media{}, fmt.Errorf("gateway: %w", err)
	}
	defer res.Body.Close()
	var m message.Media
	if err := answered(res, &m); err != nil {
		return message.Media{}, fmt.Errorf("gateway: %w", err)
	}
	if m.ID == "" {
		return message.Media{}, fmt.Errorf("gateway: %w", &Error{Status: res.StatusCode, Code: CodeBadAnswer, Message: "the answer names no medium"})
	}
	return m, nil
}

func (g *Gateway) stream(ctx context.Context, method string, o MediaOwner, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, g.base+"/"+url.PathEscape(o.WorkerID)+"/media"+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	req.Header.Set(HeaderSecret, o.Secret)
	req.Header.Set(HeaderTerm, strconv.FormatInt(o.Term, 10))
	req.Header.Set(HeaderSession, o.SessionID)
	req.Header.Set("Accept-Encoding", "identity")
	if body != nil {
		req.Header.Set("Content-Type", "application/octet-stream") // the gateway looks into the content itself
	}
	return g.http.Do(req)
}

// answered reads an answer in the protocol's form.
func answered(res *http.Response, out any) error {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return &Error{Status: res.StatusCode, Code: CodeBadAnswer, Message: "the answer is over 1 MB"}
	}
	return open(res.StatusCode, body, out)
}

func refusal(res *http.Response) error {
	if err := answered(res, nil); err != nil {
		return err
	}
	return &Error{Status: res.StatusCode, Code: CodeBadAnswer, Message: "the answer is no content"}
}
