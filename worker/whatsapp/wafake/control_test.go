//go:build !race

package wafake_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/worker/whatsapp/wafake"
)

func TestTheNetworkTakesOrders(t *testing.T) {
	t.Parallel()
	s := wafake.Start(t)
	control := httptest.NewServer(s.Control())
	t.Cleanup(control.Close)
	order := func(what string, status int, into any, values ...string) {
		t.Helper()
		form := url.Values{"number": {"4917012345"}}
		for i := 0; i < len(values); i += 2 {
			form.Set(values[i], values[i+1])
		}
		answer, err := http.PostForm(control.URL+"/"+what, form)
		require.NoError(t, err)
		defer func() { _ = answer.Body.Close() }()
		require.Equal(t, status, answer.StatusCode)
		require.NoError(t, json.NewDecoder(answer.Body).Decode(into))
	}
	sub := follow(t, s, whatsmeow.NewClient(wafake.NewDevice(), nil), "worker")
	require.NoError(t, sub.Connect())
	var device, id string
	order("scan", http.StatusBadRequest, &map[string]string{}, "qr", "nonsense")
	order("scan", http.StatusOK, &device, "qr", await[*events.QR](sub).Codes[0])
	await[*events.Connected](sub)
	require.Equal(t, sub.Store.GetJID().String(), device)
	order("write", http.StatusOK, &id, "number", "4917099999", "to", "4917012345", "text", "by order")
	require.Equal(t, id, await(sub, texted("by order")).Info.ID)
	_, err := person(t, s, "4917012345").Await(id)
	require.NoError(t, err)
	var shown []wafake.Shown
	order("shown", http.StatusOK, &shown)
	require.Equal(t, "by order", shown[0].Text())
	var logins []wafake.Login
	order("logins", http.StatusOK, &logins)
	require.Len(t, logins, 1)
	var dropped int
	order("drop", http.StatusOK, &dropped)
	require.Equal(t, 1, dropped)
	await[*events.Disconnected](sub)
	order("loseack", http.StatusBadRequest, &map[string]string{}, "messages", "many")
}
