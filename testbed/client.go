// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Result is one entry of an answer of POST /v1/events.
type Result struct {
	RecordID      string `json:"record_id"`
	Status        string `json:"status"`
	IntegrityHash string `json:"integrity_hash"`
	Origin        string `json:"origin"`
	Index         string `json:"index"`
	Stream        string `json:"stream"`
	Seq           string `json:"seq"`
	Hash          string `json:"hash"`
	Reason        string `json:"reason"`
}

// Answer is what the collector said to one request.
type Answer struct {
	Code int
	// RetryAfter is what the header of that name says, 0 without one.
	RetryAfter time.Duration
	Results    []Result
	Body       []byte
}

const maxAnswer = 64 << 20

// Client sends events to one collector. Safe for concurrent use.
type Client struct {
	endpoint string
	http     *http.Client
}

// NewClient returns a client for the audit receiver at endpoint, host:port.
func NewClient(endpoint string) *Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 1024
	transport.DisableCompression = true
	return &Client{endpoint: endpoint, http: &http.Client{Transport: transport}}
}

// Close gives the connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Send posts one body. An error means that no whole answer came: what was sent
// may be stored or not.
func (c *Client) Send(ctx context.Context, contentType string, body []byte) (answer Answer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.endpoint+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("send events: %w", err)
	}
	request.Header.Set("Content-Type", contentType)
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("send events: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	answer.Code = response.StatusCode
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		answer.RetryAfter = time.Duration(seconds) * time.Second
	}
	if answer.Body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return Answer{}, fmt.Errorf("read answer: %w", err)
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		var parsed struct{ Results []Result }
		if err := json.Unmarshal(answer.Body, &parsed); err != nil {
			return Answer{}, fmt.Errorf("read answer: %w", err)
		}
		answer.Results = parsed.Results
	}
	return answer, nil
}

// Metric returns the sum over all label sets of the collector's own metric that
// hold the given labels, each as `name="value"`, and whether there is any.
func (c *Collector) Metric(ctx context.Context, name string, labels ...string) (sum float64, found bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Metrics+"/metrics", nil)
	if err != nil {
		return 0, false, fmt.Errorf("read metrics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, false, fmt.Errorf("read metrics: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return 0, false, fmt.Errorf("read metrics: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || (rest[0] != '{' && rest[0] != ' ') || !containsAll(rest, labels) {
			continue
		}
		value := rest[strings.LastIndexByte(rest, ' ')+1:]
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return 0, false, fmt.Errorf("read metric %s: %w", name, err)
		}
		sum, found = sum+number, true
	}
	return sum, found, nil
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}
