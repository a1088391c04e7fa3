package simulator_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"kurir/wire"
	"kurir/worker"
	"kurir/worker/simulator"
	"kurir/worker/simulator/simnet"
)

// phone is GET /phones/{number}.
func (f *farSide) phone(t *testing.T, number string) simnet.PhoneState {
	t.Helper()
	resp, err := http.Get(f.url + "/phones/" + number)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	var state simnet.PhoneState
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&state))
	return state
}

func (f *farSide) SeenPresence(t *testing.T, at, of string) string {
	return f.phone(t, at).Presence[of]
}
func (f *farSide) Read(t *testing.T, number string) []string { return f.phone(t, number).Read }
func (f *farSide) Pair(t *testing.T, number, code string) {
	f.post(t, "/phones/"+number+"/pair", map[string]any{"code": code}, nil)
}

func opened(t *testing.T, n *farSide, id string) worker.Conn {
	t.Helper()
	e := simulator.New(simulator.Config{SimnetURL: n.url, WorkerID: "w", BackoffMin: 10 * time.Millisecond})
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	c, err := e.Open(context.Background(), session(id), func(e worker.Event) {
		if e.Ack != nil {
			e.Ack()
		}
	})
	require.NoError(t, err)
	return c
}

func connected(t *testing.T, n *farSide, id string) worker.Conn {
	t.Helper()
	c := opened(t, n, id)
	require.Eventually(t, func() bool { return c.State().Status == wire.StatusConnected }, patience, time.Millisecond)
	return c
}

// A question that the network ignores ends with its context, or with the connection, and nobody waits for ever.
func TestQuestionsWithoutAnAnswer(t *testing.T) {
	n := start(t, simnet.Config{})
	c := connected(t, n, "s").(worker.Contacts)
	n.post(t, "/config", map[string]any{"ignoreAskNext": 2}, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := c.CheckContacts(ctx, wire.Numbers{Numbers: []string{"628"}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, worker.ErrNotConnected, "it may have been heard")

	lost := make(chan error, 1)
	go func() {
		_, err := c.CheckContacts(context.Background(), wire.Numbers{Numbers: []string{"628"}})
		lost <- err
	}()
	require.Eventually(t, func() bool {
		resp, err := http.Get(n.url + "/config")
		require.NoError(t, err)
		defer func() { _ = resp.Body.Close() }()
		var left struct{ IgnoreAskNext int }
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&left))
		return left.IgnoreAskNext == 0
	}, patience, time.Millisecond)
	n.Drop(t, "s")
	require.Error(t, <-lost)
	require.Eventually(t, func() bool {
		_, err := c.CheckContacts(context.Background(), wire.Numbers{Numbers: []string{"628"}})
		return err == nil
	}, patience, time.Millisecond)
}

func TestPicturesAreServed(t *testing.T) {
	n := start(t, simnet.Config{})
	c := connected(t, n, "s").(worker.Contacts)
	p, err := c.Picture(context.Background(), wire.Address{JID: "6281@s.whatsapp.net"})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(*p.URL, n.url+"/"), *p.URL)
	resp, err := http.Get(*p.URL)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, []any{200, "image/png"}, []any{resp.StatusCode, resp.Header.Get("Content-Type")})
	p, err = c.Picture(context.Background(), wire.Address{JID: "6289@s.whatsapp.net"})
	require.NoError(t, err)
	require.Nil(t, p.URL)
}

func TestTheSimulatorHasNoLabels(t *testing.T) {
	_, able := opened(t, start(t, simnet.Config{}), "s").(worker.Labeler)
	require.False(t, able)
}
