// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// maxRenamed bounds the names of one map that are changed one by one, because
// each costs a look at all others.
const maxRenamed = 256

// renaming says which names of a map cannot stay, what they become, and how
// that is marked.
type renaming struct {
	bad  func(key string) bool
	name func(key string) string
	mark func(path string) // of the member under its new name
}

// renameMembers changes the names of m, which stands at the location. Names
// that become the same get a number, so that nothing is lost; members above
// maxRenamed go, marked.
func renameMembers(m pcommon.Map, at *location, marked *marks, to renaming) {
	type member struct {
		key   string
		value pcommon.Value
	}
	var renamed []member
	dropped := 0
	m.RemoveIf(func(key string, value pcommon.Value) bool {
		if !to.bad(key) {
			return false
		}
		if len(renamed) == maxRenamed {
			dropped += len(key)
			return true
		}
		kept := pcommon.NewValueEmpty()
		value.MoveTo(kept)
		renamed = append(renamed, member{to.name(key), kept})
		return true
	})
	if len(renamed) == 0 {
		return
	}
	taken := make(map[string]bool, m.Len())
	for key := range m.All() {
		taken[key] = true
	}
	for _, r := range renamed {
		key := freeName(r.key, taken)
		at.push(key)
		to.mark(at.String())
		at.pop()
		r.value.MoveTo(m.PutEmpty(key))
	}
	if dropped > 0 {
		marked.truncate(at.String(), dropped)
	}
}

func freeName(name string, taken map[string]bool) string {
	free := name
	for n := 2; taken[free]; n++ {
		free = name + "#" + strconv.Itoa(n)
	}
	taken[free] = true
	return free
}
