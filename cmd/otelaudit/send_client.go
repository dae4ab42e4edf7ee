// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// envHeaders holds request headers, one a line.
	envHeaders = "OTELAUDIT_HEADERS"

	maxHeaders     = 64 << 10 // of a file of headers
	maxCertificate = 1 << 20  // of a file with certificates
	maxAnswer      = 16 << 20
	requestTimeout = time.Minute // a receiver answers within its own request_timeout

	firstWait = 200 * time.Millisecond
	mostWait  = 5 * time.Second
)

// Statuses of one event, as a receiver names them.
const (
	statusDurable = "durable"
	statusFlagged = "flagged"
	statusRefused = "refused"
)

// clientOptions says where to send, and as whom.
type clientOptions struct {
	endpoint      string
	headers       list // Name: value, or @file
	ca, cert, key string
	patience      time.Duration
}

// client posts batches to one receiver.
type client struct {
	endpoint string
	headers  http.Header
	http     *http.Client
	patience time.Duration

	// waits is told why the first request of a run has to be repeated, so that
	// nobody sits before a silent terminal. nil: nobody is told.
	waits func(why error)
}

func newClient(o *clientOptions) (*client, error) {
	at, err := url.Parse(o.endpoint)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, errors.New("--endpoint must be a URL such as " + defaultEndpoint)
	}
	if at.User != nil {
		return nil, errors.New("--endpoint must not hold a password: use --header @FILE with an Authorization line")
	}
	if strings.HasSuffix(at.Path, "/v1/audit") || strings.HasSuffix(at.Path, "/v1/logs") {
		return nil, fmt.Errorf("--endpoint leads to %s, which takes log records of OTLP: events go to /v1/events", at.Path)
	}
	headers, err := o.readHeaders()
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig, err = o.tls(); err != nil {
		return nil, err
	}
	return &client{endpoint: o.endpoint, headers: headers, patience: o.patience, http: &http.Client{
		Transport: transport, Timeout: requestTimeout,
		// Another place must not get the headers, nor the events.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// readHeaders joins what the environment, files and the command line say.
func (o *clientOptions) readHeaders() (http.Header, error) {
	headers := http.Header{}
	if err := addHeaders(headers, envHeaders, os.Getenv(envHeaders)); err != nil {
		return nil, err
	}
	for _, text := range o.headers {
		from := "--header"
		if path, ok := strings.CutPrefix(text, "@"); ok {
			content, err := readBounded(path, maxHeaders)
			if err != nil {
				return nil, fmt.Errorf("--header: %w", err)
			}
			from, text = path, string(content)
		}
		if err := addHeaders(headers, from, text); err != nil {
			return nil, err
		}
	}
	return headers, nil
}

// addHeaders reads headers, one a line. Errors never repeat a value.
func addHeaders(headers http.Header, from, text string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || strings.ContainsAny(name, " \t\"(),/;<=>?@[\\]{}") || strings.ContainsFunc(value, isControl) {
			return fmt.Errorf("%s: want lines such as `Authorization: Bearer …`", from)
		}
		headers.Add(name, value)
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func (o *clientOptions) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.ca != "" {
		text, err := readBounded(o.ca, maxCertificate)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca %s: no PEM block CERTIFICATE in it", o.ca)
		}
	}
	if (o.cert == "") != (o.key == "") {
		return nil, errors.New("--cert and --key go together")
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// result is what a receiver says of one event.
type result struct {
	RecordID      string `json:"record_id"`
	Status        string `json:"status"`
	IntegrityHash string `json:"integrity_hash,omitempty"`
	Origin        string `json:"origin,omitempty"`
	Index         string `json:"index,omitempty"`
	Stream        string `json:"stream,omitempty"`
	Seq           string `json:"seq,omitempty"`
	Hash          string `json:"hash,omitempty"`
	Reason        string `json:"reason,omitempty"`
}

// answer is what a receiver says of a request.
type answer struct {
	code    int
	Problem string   `json:"error"`
	Results []result `json:"results"`
}

// durable says whether every event of the request is stored for good.
func (a *answer) durable() bool { return a.code == http.StatusOK || a.code == http.StatusAccepted }

// fates pairs the events with the results, of which there are as many.
func (a *answer) fates(batch []*outgoing) []fate {
	fates := make([]fate, 0, len(batch))
	for i, r := range a.Results {
		fates = append(fates, fate{batch[i], r})
	}
	return fates
}

// split tells the events that the answer refuses from the others. There may be
// fewer results than events.
func (a *answer) split(batch []*outgoing) (rest []*outgoing, refused []fate) {
	for i, e := range batch {
		if i < len(a.Results) && a.Results[i].Status == statusRefused {
			refused = append(refused, fate{e, a.Results[i]})
			continue
		}
		rest = append(rest, e)
	}
	return rest, refused
}

// refusedError says that the receiver takes nothing from this caller.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// post sends a batch, again and again while that can help, always with the same
// bytes. It returns an answer that says what became of the events.
func (c *client) post(ctx context.Context, batch []*outgoing) (*answer, error) {
	body := []byte{'['}
	for i, e := range batch {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, e.text...)
	}
	body = append(body, ']')
	wait, until := firstWait, time.Now().Add(c.patience)
	for {
		a, after, err := c.once(ctx, body, len(batch))
		var again *againError
		if !errors.As(err, &again) {
			return a, err
		}
		pause := max(after, wait/2+rand.N(wait/2)) //nolint:gosec // so that not all clients come back at once
		if ctx.Err() != nil || time.Now().Add(pause).After(until) {
			return nil, fmt.Errorf("gave up: %w; whether the events of this batch are stored is not known", again)
		}
		if c.waits != nil {
			c.waits(again)
			c.waits = nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("interrupted: %w; whether the events of this batch are stored is not known", again)
		case <-time.After(pause):
		}
		wait = min(2*wait, mostWait)
	}
}

// againError is what another attempt may cure.
type againError struct{ err error }

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// once makes one attempt. After is how long the receiver wants to be left alone.
func (c *client) once(ctx context.Context, body []byte, events int) (a *answer, after time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	request.Header = c.headers.Clone()
	request.Header.Set("Content-Type", "application/json")
	if host := c.headers.Get("Host"); host != "" {
		request.Host = host
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, 0, &againError{err}
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	err = errors.Join(err, response.Body.Close())
	if err != nil {
		return nil, 0, &againError{fmt.Errorf("read the answer of %s: %w", c.endpoint, err)}
	}
	return c.judge(response, text, events)
}

// judge reads an answer.
func (c *client) judge(response *http.Response, text []byte, events int) (*answer, time.Duration, error) {
	a := &answer{code: response.StatusCode}
	if parsed := json.Unmarshal(text, a); parsed != nil {
		a.Problem, a.Results = "", nil
	}
	said := response.Status
	if a.Problem != "" {
		said += ": " + printable(a.Problem)
	}
	switch code := response.StatusCode; {
	case a.durable() && len(a.Results) == events && a.allDurable():
		return a, 0, nil
	case code == http.StatusTooManyRequests, code >= 500, code == http.StatusRequestTimeout:
		return nil, retryAfter(response.Header.Get("Retry-After")), &againError{fmt.Errorf("%s answers %s", c.endpoint, said)}
	case code == http.StatusUnauthorized, code == http.StatusForbidden && len(a.Results) == 0:
		return nil, 0, &refusedError{fmt.Sprintf("%s takes nothing from this caller: %s", c.endpoint, said)}
	case code == http.StatusRequestEntityTooLarge:
		a.Problem, a.Results = said, nil
		return a, 0, nil
	case a.Problem != "" && (code == http.StatusBadRequest || code == http.StatusForbidden || code == http.StatusConflict):
		return a, 0, nil
	default:
		return nil, 0, fmt.Errorf("%s does not answer as an audit receiver: %s; see --endpoint", c.endpoint, said)
	}
}

// allDurable says whether the receiver says so of every event.
func (a *answer) allDurable() bool {
	for i := range a.Results {
		if s := a.Results[i].Status; s != statusDurable && s != statusFlagged {
			return false
		}
	}
	return true
}

// retryAfter reads the header Retry-After, in seconds or as a time.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}
