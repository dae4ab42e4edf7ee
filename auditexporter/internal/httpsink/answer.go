// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package httpsink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
)

// verdict is what the endpoint made of a request.
type verdict uint8

const (
	taken    verdict = iota + 1 // it has all of it
	refused                     // the same would be refused again
	tooLarge                    // refused as well; less may be taken
	conflict                    // it has something under this key or coordinate
)

// answer is what is known of the endpoint's answer.
type answer struct {
	verdict verdict
	status  string // code and its standard text: never the endpoint's own words

	// What a conflict says to be stored, lowercase hex, "" if it does not say.
	hash      string // hashOf
	integrity string // SHA-256 of the member `record`
}

// cures says what an operator can do about a status that no repetition changes.
// The records are sent again all the same, for when that was done.
var cures = map[int]string{
	http.StatusUnauthorized:      "renew what `http::auth` or `http::headers` presents, or compare `http::signing_secrets` with the endpoint's",
	http.StatusForbidden:         "give what `http::auth` or `http::headers` presents the right to write there",
	http.StatusNotFound:          "set `http::endpoint` to an address that exists",
	http.StatusMethodNotAllowed:  "set `http::endpoint` to an address that takes POST",
	http.StatusProxyAuthRequired: "give `http::proxy_url` credentials that the proxy accepts",
}

// read judges an answer. readErr is what went wrong with its body.
func (s *Sink) read(response *http.Response, head []byte, readErr error) (answer, error) {
	code := response.StatusCode
	a := answer{status: strings.TrimSpace(fmt.Sprintf("%d %s", code, http.StatusText(code)))}
	cure, curable := cures[code]
	switch {
	case code/100 == 2:
		return s.readTaken(a, head, readErr)
	case code/100 == 3:
		return a, fmt.Errorf("%w: the endpoint answered %s and points to host %q:"+
			" set `http::endpoint` to where the records have to go, or, for 307 and 308, `http::follow_redirects: true`",
			sink.ErrOperator, a.status, hostOf(response))
	case curable:
		return a, fmt.Errorf("%w: the endpoint answered %s: %s", sink.ErrOperator, a.status, cure)
	case code == http.StatusConflict:
		a.verdict = conflict
		a.readConflict(head)
	case code == http.StatusRequestEntityTooLarge:
		a.verdict = tooLarge
	case code/100 == 4 && code != http.StatusRequestTimeout && code != http.StatusTooEarly && code != http.StatusTooManyRequests:
		a.verdict = refused
	default:
		s.leaveAlone(response.Header.Get("Retry-After"))
		return a, s.later(fmt.Errorf("the endpoint answered %s", a.status))
	}
	return a, nil
}

// readTaken judges a 2xx. In OTLP alone it may come with a rejection.
func (s *Sink) readTaken(a answer, head []byte, readErr error) (answer, error) {
	a.verdict = taken
	if s.config.Format != FormatOTLPJSON {
		return a, nil // the body says nothing more
	}
	if readErr != nil || len(head) > maxAnswer {
		return a, fmt.Errorf("the endpoint answered %s without an OTLP answer that could be read:"+
			" whether it rejects records is not known", a.status)
	}
	told := plogotlp.NewExportResponse()
	if err := told.UnmarshalJSON(head); err != nil {
		return a, nil // not OTLP: the status is all it says
	}
	if told.PartialSuccess().RejectedLogRecords() > 0 {
		a.verdict = refused
		a.status += " with a partial success that rejects records"
	}
	return a, nil
}

// readConflict takes from a conflict's body what is stored.
func (a *answer) readConflict(head []byte) {
	var told struct {
		Hash      string `json:"hash"`
		Integrity string `json:"integrity_hash"`
	}
	if json.Unmarshal(head, &told) == nil {
		a.hash, a.integrity = told.Hash, told.Integrity
	}
}

// maxWait bounds what an endpoint can ask for: a mistake must not silence the
// audit trail for longer.
const maxWait = 5 * time.Minute

// leaveAlone does what Retry-After asks for.
func (s *Sink) leaveAlone(value string) {
	now := s.config.now()
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	s.notBefore = now.Add(min(wait, maxWait))
}

// later tells the caller of an error how long the endpoint is to be left alone,
// if it asked for that.
func (s *Sink) later(err error) error {
	if !s.notBefore.After(s.config.now()) {
		return err
	}
	return &sink.LaterError{At: s.notBefore, Cause: err}
}

// maxHost is the longest name that DNS has.
const maxHost = 253

// hostOf is all that is told of where a redirect points.
func hostOf(response *http.Response) string {
	location, err := response.Location()
	if err != nil {
		return ""
	}
	host := location.Hostname()
	return host[:min(len(host), maxHost)]
}

// transportError is what is said of a request without an answer. Whether the
// endpoint has stored it is not known.
func transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("no answer from the endpoint: %w", context.Cause(ctx))
	}
	var located *url.Error
	if errors.As(err, &located) {
		err = located.Err // without the address
	}
	var foreign x509.HostnameError
	if errors.As(err, &foreign) { // whose text is the names in the certificate
		return fmt.Errorf("%w: the endpoint's certificate is for other names than that in `http::endpoint`", sink.ErrOperator)
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return fmt.Errorf("%w: the endpoint's certificate is not trusted: set `http::tls::ca_file`, or mend the certificate: %w",
			sink.ErrOperator, fault{err})
	}
	return fmt.Errorf("no answer from the endpoint: %w", fault{err})
}

// fault is an error of the transport with a text that is fit for logs: in what
// is quoted, in further lines and in malformed headers there may be content.
type fault struct{ cause error }

const maxFault = 200

func (f fault) Error() string {
	var malformed textproto.ProtocolError
	if errors.As(f.cause, &malformed) {
		return "malformed answer"
	}
	text := f.cause.Error()
	if end := strings.IndexAny(text, "\"\r\n"); end >= 0 {
		text = text[:end]
	}
	return strings.ToValidUTF8(strings.TrimRight(text[:min(len(text), maxFault)], " :("), "")
}

func (f fault) Unwrap() error { return f.cause }
