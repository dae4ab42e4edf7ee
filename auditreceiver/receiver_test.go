// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/client"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configauth"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/extension/extensionauth"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pipeline"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadata"
	"github.com/otelaudit/otelaudit/auditreceiver/internal/metadatatest"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

// The fully filled example of the original logger's documentation, in the body
// that its HTTP sink sends.
const originalBody = `{"events":[{"schemaVersion":1,"eventId":"01J9ZK3V7Q4W8X2Y6N5M0RABCD","action":"user.login","outcome":"SUCCESS",` +
	`"actor":{"type":"user","id":"u-1","displayName":"Alice","roles":["admin"],"ip":"192.0.2.7","userAgent":"Mozilla/5.0"},` +
	`"target":{"type":"session","id":"s-1"},"context":{"occurredAt":"2026-11-23T09:07:00.123Z","requestId":"r-1","tenantId":"acme","environment":"production","sourceService":"web"},` +
	`"metadata":{"method":"password"},"diff":{"before":null,"after":{"x":1}},"retentionTag":"standard","metadataTruncated":false,"diffTruncated":false,` +
	`"integrity":{"hash":"ab","prevHash":"cd"}}]}`

// pipe is what stands behind a receiver in these tests.
type pipe func(context.Context, plog.Logs) error

func (p pipe) logs() consumer.Logs {
	next, err := consumer.NewLogs(consumer.ConsumeLogsFunc(p))
	if err != nil {
		panic(err) // only without a function
	}
	return next
}

// seal does what the audit processor does: it fills the receipt.
func seal(ctx context.Context, logs plog.Logs) error {
	results := make([]receipt.Result, logs.LogRecordCount())
	for i := range results {
		results[i] = receipt.Result{
			RecordID: fmt.Sprintf("id-%d", i), Sealed: true, Hash: chain.Hash{0xab}, IntegrityHash: chain.Hash{0xcd},
			Link: chain.Link{Origin: "host/0011/x", Index: uint64(i + 1), Stream: "none:", Seq: uint64(i + 7)},
		}
	}
	return receipt.FromContext(ctx).Fill(results)
}

// host knows one authenticator and remembers the statuses that are reported.
type host struct {
	extensions map[component.ID]component.Component
	events     chan *componentstatus.Event
}

func newHost() *host { return &host{events: make(chan *componentstatus.Event, 4)} }

func (h *host) GetExtensions() map[component.ID]component.Component { return h.extensions }
func (h *host) Report(event *componentstatus.Event)                 { h.events <- event }

func testConfig() *Config {
	config := createDefaultConfig().(*Config)
	config.HTTP.NetAddr.Endpoint = "127.0.0.1:0"
	config.HTTP.KeepAlivesEnabled = false
	return config
}

// start runs a receiver in front of next and returns the address of its
// events.
func start(t *testing.T, config *Config, set receiver.Settings, h component.Host, next pipe) (*auditReceiver, string) {
	t.Helper()
	r, err := newReceiver(config, set, next.logs())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), h))
	t.Cleanup(func() { assert.NoError(t, r.Shutdown(context.Background())) })
	scheme := "http://"
	return r, scheme + r.listener.Addr().String() + pathEvents
}

func serve(t *testing.T, config *Config, next pipe) string {
	t.Helper()
	_, url := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), next)
	return url
}

// reply is an answer as a client sees it.
type reply struct {
	status int
	header http.Header
	text   string
	body   struct {
		Error   string
		Results []map[string]string
	}
}

var testClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func post(t *testing.T, url, contentType, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	require.NoError(t, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return do(t, req)
}

func do(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := testClient.Do(req)
	require.NoError(t, err)
	defer func() { assert.NoError(t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	got := reply{status: resp.StatusCode, header: resp.Header, text: string(text)}
	assert.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	require.NoError(t, json.Unmarshal(text, &got.body), got.text)
	return got
}

const contentJSON = "application/json"

func TestOriginalSinkWorksUnchanged(t *testing.T) {
	var got plog.Logs
	url := serve(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		got = logs
		return seal(ctx, logs)
	})
	r := post(t, url, contentJSON, originalBody)
	assert.Equal(t, http.StatusOK, r.status)
	assert.JSONEq(t, `{"results":[{"record_id":"id-0","status":"durable","integrity_hash":"cd`+strings.Repeat("00", 31)+`",
		"origin":"host/0011/x","index":"1","stream":"none:","seq":"7","hash":"ab`+strings.Repeat("00", 31)+`"}]}`, r.text)
	record := got.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	assert.Equal(t, "user.login", record.EventName())
	assert.Zero(t, record.ObservedTimestamp())
	id, _ := record.Attributes().Get(audit.AttributeRecordID)
	assert.Equal(t, "01J9ZK3V7Q4W8X2Y6N5M0RABCD", id.Str())
	service, _ := got.ResourceLogs().At(0).Resource().Attributes().Get(audit.ResourceServiceName)
	assert.Equal(t, "web", service.Str())
}

func TestBodiesAndContentTypes(t *testing.T) {
	url := serve(t, testConfig(), seal)
	for _, c := range []struct {
		contentType, body string
		status, results   int
		problem           string
	}{
		{contentJSON, `{"action":"a"}`, 200, 1, ""},
		{contentJSON + "; charset=UTF-8", `[{"action":"a"},{"action":"b"}]`, 200, 2, ""},
		{"application/x-ndjson", "{\"action\":\"a\"}\n{\"action\":\"b\"}\n{}\n", 200, 3, ""},
		{"application/x-www-form-urlencoded", `{"events":[{"action":"a"}]}`, 200, 1, ""},
		{contentJSON, `[]`, 200, 0, ""},
		{contentJSON, `{"events":[]}`, 200, 0, ""},
		{"application/x-ndjson", "", 200, 0, ""},
		{contentJSON, "", 400, 0, "the body is empty"},
		{"application/x-www-form-urlencoded", " \n", 400, 0, "the body is empty"},
		{"text/plain", `{}`, 415, 0, "content type"},
		{"", `{}`, 415, 0, "content type"},
		{contentJSON + "; charset=latin1", `{}`, 415, 0, "UTF-8"},
		{contentJSON, `{"action":`, 400, 1, "event 0: the JSON cannot be read on"},
		{contentJSON, `{"action":"a","action":"b"}`, 400, 1, "duplicate"},
		{contentJSON, `[{"action":"a"},{"actoin":"b"},{"action":5},{"action":"c"}]`, 400, 4, "event 1: actoin: is not known"},
		{contentJSON, `"text"`, 400, 1, "want an event"},
		{contentJSON, `{"metadata":{"big":12345678901234567890}}`, 400, 1, "event 0: metadata.big: is a number that would be changed by storing it: send a string"},
		{contentJSON, strings.Repeat("[", 20000), 400, 1, "event 0"},
		{contentJSON, `[` + strings.Repeat(`{},`, maxEvents) + `{}]`, 413, 0, "more than 10000 events"},
		{contentJSON, `[` + strings.Repeat(`7,`, 200) + `7]`, 400, maxFaults, "reading ended at the 50th"},
	} {
		r := post(t, url, c.contentType, c.body)
		assert.Equal(t, c.status, r.status, "%.60s: %s", c.body, r.text)
		assert.Len(t, r.body.Results, c.results, "%.60s", c.body)
		assert.Contains(t, r.body.Error, c.problem, "%.60s", c.body)
	}
}

func TestEveryFaultyEventIsNamed(t *testing.T) {
	url := serve(t, testConfig(), func(context.Context, plog.Logs) error {
		panic("a faulty request must not reach the pipeline")
	})
	r := post(t, url, contentJSON, `[{"action":"a"},{"actoin":"b","actor":{"id":1}},{"action":"c","context":{"occurredAt":"x"}}]`)
	assert.Equal(t, http.StatusBadRequest, r.status)
	require.Len(t, r.body.Results, 3)
	assert.Equal(t, map[string]string{"status": "withheld"}, r.body.Results[0])
	assert.Equal(t, "refused", r.body.Results[1]["status"])
	assert.Contains(t, r.body.Results[1]["reason"], "actoin: is not known")
	assert.Contains(t, r.body.Results[1]["reason"], "actor.id: want a string, found a number")
	assert.Contains(t, r.body.Results[2]["reason"], "context.occurredAt")
	assert.Contains(t, r.body.Error, "event 1: actoin")
	assert.Contains(t, r.body.Error, "1 more faulty")
}

func TestMethodsAndPaths(t *testing.T) {
	url := serve(t, testConfig(), seal)
	for _, path := range []string{pathEvents, pathLogs, pathAudit} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			req, err := http.NewRequestWithContext(t.Context(), method, strings.Replace(url, pathEvents, path, 1), http.NoBody)
			require.NoError(t, err)
			r := do(t, req)
			assert.Equal(t, http.StatusMethodNotAllowed, r.status)
			assert.Equal(t, http.MethodPost, r.header.Get("Allow"))
		}
	}
	assert.Equal(t, http.StatusNotFound, post(t, strings.Replace(url, pathEvents, "/v1/traces", 1), contentJSON, `{}`).status)
}

func TestPipelineErrors(t *testing.T) {
	refusing := func(ctx context.Context, _ plog.Logs) error {
		return errors.Join(receipt.Refused("record 1: no actor"), receipt.FromContext(ctx).Fill([]receipt.Result{
			{RecordID: "a"}, {RecordID: "b", Reasons: []string{"actor.id: is missing", "outcome: is missing"}},
		}))
	}
	fail := func(err error) pipe { return func(context.Context, plog.Logs) error { return err } }
	for name, c := range map[string]struct {
		next       pipe
		status     int
		retryAfter string
		problem    string
	}{
		"no processor": {fail(nil), 503, "60", "no audit processor"},
		"miscount":     {func(ctx context.Context, _ plog.Logs) error { return receipt.FromContext(ctx).Fill(nil) }, 503, "60", "did not account"},
		"not sealed": {func(ctx context.Context, _ plog.Logs) error {
			return receipt.FromContext(ctx).Fill(make([]receipt.Result, 2))
		}, 503, "60", "did not account"},
		"two processors": {fail(receipt.Unavailable(receipt.ErrFilledTwice.Error(), time.Second)), 503, "1", "two audit processors"},
		"two, plainly":   {fail(fmt.Errorf("fill: %w", receipt.ErrFilledTwice)), 503, "60", "two audit processors"},
		"refused":        {refusing, 400, "", "record 1: no actor"},
		"id taken": {func(ctx context.Context, _ plog.Logs) error {
			return errors.Join(receipt.IDTaken("record 0: id taken"), receipt.FromContext(ctx).Fill([]receipt.Result{
				{RecordID: "a", Reasons: []string{"audit.record.id: it is stored with other content"}}, {RecordID: "b"},
			}))
		}, 409, "", "record 0: id taken"},
		"too large":          {fail(receipt.TooLarge("too large for `journal::max_bytes`")), 413, "", "journal::max_bytes"},
		"too large, wrapped": {fail(fmt.Errorf("x: %w", receipt.TooLarge("never"))), 413, "", "never"},
		"full":               {fail(receipt.Unavailable("journal is full", 1500*time.Millisecond)), 503, "2", "journal is full"},
		"exhausted":          {fail(status.Error(codes.ResourceExhausted, "slow down")), 429, "5", "slow down"},
		"permanent":          {fail(consumererror.NewPermanent(errors.New("sink secret"))), 400, "", "for good"},
		"permanent status":   {fail(consumererror.NewPermanent(status.Error(codes.Internal, "poison"))), 400, "", "poison"},
		"plain":              {fail(errors.New("dial 10.0.0.1: secret")), 503, "5", "see the collector's log"},
		"internal":           {fail(status.Error(codes.Internal, "bug")), 503, "5", "bug"},
		"one part permanent": {fail(errors.Join(consumererror.NewPermanent(errors.New("p")), receipt.Unavailable("later", 9*time.Second))), 503, "9", "later"},
		"all permanent":      {fail(fmt.Errorf("fan: %w", errors.Join(consumererror.NewPermanent(errors.New("p")), receipt.Refused("never")))), 400, "", "for good"},
		"late":               {fail(fmt.Errorf("wait: %w", context.DeadlineExceeded)), 503, "5", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			r := post(t, serve(t, testConfig(), c.next), contentJSON, `[{"action":"a"},{"action":"b"}]`)
			assert.Equal(t, c.status, r.status, r.text)
			assert.Equal(t, c.retryAfter, r.header.Get("Retry-After"))
			assert.Contains(t, r.body.Error, c.problem)
			assert.NotContains(t, r.text, "secret")
			assert.Equal(t, map[string][]map[string]string{
				"refused": {
					{"record_id": "a", "status": "withheld"},
					{"record_id": "b", "status": "refused", "reason": "actor.id: is missing; outcome: is missing"},
				},
				"id taken": {
					{"record_id": "a", "status": "refused", "reason": "audit.record.id: it is stored with other content"},
					{"record_id": "b", "status": "withheld"},
				},
			}[name], resultsOrNil(r.body.Results))
		})
	}
}

func resultsOrNil(results []map[string]string) []map[string]string {
	if len(results) == 0 {
		return nil
	}
	return results
}

// Durable, but the delivery that the processor was to wait for did not come in
// time: 202, and no event counts as refused.
func TestPendingDeliveryIsAccepted(t *testing.T) {
	url := serve(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		receipt.FromContext(ctx).Pending = true
		return seal(ctx, logs)
	})
	r := post(t, url, contentJSON, `[{"action":"a"}]`)
	assert.Equal(t, http.StatusAccepted, r.status)
	assert.Equal(t, "durable", r.body.Results[0]["status"])
	assert.Equal(t, "1", r.body.Results[0]["index"])
}

func TestFlaggedEventsDoNotLowerTheAnswer(t *testing.T) {
	url := serve(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		defer func() { receipt.FromContext(ctx).Results[1].Reasons = []string{"actor.id: is missing", "é\xff"} }()
		return seal(ctx, logs)
	})
	r := post(t, url, contentJSON, `[{"action":"a"},{"action":"b"}]`)
	assert.Equal(t, http.StatusOK, r.status)
	assert.Equal(t, "durable", r.body.Results[0]["status"])
	assert.Equal(t, "flagged", r.body.Results[1]["status"])
	assert.Equal(t, "actor.id: is missing; é\uFFFD", r.body.Results[1]["reason"])
	assert.Equal(t, "2", r.body.Results[1]["index"])
}

func TestNeighboursShareAResourceAndOrderIsKept(t *testing.T) {
	var groups [][]string
	url := serve(t, testConfig(), func(ctx context.Context, logs plog.Logs) error {
		for _, group := range logs.ResourceLogs().All() {
			var names []string
			for _, record := range group.ScopeLogs().At(0).LogRecords().All() {
				names = append(names, record.EventName())
			}
			groups = append(groups, names)
		}
		return seal(ctx, logs)
	})
	event := func(name, service string) string {
		return fmt.Sprintf(`{"action":%q,"context":{"sourceService":%q,"environment":"e"}}`, name, service)
	}
	body := "[" + strings.Join([]string{event("1", "a"), event("2", "a"), event("3", "b"), event("4", "a"), `{"action":"5"}`, `{"action":"6"}`}, ",") + "]"
	require.Equal(t, http.StatusOK, post(t, url, contentJSON, body).status)
	assert.Equal(t, [][]string{{"1", "2"}, {"3"}, {"4"}, {"5", "6"}}, groups)
}

func TestCompressedBodies(t *testing.T) {
	url := serve(t, testConfig(), seal)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := io.WriteString(w, originalBody)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Equal(t, http.StatusOK, post(t, url, contentJSON, zipped.String(), "Content-Encoding", "gzip").status)

	for _, bad := range []string{"no gzip", zipped.String()[:zipped.Len()-9], ""} {
		r := post(t, url, contentJSON, bad, "Content-Encoding", "gzip")
		assert.Equal(t, http.StatusBadRequest, r.status, r.text)
	}
	assert.Equal(t, http.StatusBadRequest, post(t, url, contentJSON, "x", "Content-Encoding", "rot13").status)
}

func TestBodyTooLarge(t *testing.T) {
	config := testConfig()
	config.HTTP.MaxRequestBodySize = 1000
	url := serve(t, config, seal)
	body := `{"action":"` + strings.Repeat("a", 2000) + `"}`
	refused := post(t, url, contentJSON, body)
	assert.Equal(t, http.StatusRequestEntityTooLarge, refused.status)
	assert.Contains(t, refused.text, "larger than 1000 bytes, the collector's `http::max_request_body_size`")

	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := io.WriteString(w, body)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Less(t, zipped.Len(), 1000)
	refused = post(t, url, contentJSON, zipped.String(), "Content-Encoding", "gzip")
	assert.Equal(t, http.StatusRequestEntityTooLarge, refused.status)
	assert.Contains(t, refused.text, "larger than 1000 bytes")
}

func TestBudget(t *testing.T) {
	config := testConfig()
	config.HTTP.MaxRequestBodySize = 1000
	config.MaxInFlightBytes = 2000
	entered, leave := make(chan struct{}), make(chan struct{})
	r, url := start(t, config, receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		entered <- struct{}{}
		<-leave
		return seal(ctx, logs)
	})
	body := `{"action":"` + strings.Repeat("a", 700) + `"}`
	first := make(chan int)
	go func() { first <- postQuietly(url, body) }()
	<-entered
	held := r.budget.used.Load()
	assert.GreaterOrEqual(t, held, int64(len(body)))

	busy := post(t, url, contentJSON, body)
	assert.Equal(t, http.StatusTooManyRequests, busy.status, busy.text)
	assert.Equal(t, "1", busy.header.Get("Retry-After"))
	assert.Equal(t, held, r.budget.used.Load(), "a refused request keeps nothing")

	leave <- struct{}{}
	assert.Equal(t, http.StatusOK, <-first)
	never := post(t, url, contentJSON, `{"metadata":{"a":[`+strings.Repeat("1,", 100)+`1]}}`)
	assert.Equal(t, http.StatusRequestEntityTooLarge, never.status, never.text)
	assert.Contains(t, never.body.Error, "max_in_flight_bytes")
	assert.Zero(t, r.budget.used.Load())
}

// postQuietly is for goroutines other than the test's; 0 is a failed request.
func postQuietly(url, body string) int {
	resp, err := testClient.Post(url, contentJSON, strings.NewReader(body)) //nolint:noctx // bounded by the test's server
	if err != nil {
		return 0
	}
	if err := resp.Body.Close(); err != nil {
		return 0
	}
	return resp.StatusCode
}

// authenticator knows callers by the header Authorization.
type authenticator struct {
	component.StartFunc
	component.ShutdownFunc
	tenants map[string]any
}

func (a *authenticator) Authenticate(ctx context.Context, headers map[string][]string) (context.Context, error) {
	who := append(headers["Authorization"], headers["authorization"]...) // HTTP's spelling, and gRPC's
	tenant, ok := a.tenants[strings.Join(who, ",")]
	if !ok {
		return ctx, errors.New("password hunter2 is wrong")
	}
	info := client.FromContext(ctx)
	info.Auth = authData{tenant}
	return client.NewContext(ctx, info), nil
}

type authData struct{ tenant any }

func (a authData) GetAttribute(name string) any {
	if name == "tenant" {
		return a.tenant
	}
	return nil
}
func (authData) GetAttributeNames() []string { return []string{"tenant"} }

var _ extensionauth.Server = (*authenticator)(nil)

func TestTenantOfTheAuthenticatedCallerWins(t *testing.T) {
	id := component.MustNewID("fakeauth")
	h := newHost()
	h.extensions = map[component.ID]component.Component{id: &authenticator{tenants: map[string]any{
		"good": "acme", "list": []string{"acme"}, "two": []string{"a", "b"}, "number": 7, "none": nil, "long": strings.Repeat("x", 300), "bad": "\xff",
	}}}
	config := testConfig()
	config.HTTP.IncludeMetadata = true
	config.HTTP.Auth = configoptional.Some(confighttp.AuthConfig{Config: configauth.Config{AuthenticatorID: id}})
	config.Tenant = TenantConfig{Attribute: "tenant"}
	var tenant string
	var info client.Info
	_, url := start(t, config, receivertest.NewNopSettings(metadata.Type), h, func(ctx context.Context, logs plog.Logs) error {
		tenant, info = receipt.FromContext(ctx).Tenant, client.FromContext(ctx)
		return seal(ctx, logs)
	})

	for _, who := range []string{"good", "list"} {
		tenant = ""
		r := post(t, url, contentJSON, `{"action":"a","context":{"tenantId":"acme"}}`, "Authorization", who, "Cookie", "c=1")
		assert.Equal(t, http.StatusOK, r.status, r.text)
		assert.Equal(t, "acme", tenant)
		assert.NotNil(t, info.Addr)
		assert.Nil(t, info.Auth)
		assert.Empty(t, info.Metadata.Get("Authorization"), "no credential goes down the pipeline")
		assert.Empty(t, info.Metadata.Get("Cookie"))
	}

	r := post(t, url, contentJSON, `[{"action":"a"},{"action":"b","context":{"tenantId":"evil"}},{"attributes":{"audit.tenant.id":"evil"}}]`, "Authorization", "good")
	assert.Equal(t, http.StatusForbidden, r.status, r.text)
	assert.Contains(t, r.body.Error, "event 1: context.tenantId")
	assert.Equal(t, "withheld", r.body.Results[0]["status"])
	assert.Equal(t, "refused", r.body.Results[1]["status"])
	assert.Equal(t, "refused", r.body.Results[2]["status"])

	for who, problem := range map[string]string{
		"two": "exactly one tenant", "number": "exactly one tenant", "none": "has no tenant", "long": "longer than", "bad": "UTF-8",
	} {
		r := post(t, url, contentJSON, `{}`, "Authorization", who)
		assert.Equal(t, http.StatusForbidden, r.status, who)
		assert.Contains(t, r.body.Error, problem, who)
	}

	r = post(t, url, contentJSON, `{}`, "Authorization", "nobody")
	assert.Equal(t, http.StatusUnauthorized, r.status)
	assert.NotContains(t, r.text, "hunter2")
}

func TestTenantFromHeader(t *testing.T) {
	config := testConfig()
	config.Tenant.Header = "X-Tenant"
	var tenant string
	var info client.Info
	url := serve(t, config, func(ctx context.Context, logs plog.Logs) error {
		tenant, info = receipt.FromContext(ctx).Tenant, client.FromContext(ctx)
		return seal(ctx, logs)
	})
	assert.Equal(t, http.StatusOK, post(t, url, contentJSON, `{}`, "x-tenant", "acme").status)
	assert.Equal(t, "acme", tenant)
	assert.Equal(t, []string{"acme"}, info.Metadata.Get("X-Tenant"))
	assert.Equal(t, http.StatusForbidden, post(t, url, contentJSON, `{}`).status)
	assert.Equal(t, http.StatusForbidden, post(t, url, contentJSON, `{}`, "X-Tenant", "a", "X-Tenant", "b").status)
	assert.Equal(t, http.StatusForbidden, post(t, url, contentJSON, `{"context":{"tenantId":"b"}}`, "X-Tenant", "a").status)
}

func TestClientThatGoesAwayDoesNotCancelThePipeline(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	sealed := 0
	r, err := newReceiver(testConfig(), receivertest.NewNopSettings(metadata.Type), pipe(func(ctx context.Context, logs plog.Logs) error {
		leave() // the client: a server cancels the request's context then
		sealed++
		require.NoError(t, ctx.Err())
		deadline, ok := ctx.Deadline()
		assert.True(t, ok)
		assert.LessOrEqual(t, time.Until(deadline), defaultRequestTimeout)
		return seal(ctx, logs)
	}).logs())
	require.NoError(t, err)
	req := httptest.NewRequestWithContext(gone, http.MethodPost, pathEvents, strings.NewReader(`{"action":"a"}`))
	req.Header.Set("Content-Type", contentJSON)
	w := httptest.NewRecorder()
	r.handler().ServeHTTP(w, req)
	assert.Equal(t, http.StatusOK, w.Code)
	assert.Equal(t, 1, sealed)
	assert.Error(t, gone.Err())
}

func TestPipelineThatHangsIsAnsweredInTime(t *testing.T) {
	config := testConfig()
	config.RequestTimeout = 20 * time.Millisecond
	r := post(t, serve(t, config, func(ctx context.Context, _ plog.Logs) error {
		<-ctx.Done()
		return ctx.Err()
	}), contentJSON, `{}`)
	assert.Equal(t, http.StatusServiceUnavailable, r.status)
	assert.Contains(t, r.body.Error, "whether the events are stored is unknown")
}

func TestShutdownWaitsForTheAnswer(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r, err := newReceiver(testConfig(), receivertest.NewNopSettings(metadata.Type), pipe(func(ctx context.Context, logs plog.Logs) error {
		close(entered)
		<-leave
		return seal(ctx, logs)
	}).logs())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	address := r.listener.Addr().String()
	code := make(chan int)
	go func() { code <- postQuietly("http://"+address+pathEvents, `{}`) }()
	<-entered
	down := make(chan error)
	go func() { down <- r.Shutdown(context.Background()) }()
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			assert.NoError(t, conn.Close())
		}
		return err != nil
	}, time.Minute, time.Millisecond, "the endpoint must close first")
	select {
	case <-down:
		t.Fatal("shutdown did not wait for a request in flight")
	default:
	}
	close(leave)
	assert.Equal(t, http.StatusOK, <-code)
	assert.NoError(t, <-down)
	assert.NoError(t, r.Shutdown(context.Background()), "safe when called again")
}

// A client that stalls has been promised nothing: it must not hold up shutdown.
func TestShutdownDoesNotWaitForABody(t *testing.T) {
	r, err := newReceiver(testConfig(), receivertest.NewNopSettings(metadata.Type), pipe(seal).logs())
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	conn, err := net.Dial("tcp", r.listener.Addr().String())
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close()) }()
	_, err = io.WriteString(conn, "POST "+pathEvents+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.budget.used.Load() > 0 }, time.Minute, time.Millisecond, "its body must be waited for")

	ctx, cancel := context.WithTimeout(t.Context(), lastReadTime+10*time.Second)
	defer cancel()
	require.NoError(t, r.Shutdown(ctx))
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Contains(t, string(text), "HTTP/1.1 503 ")
}

func TestShutdownWithoutStart(t *testing.T) {
	r, err := newReceiver(testConfig(), receivertest.NewNopSettings(metadata.Type), pipe(seal).logs())
	require.NoError(t, err)
	assert.NoError(t, r.Shutdown(context.Background()))
}

func TestStartFailsOnATakenPort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, taken.Close()) }()
	config := testConfig()
	config.HTTP.NetAddr.Endpoint = taken.Addr().String()
	r, err := newReceiver(config, receivertest.NewNopSettings(metadata.Type), pipe(seal).logs())
	require.NoError(t, err)
	require.ErrorContains(t, r.Start(t.Context(), componenttest.NewNopHost()), "`http::endpoint`")
	assert.NoError(t, r.Shutdown(context.Background()))
}

func TestDeadListenerIsFatal(t *testing.T) {
	h := newHost()
	r, _ := start(t, testConfig(), receivertest.NewNopSettings(metadata.Type), h, seal)
	require.NoError(t, r.listener.Close())
	event := <-h.events
	assert.Equal(t, componentstatus.StatusFatalError, event.Status())
	assert.ErrorContains(t, event.Err(), "`http::endpoint`")
}

func TestCleanShutdownReportsNothing(t *testing.T) {
	h := newHost()
	r, _ := start(t, testConfig(), receivertest.NewNopSettings(metadata.Type), h, seal)
	require.NoError(t, r.Shutdown(context.Background()))
	assert.Empty(t, h.events)
}

func TestTelemetry(t *testing.T) {
	tel := componenttest.NewTelemetry()
	defer func() { assert.NoError(t, tel.Shutdown(context.Background())) }()
	r, url := start(t, testConfig(), metadatatest.NewSettings(tel), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		if logs.LogRecordCount() == 3 {
			return receipt.Unavailable("full", time.Second)
		}
		return seal(ctx, logs)
	})
	for _, body := range []string{`[{},{}]`, `[{},{"x":1}]`, `[{},{},{}]`, `[]`, `[{}]`} {
		post(t, url, contentJSON, body)
	}
	point := func(value int64, attrs ...attribute.KeyValue) metricdata.DataPoint[int64] {
		return metricdata.DataPoint[int64]{Value: value, Attributes: attribute.NewSet(attrs...)}
	}
	metadatatest.AssertEqualReceiverAuditReceivedRecords(t, tel, []metricdata.DataPoint[int64]{point(8)}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	metadatatest.AssertEqualReceiverAuditRefusedRecords(t, tel, []metricdata.DataPoint[int64]{
		point(2, attribute.String("reason", "malformed")), point(3, attribute.String("reason", "unavailable")),
	}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	metadatatest.AssertEqualReceiverAuditRequests(t, tel, []metricdata.DataPoint[int64]{
		point(3, attribute.Int("status_code", 200)), point(1, attribute.Int("status_code", 400)), point(1, attribute.Int("status_code", 503)),
	}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	metadatatest.AssertEqualReceiverAuditInFlightBytes(t, tel, []metricdata.DataPoint[int64]{
		point(0, attribute.String("receiver", r.settings.ID.String())),
	}, metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
	accepted, err := tel.GetMetric("otelcol_receiver_accepted_log_records")
	require.NoError(t, err)
	assert.Equal(t, int64(3), accepted.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
	refused, err := tel.GetMetric("otelcol_receiver_refused_log_records")
	require.NoError(t, err)
	assert.Equal(t, int64(5), refused.Data.(metricdata.Sum[int64]).DataPoints[0].Value)
}

func TestManyClients(t *testing.T) {
	var mu sync.Mutex
	stored := map[string]int{}
	r, url := start(t, testConfig(), receivertest.NewNopSettings(metadata.Type), componenttest.NewNopHost(), func(ctx context.Context, logs plog.Logs) error {
		mu.Lock()
		defer mu.Unlock()
		for _, record := range logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().All() {
			stored[record.EventName()]++
		}
		return seal(ctx, logs)
	})
	const clients, each = 8, 20
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := range each {
				assert.Equal(t, http.StatusOK, postQuietly(url, fmt.Sprintf(`[{"action":"%d.%d.a"},{"action":"%d.%d.b"}]`, c, i, c, i)))
			}
		})
	}
	wg.Wait()
	assert.Len(t, stored, clients*each*2)
	for name, times := range stored {
		assert.Equal(t, 1, times, name)
	}
	assert.Zero(t, r.budget.used.Load())
}

// contractGenerator sends single events and, as a good client does, sends
// again what was answered with 429 or 503.
type contractGenerator struct {
	t    *testing.T
	url  string
	next sync.Mutex
	sent int
}

func (*contractGenerator) Start() {}
func (*contractGenerator) Stop()  {}

func (g *contractGenerator) Generate() []receivertest.UniqueIDAttrVal {
	g.next.Lock()
	g.sent++
	id := strconv.Itoa(g.sent)
	g.next.Unlock()
	body := fmt.Sprintf(`{"action":"a","attributes":{%q:%q}}`, receivertest.UniqueIDAttrName, id)
	for {
		switch code := postQuietly(g.url, body); code {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		case http.StatusOK, http.StatusBadRequest:
			return []receivertest.UniqueIDAttrVal{receivertest.UniqueIDAttrVal(id)}
		default:
			assert.Fail(g.t, "unexpected status", code)
			return []receivertest.UniqueIDAttrVal{receivertest.UniqueIDAttrVal(id)}
		}
	}
}

func TestConsumeContract(t *testing.T) {
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := probe.Addr().String()
	require.NoError(t, probe.Close())
	config := testConfig()
	config.HTTP.NetAddr.Endpoint = address
	// The checker's consumer knows no receipts: one is filled in its place.
	factory := receiver.NewFactory(metadata.Type, createDefaultConfig, receiver.WithLogs(
		func(ctx context.Context, set receiver.Settings, cfg component.Config, next consumer.Logs) (receiver.Logs, error) {
			return createLogs(ctx, set, cfg, pipe(func(ctx context.Context, logs plog.Logs) error {
				if err := next.ConsumeLogs(ctx, logs); err != nil {
					return err
				}
				return seal(ctx, logs)
			}).logs())
		}, metadata.LogsStability))
	receivertest.CheckConsumeContract(receivertest.CheckConsumeContractParams{
		T: t, Factory: factory, Signal: pipeline.SignalLogs, Config: config, GenerateCount: 200,
		Generator: &contractGenerator{t: t, url: "http://" + address + pathEvents},
	})
}
