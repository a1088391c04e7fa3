package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"kurir/models/modelstest"
	"kurir/worker/simulator/simnet"
)

// request makes one call, as the tenant unless headers say otherwise, and returns status and data.
func (c *cluster) request(ctx context.Context, method, url string, body any, headers ...string) (int, json.RawMessage, error) {
	return c.requestBy(ctx, c.http, method, url, body, headers...)
}

func (c *cluster) requestBy(ctx context.Context, client *http.Client, method, url string, body any, headers ...string) (int, json.RawMessage, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(encoded))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if req.Header.Get("Authorization") == "" {
		req.Header.Set("X-Api-Key", c.apiKey)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return res.StatusCode, nil, err
	}
	var envelope struct {
		Data json.RawMessage
		Code string
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		return res.StatusCode, nil, fmt.Errorf("answer %q: %w", answer, err)
	}
	if envelope.Data == nil {
		return res.StatusCode, answer, nil
	}
	return res.StatusCode, envelope.Data, nil
}

// call makes a call of the tenant's that is to succeed.
func (c *cluster) call(method, path string, body, into any, want int) {
	c.t.Helper()
	c.must(method, path, body, into, want)
}

// order makes a call of the administrator's that is to succeed.
func (c *cluster) order(method, path string, body, into any, want int) {
	c.t.Helper()
	c.must(method, path, body, into, want, "Authorization", "Bearer "+c.admin)
}

func (c *cluster) must(method, path string, body, into any, want int, headers ...string) {
	c.t.Helper()
	status, data, err := c.request(c.t.Context(), method, c.entries[0]+"/api/v1"+path, body, headers...)
	require.NoError(c.t, err)
	require.Equal(c.t, want, status, "%s %s: %s", method, path, data)
	if into != nil {
		require.NoError(c.t, json.Unmarshal(data, into))
	}
}

// orderedJob gives the administrator's order and waits until the job that it started has succeeded.
func (c *cluster) orderedJob(path string, body any, within time.Duration) {
	c.t.Helper()
	var started struct{ JobID string }
	c.order(http.MethodPost, path, body, &started, http.StatusAccepted)
	c.eventually(within, path+" succeeds", func() (bool, string) {
		var job struct {
			Status string
			Error  *string
			Result json.RawMessage
		}
		c.order(http.MethodGet, "/jobs/"+started.JobID, nil, &job, http.StatusOK)
		return job.Status == "succeeded", fmt.Sprintf("%+v", job)
	})
}

// subscribe adds a webhook of the whole account, which hears of these events from now on.
func (c *cluster) subscribe(events ...string) {
	c.t.Helper()
	c.subscribed = events
	c.call(http.MethodPut, "/webhook", map[string]any{"url": c.hooks.url + "/" + account, "secret": hookSecret, "events": events}, nil, http.StatusOK)
}

// registered waits for so many workers.
func (c *cluster) registered(workers int) {
	c.t.Helper()
	c.eventually(20*time.Second, "all workers are registered", func() (bool, string) {
		n := modelstest.Scalar[int64](c.t, c.db, `SELECT count(*) FROM workers WHERE lease_expires_at > now()`)
		return int(n) == workers, fmt.Sprint(n)
	})
}

// linkedSessions makes sessions with a webhook each and waits until all are connected.
func (c *cluster) linkedSessions(n int) []string {
	c.t.Helper()
	c.registered(c.plan.workers)
	began := time.Now()
	names := make([]string, n)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range names {
		names[i] = fmt.Sprintf("s%03d", i)
		group.Go(func() error {
			status, data, err := c.request(c.t.Context(), http.MethodPost, c.entries[0]+"/api/v1/sessions", map[string]any{"name": names[i], "sessionId": names[i],
				"webhook": map[string]any{"url": c.hooks.url + "/" + names[i], "secret": hookSecret}})
			if err == nil && status != http.StatusAccepted {
				err = errors.New(string(data))
			}
			return err
		})
	}
	require.NoError(c.t, group.Wait())
	c.eventually(60*time.Second, "all sessions are connected", func() (bool, string) {
		n := modelstest.Scalar[int64](c.t, c.db, `SELECT count(*) FROM sessions WHERE status = 'CONNECTED'`)
		return int(n) == len(names), fmt.Sprint(n)
	})
	c.t.Logf("%d sessions linked in %s", n, round(time.Since(began)))
	c.upload(names[0])
	return names
}

// report is what the network has witnessed.
func (c *cluster) report() simnet.Report {
	c.t.Helper()
	res, err := c.http.Get(c.simnet + "/report")
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	var r simnet.Report
	require.NoError(c.t, json.NewDecoder(res.Body).Decode(&r))
	return r
}

// greeting is how injected messages begin.
const greeting = "hello from outside"

// inject has somebody write to a session, by its uid. The WhatsApp ID is the caller's choice.
func (c *cluster) inject(uid, whatsappID string) {
	c.t.Helper()
	body, err := json.Marshal(map[string]string{"sessionId": uid, "from": "6281200022222", "text": greeting + " " + whatsappID, "whatsappId": whatsappID})
	require.NoError(c.t, err)
	res, err := c.http.Post(c.simnet+"/inject/message", "application/json", bytes.NewReader(body))
	require.NoError(c.t, err)
	defer func() { _ = res.Body.Close() }()
	answer, _ := io.ReadAll(res.Body)
	require.Equal(c.t, http.StatusOK, res.StatusCode, "inject: %s", answer)
}
