package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// plain makes the calls that are not measured.
var plain = &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

// call makes a call that is to succeed, with an API key or, where it begins with Bearer, a token, and reads its data.
func call(ctx context.Context, method, url, credential string, body, into any) error {
	status, answer, err := exchange(ctx, plain, method, url, credential, body)
	if err != nil {
		return err
	}
	if status >= 300 {
		return fmt.Errorf("%s %s: %d %.300s", method, url, status, answer)
	}
	if into == nil {
		return nil
	}
	envelope := struct{ Data any }{into}
	return json.Unmarshal(answer, &envelope)
}

func exchange(ctx context.Context, client *http.Client, method, url, credential string, body any) (int, []byte, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return 0, nil, err
	}
	req.Header = headersOf(credential)
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

const bearer = "Bearer "

func headersOf(credential string) http.Header {
	h := http.Header{"Content-Type": {"application/json"}}
	switch {
	case credential == "":
	case len(credential) > len(bearer) && credential[:len(bearer)] == bearer:
		h.Set("Authorization", credential)
	default:
		h.Set("X-Api-Key", credential)
	}
	return h
}

// codeOf is the name of what went wrong: the API's code where it says one.
func codeOf(status int, answer []byte) string {
	var said struct{ Code string }
	if json.Unmarshal(answer, &said) == nil && said.Code != "" {
		return fmt.Sprintf("%d %s", status, said.Code)
	}
	return fmt.Sprint(status)
}
