// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/config/configopaque"

	"github.com/otelaudit/otelaudit/audit"
)

// The headers that every request has.
const (
	headerKey       = "Idempotency-Key"
	headerSignature = "X-Audit-Signature" // only with secrets
)

// maxAnswer bounds what is read of an answer's body.
const maxAnswer = 64 << 10

// post sends items as one request and says what the endpoint made of it. An
// error means that it is to be sent again later; it has no content, no address
// and nothing that the endpoint wrote.
func (s *Sink) post(ctx context.Context, items []item, key string) (answer, error) {
	now := s.config.now()
	if s.notBefore.After(now) {
		return answer{}, s.later(fmt.Errorf("the endpoint asked to be left alone until %s", s.notBefore.UTC().Format(time.RFC3339)))
	}
	body := s.form.body(items)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.Endpoint, bytes.NewReader(body))
	if err != nil {
		return answer{}, errors.New("`http::endpoint` cannot be posted to: it is no URL") // err would show it
	}
	request.Header.Set("Content-Type", s.form.contentType)
	request.Header.Set(headerKey, key)
	if len(s.config.Secrets) > 0 {
		request.Header.Set(headerSignature, signature(s.config.Secrets, now, body))
	}
	response, err := s.client.Do(request)
	if err != nil {
		return answer{}, transportError(ctx, err)
	}
	// What is behind the status counts in few answers; the rest is read so that
	// the connection can be used again.
	head, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	err = errors.Join(err, response.Body.Close())
	return s.read(response, head, err)
}

// keyOf is the Idempotency-Key of a request with these items: what they are,
// not when or how they are sent.
func (s *Sink) keyOf(items []item) string {
	text := append([]byte("otelaudit/1 "), s.config.Format...)
	text = append(text, '\n')
	for i := range items {
		e := items[i].entry
		switch {
		case items[i].refused != "":
			text = append(text, "stub "...)
		case e.Kind == audit.LineCheckpoint:
			text = append(text, "checkpoint "...)
		default:
			text = append(text, "event "...)
		}
		text = append(text, e.Link.Origin...)
		text = append(text, ' ')
		text = strconv.AppendUint(text, e.Link.Index, 10)
		text = append(text, ' ')
		text = hashOf(e).AppendHex(text)
		text = append(text, '\n')
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// signature is the value of X-Audit-Signature: one v1 for each secret, over the
// time and the body before compression.
func signature(secrets []configopaque.String, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	value := []byte("t=" + seconds)
	for _, secret := range secrets {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(seconds + "."))
		mac.Write(body)
		value = hex.AppendEncode(append(value, ",v1="...), mac.Sum(nil))
	}
	return string(value)
}

// maxRedirects is how many are followed for one request.
const maxRedirects = 10

// redirect is the client's policy. What is not followed is an answer like any
// other, which says that an operator has to look.
func (s *Sink) redirect(next *http.Request, via []*http.Request) error {
	first, last := via[0], via[len(via)-1]
	switch {
	case !s.config.FollowRedirects, len(via) > maxRedirects,
		// 301, 302 and 303 would become a GET without body, and the 200 to
		// that would say nothing about the records.
		next.Method != http.MethodPost,
		last.URL.Scheme == "https" && next.URL.Scheme != "https",
		// Records go in plain text no further than the configuration may send them.
		next.URL.Scheme != "https" && !s.config.Plaintext && !IsLoopback(next.URL.Hostname()),
		s.config.Credentials && next.URL.Host != first.URL.Host:
		return http.ErrUseLastResponse
	}
	return nil
}

// IsLoopback says whether a host is this machine, by its name alone.
func IsLoopback(host string) bool {
	address := net.ParseIP(host)
	return host == "localhost" || address != nil && address.IsLoopback()
}
