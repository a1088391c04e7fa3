//go:build whatsapp

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = time.Minute

// caller speaks to Kurir's API as a tenant does, or as an administrator with a token.
type caller struct {
	t     *testing.T
	base  string
	key   string
	token string
}

// ask makes a call, of whichever goroutine.
func (c *caller) ask(method, path string, body any) (data map[string]any, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("X-Api-Key", c.key)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	var out struct {
		Data any    `json:"data"`
		Code string `json:"code"`
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", answer, err)
	}
	if data, _ = out.Data.(map[string]any); data == nil {
		data = map[string]any{"list": out.Data}
	}
	data["status code"] = res.StatusCode
	if out.Code != "" {
		data["code"] = out.Code
	}
	return data, nil
}

func (c *caller) do(method, path string, body any) map[string]any {
	c.t.Helper()
	data, err := c.ask(method, path, body)
	require.NoError(c.t, err)
	return data
}

// order makes a call that is to succeed.
func (c *caller) order(method, path string, body any) map[string]any {
	c.t.Helper()
	data := c.do(method, path, body)
	require.Contains(c.t, []int{http.StatusOK, http.StatusCreated, http.StatusAccepted}, data["status code"], "%s %s: %v", method, path, data)
	return data
}

// until asks until the answer is as it should be.
func (c *caller) until(path string, enough func(map[string]any) bool) map[string]any {
	c.t.Helper()
	late := time.Now().Add(patience)
	for {
		data := c.do(http.MethodGet, path, nil)
		if enough(data) {
			return data
		}
		if time.Now().After(late) {
			require.FailNow(c.t, "too late", "%s: %v", path, data)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// all is every page of a list.
func (c *caller) all(path, name string) (list []map[string]any) {
	c.t.Helper()
	for cursor := ""; ; {
		page := c.order(http.MethodGet, path+"?limit=200&cursor="+cursor, nil)
		for _, one := range page[name].([]any) {
			list = append(list, one.(map[string]any))
		}
		next, _ := page["nextCursor"].(string)
		if cursor = next; cursor == "" {
			return list
		}
	}
}
