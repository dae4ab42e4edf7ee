// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Kind says what is special about an event of the corpus.
type Kind int

// The kinds, with their share of a corpus in percent.
const (
	KindPlain     Kind = iota // 60: ordinary events
	KindSecret                // 15: secrets where real events have them
	KindUnicode               // 12: every corner of Unicode that JSON can carry
	KindFlagged               // 8: breaks the schema, so it is stored flagged
	KindOversize              // 1: over the limits, so it is truncated
	KindAnonymous             // 2: without an id
	KindMalformed             // 2: not an event: refused with 400
	kinds
)

// Event is one event in the original logger's JSON.
type Event struct {
	Kind Kind
	ID   string // empty for KindAnonymous and KindMalformed
	JSON []byte
}

// Needle is a text that must never reach the disk.
type Needle struct{ Name, Text string }

// The secrets of the corpus. Each holds a text of its own that occurs nowhere
// else, so that a leak names the detector that slept.
const (
	canaryPassword   = "zQ7passwordCanary!9"
	canaryAPIKey     = "zQ7apiKeyCanary93x"
	canaryHeader     = "zQ7headerCanary44k"
	canaryBearer     = "zQ7bearerCanary.55-tail_Xk2LmN8pQ"
	canaryJWT        = "zQ7jwtCanarySignature0123456789abcdef"
	canaryGitHub     = "zQ7githubCanary0123456789abcdefghijk" // 36 characters, as after ghp_
	canaryAWS        = "ZQ7AWSCANARY3456"                     // 16 characters, as after AKIA
	canaryPEM        = "zQ7pemCanaryMIIEvQIBADANBgkqhkiG9w0BAQEFAASC"
	canaryJSONString = "zQ7jsonStringCanary77"
	canaryNested     = "zQ7nestedCanary88"
	canaryCookie     = "zQ7cookieCanary21"
	canaryFlagged    = "zQ7flaggedCanary13"
	canaryCard       = "4012888888881881"
	canaryCardSpaced = "5105 1051 0510 5100"
)

// Needles lists every secret that events of the corpus carry.
func Needles() []Needle {
	return []Needle{
		{"value of a key named password", canaryPassword},
		{"value of a key named x-api-key", canaryAPIKey},
		{"value of a header pair", canaryHeader},
		{"bearer token in a text", canaryBearer},
		{"signature of a JWT", canaryJWT},
		{"GitHub token", canaryGitHub},
		{"AWS access key id", canaryAWS},
		{"body of a PEM block", canaryPEM},
		{"password in JSON in a string", canaryJSONString},
		{"secret deep in a diff", canaryNested},
		{"cookie", canaryCookie},
		{"secret of a flagged event", canaryFlagged},
		{"card number", canaryCard},
		{"card number in groups", canaryCardSpaced},
	}
}

// Corpus makes events, the same ones for the same seed and name. Not for
// concurrent use.
type Corpus struct {
	random *rand.Rand
	name   string
	n      int
	bulk   string // in each ordinary event
}

// NewCorpus returns a corpus whose event ids begin with name.
func NewCorpus(seed uint64, name string) *Corpus {
	return &Corpus{random: rand.New(rand.NewPCG(seed, 0)), name: name}
}

// carrying lets each ordinary event carry size bytes of text.
func (c *Corpus) carrying(size int) *Corpus {
	c.bulk = strings.Repeat("the quick brown fox ", size/20)
	return c
}

// Next returns the next event.
func (c *Corpus) Next() Event {
	return c.Make(pick(c.random.IntN(100)))
}

func pick(percent int) Kind {
	for kind, share := range [kinds]int{60, 15, 12, 8, 1, 2, 2} {
		if percent < share {
			return Kind(kind)
		}
		percent -= share
	}
	return KindPlain
}

// Make returns the next event, of the given kind.
func (c *Corpus) Make(kind Kind) Event {
	c.n++
	event := Event{Kind: kind, ID: fmt.Sprintf("%s-%08d", c.name, c.n)}
	object := c.plain(event.ID)
	switch kind {
	case KindSecret:
		c.addSecret(object)
	case KindUnicode:
		addUnicode(object)
	case KindFlagged:
		c.breakSchema(object)
	case KindOversize:
		addBulk(object, 40<<10+c.random.IntN(60<<10))
	case KindAnonymous:
		event.ID = ""
		delete(object, "eventId")
	case KindMalformed:
		event.ID = ""
		c.breakShape(object)
	default:
	}
	var err error
	if event.JSON, err = json.Marshal(object); err != nil {
		panic(err) // a corpus of strings, numbers and maps
	}
	return event
}

type object = map[string]any

func (c *Corpus) plain(id string) object {
	user := c.random.IntN(5000)
	event := object{
		"eventId": id,
		"action":  pickOne(c, "user.login", "invoice.update", "role.assign", "document.delete", "apikey.rotate"),
		"outcome": pickOne(c, "SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "DENIED", "ERROR"),
		"actor": object{
			"type": pickOne(c, "user", "user", "service", "system"), "id": fmt.Sprintf("user_%d", user),
			"displayName": fmt.Sprintf("User Number %d", user), "roles": []string{"editor", "billing"},
			"ip": fmt.Sprintf("203.0.113.%d", user%250), "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
		},
		"target": object{"type": "invoice", "id": fmt.Sprintf("inv_%d", c.random.IntN(1_000_000)), "displayName": "Invoice for November"},
		"context": object{
			"occurredAt": time.Now().UTC().Format(time.RFC3339Nano), "requestId": fmt.Sprintf("req-%016x", c.random.Uint64()),
			"traceId": fmt.Sprintf("%016x%016x", c.random.Uint64(), c.random.Uint64()|1), "tenantId": fmt.Sprintf("tenant-%d", c.random.IntN(8)),
			"orgId": "org-7", "environment": "production", "sourceService": pickOne(c, "billing-api", "auth-api"),
			"sourceVersion": "3.14.2", "sourceHost": "host-a", "sourceRegion": "eu-central-1",
		},
		"metadata": object{
			"http": object{"method": "PUT", "route": "/v1/invoices/:id"}, "attempt": c.random.IntN(4),
			"labels": []string{"finance", "quarterly"}, "note": "approved by the second reviewer",
		},
		"diff": object{
			"before": object{"status": "draft", "total": 1200, "currency": "EUR"},
			"after":  object{"status": "approved", "total": 1250, "currency": "EUR"},
		},
		"retentionTag": "standard",
	}
	if c.bulk != "" {
		event["metadata"].(object)["text"] = c.bulk
	}
	return event
}

func (c *Corpus) addSecret(o object) {
	metadata := o["metadata"].(object)
	switch c.random.IntN(12) {
	case 0:
		metadata["user_password"] = canaryPassword
	case 1:
		metadata["http"] = object{"headers": object{"X-Api-Key": canaryAPIKey}}
	case 2:
		metadata["headers"] = []object{{"name": "Accept", "value": "*/*"}, {"name": "Authorization", "value": canaryHeader}}
	case 3:
		metadata["note"] = "the client sent Authorization: Bearer " + canaryBearer + " twice"
	case 4:
		metadata["note"] = "session " + jwt() + " was refused"
	case 5:
		metadata["remote"] = "cloned with ghp_" + canaryGitHub
	case 6:
		metadata["note"] = "uses AKIA" + canaryAWS
	case 7:
		metadata["upload"] = "-----BEGIN PRIVATE KEY-----\n" + canaryPEM + "\n-----END PRIVATE KEY-----\n"
	case 8:
		metadata["payload"] = `{"login":{"user":"u","password":"` + canaryJSONString + `"}}`
	case 9:
		o["diff"] = object{"before": object{"a": []any{object{"b": object{"client_secret": canaryNested}}}}, "after": object{}}
	case 10:
		metadata["request"] = object{"Set-Cookie": "sid=" + canaryCookie}
	default:
		metadata["note"] = "paid with " + canaryCard
		metadata["memo"] = "or with " + canaryCardSpaced + " instead"
	}
}

func jwt() string {
	segment := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	return segment(`{"alg":"HS256","typ":"JWT"}`) + "." + segment(`{"sub":"user_1","iat":1700000000}`) + "." + canaryJWT
}

func addUnicode(o object) {
	o["actor"].(object)["displayName"] = "Zoë Ångström 山田太郎 \U0001F9D1\u200D\U0001F4BB \u202Etxet\u202C"
	o["metadata"] = object{
		"nul \x00 and \u2028": "line\u2028separator\u0000nul\ttab\r\n\"quote\" \\ /",
		"e\u0301 and é":       "two spellings", "\U0001F600": "astral key", "\uFFFD": "replacement",
		"\uE000 before 😀": "private use sorts after surrogates", "html": "<script>&amp;</script>",
		"": "empty key", "größe": 1.5e300, "tiny": 5e-324, "negative": -0.25, "int": int64(-1) << 62,
	}
}

func (c *Corpus) breakSchema(o object) {
	o["metadata"].(object)["secret"] = canaryFlagged
	switch c.random.IntN(3) {
	case 0:
		delete(o["actor"].(object), "id")
	case 1:
		delete(o, "outcome")
	default:
		o["context"].(object)["occurredAt"] = time.Now().Add(240 * time.Hour).UTC().Format(time.RFC3339)
	}
}

func addBulk(o object, size int) {
	o["metadata"] = object{"bulk": strings.Repeat("0123456789abcdef", size/16)}
}

func (c *Corpus) breakShape(o object) {
	switch c.random.IntN(4) {
	case 0:
		o["surprise"] = true
	case 1:
		o["actor"] = "just a text"
	case 2:
		o["context"].(object)["occurredAt"] = "yesterday"
	default:
		o["metadata"] = object{"huge": json.Number("12345678901234567890123")}
	}
}

func pickOne(c *Corpus, choices ...string) string { return choices[c.random.IntN(len(choices))] }
