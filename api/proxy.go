package api

import (
	"encoding/json"
	"errors"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"kurir/egress"
	"kurir/fault"
	"kurir/models"
)

// ProxyChange is the URL of a session's proxy; null or an empty text removes it. It is nil where the request does not speak of it.
type ProxyChange json.RawMessage

// UnmarshalJSON keeps the text, null too.
func (p *ProxyChange) UnmarshalJSON(text []byte) error {
	*p = append((*p)[:0], text...)
	return nil
}

// Schema documents it.
func (ProxyChange) Schema(huma.Registry) *huma.Schema {
	most := egress.MaxURLBytes
	return &huma.Schema{Type: huma.TypeString, Nullable: true, MaxLength: &most, Examples: []any{"socks5://user:password@proxy.example.com:1080"},
		Description: "By way of which the session reaches WhatsApp: http://, https://, socks5:// or socks5h://, with user and password where needed (what is special in a URL as %40). The worker connects anew with it, within 10 s or so. Left out: as it is; null or empty: none"}
}

// hidden stands for user name and password of a proxy.
const hidden = "***"

// sealed is what is kept of a proxy: nothing of none.
func (a *API) sealed(p ProxyChange) ([]byte, error) {
	if p == nil {
		return nil, nil
	}
	var raw *string
	if err := json.Unmarshal(p, &raw); err != nil {
		return nil, fault.Field("proxy", "expected a URL, or null")
	}
	if raw == nil || *raw == "" { // some clients cannot say null
		return nil, nil
	}
	u, err := a.proxies.CheckProxy(*raw)
	if err == nil && u.User.Username() == hidden {
		err = errors.New("URL has " + hidden + ", which stands for user name and password where they are not shown")
	}
	if err != nil {
		return nil, fault.Field("proxy", err.Error())
	}
	return a.vault.Seal(models.SealProxy, []byte(*raw)), nil
}

// shownProxy is a session's proxy without user name and password, nil if there is none.
func (a *API) shownProxy(s *models.Session) *string {
	if s.Proxy == nil {
		return nil
	}
	shown := hidden
	raw, err := a.vault.Open(models.SealProxy, s.Proxy)
	if err != nil {
		a.log.Error("the proxy of a session cannot be read", "session", s.UID, "error", err)
		return &shown
	}
	if u, err := url.Parse(string(raw)); err == nil {
		shown = u.Scheme + "://" + u.Host
		if u.User != nil {
			shown = u.Scheme + "://" + hidden + "@" + u.Host
		}
	}
	return &shown
}
