// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// maxControls bounds the start and stop records that are kept of one origin: a
// genuine life has one of each, the others are somebody's forgeries.
const maxControls = 16

// control is what a record of the stream `origin:` says about its life. It
// counts only where the leaf at its index is this very record.
type control struct {
	index uint64
	leaf  chain.Hash
	at    place
	// Of a start.
	previous     string // empty on the first life
	previousSize uint64
	previousRoot chain.Hash
	// Of a stop.
	sealedAt int64
}

// coordinate names a sealed record.
type coordinate struct {
	origin string
	index  uint64
}

// witness is an audit.quarantine record: where it was read, and what was done by
// which sink. It counts only if a signature covers it: hashes alone anyone can
// compute.
type witness struct {
	origin *origin
	index  uint64
	leaf   chain.Hash
	action string
	sink   [sha256.Size]byte // of its name, which may be of any length
}

// The actions of an audit.quarantine record.
const (
	actionQuarantine = "quarantine" // the sink refused the record
	actionReplay     = "replay"     // the sink stored it after all
	actionDrop       = "drop"       // it was given up
)

// readControl looks at a sound line of the stream `origin:`.
func (v *Verifier) readControl(o *origin, f *fact, event []byte) {
	logs, err := canonical.Parse(event)
	if err != nil {
		return // hashed as it is; a control record it is not
	}
	record := onlyRecord(logs)
	attributes := record.Attributes()
	c := control{index: f.index, leaf: f.hash, at: f.at, sealedAt: f.sealedAt}
	switch record.EventName() {
	case audit.EventOriginStart:
		if f.index != 0 || len(o.starts) == maxControls || !c.readStart(attributes) {
			return
		}
		o.starts = append(o.starts, c)
		v.learnKey(o.name.Instance, text(attributes, audit.AttributeOriginKey))
	case audit.EventOriginStop:
		if len(o.stops) < maxControls {
			o.stops = append(o.stops, c)
		}
	case audit.EventQuarantine:
		v.readQuarantine(witness{origin: o, index: f.index, leaf: f.hash}, attributes)
	}
}

// readQuarantine notes what a record says of the record that it names.
func (v *Verifier) readQuarantine(w witness, attributes pcommon.Map) {
	index, ok := number(attributes, audit.AttributeQuarantineIndex)
	w.action = text(attributes, audit.AttributeQuarantineAction)
	if !ok || w.action != actionQuarantine && w.action != actionReplay && w.action != actionDrop {
		return
	}
	origin := text(attributes, audit.AttributeQuarantineOrigin)
	if _, err := chain.ParseOrigin(origin); err != nil {
		return // no record has such a name, and it may be of any length
	}
	w.action, w.sink = strings.Clone(w.action), sha256.Sum256([]byte(text(attributes, audit.AttributeQuarantineSink)))
	v.quarantined(coordinate{origin, index}, w)
}

// readStart reads who came before; a start that names a predecessor must name
// an origin, its size and its root. What is no origin may be of any length, and
// of any characters.
func (c *control) readStart(attributes pcommon.Map) bool {
	c.previous = text(attributes, audit.AttributeOriginPrevious)
	if c.previous == "" {
		return true
	}
	if _, err := chain.ParseOrigin(c.previous); err != nil {
		return false
	}
	var ok bool
	if c.previousSize, ok = number(attributes, audit.AttributeOriginPreviousSize); !ok {
		return false
	}
	var err error
	c.previousRoot, err = chain.ParseHash(text(attributes, audit.AttributeOriginPreviousRoot))
	return err == nil
}

// learnKey trusts, on first use, the key that a start record carries.
func (v *Verifier) learnKey(instance, encoded string) {
	if len(v.options.Keys) > 0 || len(v.options.Pins[instance]) > 0 || v.firstUse[instance] != nil {
		return
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err == nil && len(key) == ed25519.PublicKeySize {
		v.firstUse[instance] = key
	}
}

func onlyRecord(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

func text(attributes pcommon.Map, key string) string {
	value, ok := attributes.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeStr {
		return ""
	}
	return value.Str()
}

func number(attributes pcommon.Map, key string) (uint64, bool) {
	value, ok := attributes.Get(key)
	if !ok || value.Type() != pcommon.ValueTypeInt || value.Int() < 0 {
		return 0, false
	}
	return uint64(value.Int()), true
}
