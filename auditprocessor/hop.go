// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelaudit/otelaudit/audit"
)

// maxHopAttributes bounds what is moved, because each costs a look at all
// others.
const maxHopAttributes = 64

// belongsToHop says whether an incoming attribute claims to be what only a
// collector writes.
func belongsToHop(key string) bool {
	return strings.HasPrefix(key, audit.PrefixChain) || strings.HasPrefix(key, audit.PrefixCollector)
}

// moveHop renames the seal of an earlier collector, or what a client wants to
// pass off as ours, to `audit.integrity.hop.<n>.…` with the first free n.
// After it no attribute of ours is on the record. A seal has a dozen
// attributes; what is above maxHopAttributes goes, marked.
func moveHop(attributes pcommon.Map, m *marks) {
	prefix := audit.PrefixHop + strconv.Itoa(firstFreeHop(attributes)) + "."
	type moving struct {
		key   string
		value pcommon.Value
	}
	var moved []moving
	dropped := 0
	attributes.RemoveIf(func(key string, value pcommon.Value) bool {
		if !belongsToHop(key) {
			return false
		}
		if len(moved) == maxHopAttributes {
			dropped += len(key) + sizeOf(value)
			return true
		}
		kept := pcommon.NewValueEmpty()
		value.MoveTo(kept)
		moved = append(moved, moving{prefix + strings.TrimPrefix(key, audit.PrefixIntegrity), kept})
		return true
	})
	for _, attribute := range moved {
		attribute.value.MoveTo(attributes.PutEmpty(attribute.key)) // of a repeated name the last stays
	}
	if dropped > 0 {
		m.truncate(strings.TrimSuffix(prefix, "."), dropped)
	}
}

func firstFreeHop(attributes pcommon.Map) int {
	taken := map[int]bool{}
	for key := range attributes.All() {
		rest, ok := strings.CutPrefix(key, audit.PrefixHop)
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(digits); err == nil && strconv.Itoa(n) == digits {
			taken[n] = true
		}
	}
	n := 0
	for taken[n] {
		n++
	}
	return n
}

// isProof says whether an attribute of the integrity namespace was computed
// over the whole record: a producer's signature, or an earlier hash.
func isProof(key string) bool {
	rest := key[len(audit.PrefixIntegrity):]
	for _, name := range [...]string{"value", "new_value", "hash"} {
		if rest == name || (strings.HasPrefix(rest, name) && rest[len(name)] == '.') {
			return true
		}
	}
	return isHopProof(key)
}

// isHopProof says whether an attribute is an earlier collector's hash.
func isHopProof(key string) bool {
	return strings.HasPrefix(key, audit.PrefixHop) && strings.HasSuffix(key, ".chain.hash")
}

// maskEach takes the proofs from a record that was changed after they were
// made: beside a masked field of few possible values, a signature or hash of
// the original tells which one it was. A keyed hash stays.
func (w *worker) maskEach(attributes pcommon.Map, is func(string) bool) {
	mask := w.stages.redactor.mask
	for key, value := range attributes.All() {
		if !strings.HasPrefix(key, audit.PrefixIntegrity) || !is(key) {
			continue
		}
		if value.Type() != pcommon.ValueTypeStr || value.Str() != mask {
			w.keepProof(key, value)
			value.SetStr(mask)
			w.own.redact(shorten(key, maxKeyInPath), ruleSignature)
		}
	}
}
