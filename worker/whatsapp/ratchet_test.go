package whatsapp

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// People who write to each other at the same moment lose nothing by it, whether they have written before or not.
func TestBothWriteAtOnce(t *testing.T) {
	t.Parallel()
	for name, acquainted := range map[string]bool{"they have keys": true, "they have none": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothWrite(t, acquainted)
		})
	}
}

func bothWrite(t *testing.T, acquainted bool) {
	t.Helper()
	n := newNetwork(t)
	e := n.engine(t)
	ended(t, e)
	h := n.linked(t, e)
	ann := n.person(t, "+491")
	messages := 100
	if acquainted {
		first := sendOf("first")
		h.deliver(first)
		_, err := ann.Await(first.WhatsappID)
		require.NoError(t, err)
		_, err = ann.Write(address(n.of(h.id)), "first")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(h.received()) == 1 }, patience, time.Millisecond, "they have keys")
		messages++
	}
	wrote := make(chan error, 1)
	go func() {
		var failed error
		for i := range 100 {
			_, err := ann.Write(address(n.of(h.id)), fmt.Sprint(i))
			failed = errors.Join(failed, err)
		}
		wrote <- failed
	}()
	for i := range 100 {
		h.deliver(sendOf(fmt.Sprint(i)))
	}
	require.NoError(t, <-wrote)
	late := time.Now().Add(patience)
	for len(h.received()) < messages || len(ann.Shown()) < messages {
		if time.Now().After(late) {
			require.FailNow(t, "too late", "%d received, %d shown, unreadable: %v, sent again: %d", len(h.received()), len(ann.Shown()), ann.Unreadable(), e.Stats().Retries)
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.Empty(t, ann.Unreadable())
	require.Zero(t, e.Stats().Unreadable)
}
