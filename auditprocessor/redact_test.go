// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
)

// testNow is the time of every test.
var testNow = time.Date(2026, 11, 23, 9, 7, 0, 0, time.UTC)

type stagesOption func(*ValidationConfig, *RedactionConfig, *LimitsConfig)

func withRedaction(change func(*RedactionConfig)) stagesOption {
	return func(_ *ValidationConfig, r *RedactionConfig, _ *LimitsConfig) { change(r) }
}

func withValidation(change func(*ValidationConfig)) stagesOption {
	return func(v *ValidationConfig, _ *RedactionConfig, _ *LimitsConfig) { change(v) }
}

func withLimits(change func(*LimitsConfig)) stagesOption {
	return func(_ *ValidationConfig, _ *RedactionConfig, l *LimitsConfig) { change(l) }
}

func testStages(t testing.TB, options ...stagesOption) *stages {
	t.Helper()
	validation, redaction, limits := newValidationConfig(), newRedactionConfig(), newLimitsConfig()
	for _, option := range options {
		option(&validation, &redaction, &limits)
	}
	s, err := newStages(validation, redaction, limits, func() time.Time { return testNow })
	require.NoError(t, err)
	return s
}

// validLogs returns one record that breaks no rule.
func validLogs() (plog.Logs, plog.LogRecord) {
	logs := plog.NewLogs()
	ofResource := logs.ResourceLogs().AppendEmpty()
	ofResource.Resource().Attributes().PutStr(attributeServiceName, "shop")
	record := ofResource.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName("user.login")
	record.SetTimestamp(pcommon.NewTimestampFromTime(testNow.Add(-time.Second)))
	record.SetObservedTimestamp(pcommon.NewTimestampFromTime(testNow))
	a := record.Attributes()
	a.PutStr(audit.AttributeRecordID, "01935a3c-7c5b-7aaa-8bbb-0123456789ab")
	a.PutStr(audit.AttributeActorID, "alice")
	a.PutStr(audit.AttributeActorType, "user")
	a.PutStr(audit.AttributeAction, "LOGIN")
	a.PutStr(audit.AttributeOutcome, "success")
	return logs, record
}

// everything returns all bytes that a record leaves behind: what the journal
// keeps and what is hashed.
func everything(t testing.TB, logs plog.Logs) string {
	t.Helper()
	marshaler := plog.ProtoMarshaler{}
	proto, err := marshaler.MarshalLogs(logs)
	require.NoError(t, err)
	return string(proto) + canonicalOf(t, logs)
}

func canonicalOf(t testing.TB, logs plog.Logs) string {
	t.Helper()
	var all []byte
	for _, r := range logs.ResourceLogs().All() {
		for _, s := range r.ScopeLogs().All() {
			var encoder canonical.Encoder
			require.NoError(t, encoder.SetGroup(r.Resource(), r.SchemaUrl(), s.Scope(), s.SchemaUrl()))
			for _, record := range s.LogRecords().All() {
				out, _, err := encoder.Append(all, record)
				require.NoError(t, err)
				all = out
			}
		}
	}
	return string(all)
}

// redactText puts a text into a harmless attribute and returns what is left.
func redactText(t testing.TB, s *stages, text string) string {
	t.Helper()
	logs, record := validLogs()
	record.Attributes().PutStr("note", text)
	s.apply(logs, "", false)
	value, ok := record.Attributes().Get("note")
	if !ok {
		return "<removed>"
	}
	return value.Str()
}

func TestSensitiveNames(t *testing.T) {
	sensitive := []string{
		"password", "Password", "user_password", "userPassword", "dbPassword", "PGPASSWORD", "dbpassword", "password2",
		"passwd", "pwd", "MYSQL_PWD", "passphrase", "pass", "db_pass", "otp", "otpCode", "totp", "token", "tokens", "accessToken",
		"access_token", "refresh-token", "idToken", "x-auth-token", "XSRF-TOKEN", "authorization", "Authorization",
		"Proxy-Authorization", "http.request.header.authorization", "cookie", "Set-Cookie", "setCookie", "secret", "client_secret",
		"clientSecret", "secret_id", "secretKey", "aws_secret_access_key", "apiKey", "api_key", "API_KEY", "APIKey", "x-api-key",
		"apikey", "apiKeys", "X-Goog-Api-Key", "privateKey", "private_key", "ssh.private.key", "encryption_key", "credentials",
		"jwt", "bearer", "cvv", "cvc", "cvv2", "security_code", "recoveryCodes", "pin", "pin_code", "password_hash",
		"authorization_code", "Ocp-Apim-Subscription-Key", "connectionString", "session_token", "sessionToken", "AUTH_TOKEN",
		"card_number", "audit.metadata.password", "new_password", "password.old", "myAPIKeys", "JWTs", "x_auth",
		// What is no letter parts words, also where it is not seen or was no text.
		"pass\u200bword", "pass\u00adword", "pass\ufffdword", "\ufffdpassword", "password\ufffd", "\u202epassword", "x-api\u00a0key", "pass\xffword",
		"\x80password", "password\xbf", "pass\ufe0fword", "\u3164password", "pass\u034fword", "password\U000e0100",
	}
	for _, name := range sensitive {
		assert.True(t, isSensitive(splitWords(name)), name)
	}
	harmless := []string{
		"tokenizer", "passwordless_enabled", "token_count", "tokens_used", "max_tokens", "total_tokens", "token_type",
		"tokenExpiresAt", "password_changed_at", "password_policy", "password_length", "otp_enabled", "secretName",
		"secret_arn", "cookie_consent", "authorization.decision", "authorization.k8s.io/decision", "token_endpoint", "token_url",
		"api_key_id", "access_key_id", "token_id", "keyId", "public_key", "key", "author", "authority", "secretary", "pinned",
		"passenger", "compass", "bypass", "session.id", "user.id", "code", "status_code", "country_code", "card_type",
		"gen_ai.usage.input_tokens", "audit.actor.id", "sha256", "spin", "description", "monkey", "keyboard", "",
		"contrase\u00f1a_policy", "pass\u00e9", "\u8bcd", "\ufffd", "\xff", "\u0e1e\u0e31",
	}
	for _, name := range harmless {
		assert.False(t, isSensitive(splitWords(name)), name)
	}
}

func TestRedactsByName(t *testing.T) {
	s := testStages(t)
	logs, record := validLogs()
	metadata := record.Attributes().PutEmptyMap(audit.AttributeMetadata)
	require.NoError(t, metadata.FromRaw(map[string]any{
		"user_password": "hunter2!",
		"pin":           1234,
		"nested":        map[string]any{"list": []any{map[string]any{"apiKey": []byte("raw-key")}, "plain"}},
		"credentials":   map[string]any{"user": "bob", "pass": "swordfish"},
		"token_count":   17,
	}))
	verdicts, counts := s.apply(logs, "", false)

	require.Len(t, verdicts, 1)
	assert.Empty(t, verdicts[0].reasons)
	assert.EqualValues(t, 4, counts.redacted[ruleKey])
	assert.Equal(t, map[string]any{
		"user_password": "***",
		"pin":           "***",
		"nested":        map[string]any{"list": []any{map[string]any{"apiKey": "***"}, "plain"}},
		"credentials":   "***",
		"token_count":   int64(17),
	}, rawAttribute(record, audit.AttributeMetadata))
	assert.ElementsMatch(t, []any{
		"audit.metadata.user_password", "audit.metadata.pin", "audit.metadata.nested.list[0].apiKey",
		"audit.metadata.credentials",
	}, rawAttribute(record, audit.AttributeCollectorMasked))
	assert.Equal(t, map[string]any{"key": int64(4)}, rawAttribute(record, audit.AttributeCollectorRedacted))
}

func rawAttribute(record plog.LogRecord, name string) any {
	value, ok := record.Attributes().Get(name)
	if !ok {
		return nil
	}
	return value.AsRaw()
}

func TestRedactsTexts(t *testing.T) {
	const jwt = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
	s := testStages(t)
	for text, want := range map[string]string{
		"Bearer " + jwt:                                                           "Bearer ***",
		"got " + jwt + " from x":                                                  "got *** from x",
		"bearer of bad news":                                                      "bearer of bad news",
		"Bearer authentication failed":                                            "Bearer authentication failed",
		"Basic YWxpY2U6c2VjcmV0":                                                  "Basic ***",
		"Basic authentication":                                                    "Basic authentication",
		"card 4111 1111 1111 1111.":                                               "card ***.",
		"4111-1111-1111-1111":                                                     "***",
		"4111111111111112":                                                        "4111111111111112",
		"order 1779096939611093600":                                               "order 1779096939611093600",
		"AKIAIOSFODNN7EXAMPLE":                                                    "***",
		"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY":                                "***",
		"da39a3ee5e6b4b0d3255bfef95601890afd80709":                                "da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"push with ghp_" + strings.Repeat("a1B2", 9):                              "push with ***",
		"postgres://app:s3cr3t@db:5432/x?sslmode=disable":                         "postgres://app:***@db:5432/x?sslmode=disable",
		"https://x.example/cb?state=1&access_token=abc123&x=2#f":                  "https://x.example/cb?state=1&access_token=***&x=2#f",
		"login failed for user=bob password=hunter2, retrying":                    "login failed for user=bob password=***, retrying",
		"Server=db;User Id=sa;Password=p,w;Pooling=true":                          "Server=db;User Id=sa;Password=***;Pooling=true",
		"Authorization: Digest username=\"a\"":                                    "Authorization: ***\"a\"",
		"Cookie: a=b; c=d\nHost: x":                                               "Cookie: ***\nHost: x",
		"curl --password hunter2 --user bob":                                      "curl --password *** --user bob",
		"curl --token=abc --user bob":                                             "curl --token=*** --user bob",
		"map[password:hunter2 user:bob]":                                          "map[password:*** user:bob]",
		"<a><password>hunter2</password></a>":                                     "<a><password>***</password></a>",
		`body: {\"password\":\"hunter2\",\"a\":1}`:                                `body: {\"password\":\"***\",\"a\":1}`,
		`{"password":"hunter2","n":1.50}`:                                         `{"password":"***","n":1.50}`,
		` [ {"name":"Authorization" , "value" : "abc"} ] `:                        ` [ {"name":"Authorization" , "value" : "***"} ] `,
		`{"a":"{\"token\":\"abc\"}"}`:                                             `{"a":"{\"token\":\"***\"}"}`,
		`[["Cookie","abc"],["Accept","*"]]`:                                       `[["Cookie","***"],["Accept","*"]]`,
		`["--password","abc"]`:                                                    `["--password","***"]`,
		`{"password":"hunter2"`:                                                   `{"password":"***"`,
		`{"a":4111111111111111}`:                                                  `{"a":"***"}`,
		"arn:aws:secretsmanager:eu:1:secret:app/x":                                "arn:aws:secretsmanager:eu:1:secret:app/x",
		"secrets:read tokens:write":                                               "secrets:read tokens:write",
		"api key: abcdef":                                                         "api key: ***",
		"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----":             "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
		"x -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- y": "x *** y",
		"-----BEGIN PRIVATE KEY-----\nMIIcut off":                                 "***",
		"alice@example.com":                                                       "alice@example.com",
		"2026-11-23T10:00:00Z":                                                    "2026-11-23T10:00:00Z",
		"password=***":                                                            "password=***",
		"password=":                                                               "password=",
		"token : 'a b c' d":                                                       "token : '***' d",
		"glpat-abcdefghij1234567890":                                              "***",
	} {
		assert.Equal(t, want, redactText(t, s, text), text)
	}
}

func TestRedactsPairs(t *testing.T) {
	s := testStages(t)
	for name, test := range map[string]struct{ in, want any }{
		"headers": {
			[]any{map[string]any{"name": "Authorization", "value": "abc"}, map[string]any{"name": "Accept", "value": "*"}},
			[]any{map[string]any{"name": "Authorization", "value": "***"}, map[string]any{"name": "Accept", "value": "*"}},
		},
		"key and value": {map[string]any{"key": "API_KEY", "value": 7}, map[string]any{"key": "API_KEY", "value": "***"}},
		"json patch": {
			[]any{map[string]any{"op": "replace", "path": "/user/password", "value": "x"}},
			[]any{map[string]any{"op": "replace", "path": "/user/password", "value": "***"}},
		},
		"field change": {
			map[string]any{"field": "password", "old": "a", "new": "b"},
			map[string]any{"field": "password", "old": "***", "new": "***"},
		},
		"list of pairs":   {[]any{[]any{"Cookie", "abc"}}, []any{[]any{"Cookie", "***"}}},
		"changed fields":  {[]any{"password", "email"}, []any{"password", "email"}},
		"command line":    {[]any{"app", "--password", "abc", "run"}, []any{"app", "--password", "***", "run"}},
		"in order":        {map[string]any{"rawHeaders": []any{"Host", "x", "Authorization", "abc"}}, map[string]any{"rawHeaders": []any{"Host", "x", "Authorization", "***"}}},
		"harmless object": {map[string]any{"name": "colour", "value": "red"}, map[string]any{"name": "colour", "value": "red"}},
	} {
		logs, record := validLogs()
		require.NoError(t, record.Attributes().PutEmpty("data").FromRaw(test.in))
		s.apply(logs, "", false)
		assert.Equal(t, rawOf(t, test.want), rawAttribute(record, "data"), name)
	}
}

func rawOf(t *testing.T, in any) any {
	value := pcommon.NewValueEmpty()
	require.NoError(t, value.FromRaw(in))
	return value.AsRaw()
}

// TestNoSecretSurvives takes each secret of the corpus through every place that
// a record has, in many forms, and looks for it in every byte that is kept.
func TestNoSecretSurvives(t *testing.T) {
	corpus := readSecrets(t)
	s := testStages(t)
	small := testStages(t, withLimits(func(l *LimitsConfig) { l.MaxRecordBytes, l.MaxStringBytes = minRecordBytes, 128 }))
	remove := testStages(t, withRedaction(func(r *RedactionConfig) { r.Mode = modeRemove }))
	for _, secret := range corpus {
		for place, put := range places {
			for _, stages := range []*stages{s, small, remove} {
				logs, record := validLogs()
				put(t, logs, record, secret)
				verdicts, _ := stages.apply(logs, "", true)
				require.Len(t, verdicts, 1)
				kept := everything(t, logs) + strings.Join(verdicts[0].reasons, "\n")
				require.NotContains(t, kept, secret.value, "%s in %s", secret.name, place)
			}
		}
	}
}

type secret struct{ name, text, value string }

// readSecrets reads the corpus: a name, a text, and the part of the text that
// must not survive, with tabs between.
func readSecrets(t testing.TB) []secret {
	t.Helper()
	text, err := os.ReadFile("testdata/stages/secrets.tsv")
	require.NoError(t, err)
	var corpus []secret
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); line == "" || line[0] == '#' {
			continue
		}
		parts := strings.Split(line, "\t")
		require.Len(t, parts, 3, line)
		unescape := strings.NewReplacer(`\n`, "\n", `\t`, "\t", "~", "")
		corpus = append(corpus, secret{parts[0], unescape.Replace(parts[1]), unescape.Replace(parts[2])})
	}
	require.NotEmpty(t, corpus)
	return corpus
}

type place func(t testing.TB, logs plog.Logs, record plog.LogRecord, s secret)

var places = map[string]place{
	"attribute": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) { r.Attributes().PutStr("note", s.text) },
	"body":      func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) { r.Body().SetStr(s.text) },
	"severity":  func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) { r.SetSeverityText(s.text) },
	"bytes": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutEmptyBytes("note").FromRaw([]byte(s.text))
	},
	"nested": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Body().SetEmptyMap().PutEmptySlice("a").AppendEmpty().SetEmptyMap().PutEmptyMap("b").PutStr("c", s.text)
	},
	"json": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		inner := string(canonical.AppendString(nil, s.text))
		outer := string(canonical.AppendString(nil, `{"x":`+inner+`}`))
		r.Attributes().PutStr("payload", `{"list":[1, `+outer+`]}`)
	},
	"broken json": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutStr("payload", `{"x":`+string(canonical.AppendString(nil, s.text))+`, `)
	},
	"behind bad utf-8": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutStr("note", "\xff "+s.text+" \xfe")
	},
	"repeated": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		repeat(r.Attributes(), "note", s.text, "x")
	},
	"under a protected name": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutEmptyMap(audit.AttributeTargetID).PutStr("x", s.text)
	},
	"resource": func(_ testing.TB, l plog.Logs, _ plog.LogRecord, s secret) {
		l.ResourceLogs().At(0).Resource().Attributes().PutStr("note", s.text)
	},
	"service name": func(_ testing.TB, l plog.Logs, _ plog.LogRecord, s secret) {
		l.ResourceLogs().At(0).Resource().Attributes().PutStr(attributeServiceName, s.text)
	},
	"scope": func(_ testing.TB, l plog.Logs, _ plog.LogRecord, s secret) {
		scope := l.ResourceLogs().At(0).ScopeLogs().At(0).Scope()
		scope.SetName(s.text)
		scope.SetVersion(s.text)
		scope.Attributes().PutStr("note", s.text)
	},
	"schema urls": func(_ testing.TB, l plog.Logs, _ plog.LogRecord, s secret) {
		l.ResourceLogs().At(0).SetSchemaUrl(s.text)
		l.ResourceLogs().At(0).ScopeLogs().At(0).SetSchemaUrl(s.text)
	},
	"name": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutEmptyMap("data").PutStr(s.text, "x")
	},
	"attribute name": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutStr(s.text, "x")
	},
	"earlier seal": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutStr(audit.AttributeChainOrigin, s.text)
		r.Attributes().PutEmptySlice(audit.AttributeCollectorMasked).AppendEmpty().SetStr(s.text)
	},
	"long": func(_ testing.TB, _ plog.Logs, r plog.LogRecord, s secret) {
		r.Attributes().PutStr("note", strings.Repeat("lorem ipsum ", 8)+s.text+strings.Repeat(" dolor sit", 5000))
	},
}

// repeat puts two attributes of one name on a map, as a client may send them:
// the second name is changed to the first in the encoded bytes.
func repeat(m pcommon.Map, key string, first, second any) {
	twin := key[:len(key)-1] + "\x7f"
	if err := errors.Join(m.PutEmpty(key).FromRaw(first), m.PutEmpty(twin).FromRaw(second)); err != nil {
		panic(err)
	}
	logs := plog.NewLogs()
	m.CopyTo(logs.ResourceLogs().AppendEmpty().Resource().Attributes())
	marshaler, unmarshaler := plog.ProtoMarshaler{}, plog.ProtoUnmarshaler{}
	encoded, err := marshaler.MarshalLogs(logs)
	if err != nil {
		panic(err)
	}
	again, err := unmarshaler.UnmarshalLogs([]byte(strings.ReplaceAll(string(encoded), twin, key)))
	if err != nil {
		panic(err)
	}
	again.ResourceLogs().At(0).Resource().Attributes().CopyTo(m)
}

// Long texts take turns, and leave no memory behind.
func TestLongTextsTakeTurns(t *testing.T) {
	r := testStages(t).redactor
	text := strings.Repeat("password=hunter2 ", 2*longText/len("password=hunter2 "))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			w := newWalker(r)
			w.marks = &marks{}
			out, hit := w.text(text)
			assert.True(t, hit)
			assert.Equal(t, strings.ReplaceAll(text, "hunter2", "***"), out)
			assert.Nil(t, w.search.hits)
		})
	}
	all.Wait()
	r.long.Lock()
	waits := make(chan struct{})
	go func() {
		w := newWalker(r)
		w.marks = &marks{}
		w.text(text)
		close(waits)
	}()
	w := newWalker(r)
	w.marks = &marks{}
	for range 16 { // not long, and together longer than the one that waits
		w.text(text[:longText])
	}
	select {
	case <-waits:
		assert.Fail(t, "a second long text is worked on")
	default:
	}
	r.long.Unlock()
	<-waits
}
