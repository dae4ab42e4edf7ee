// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package canonical

import (
	"errors"
	"strconv"
	"strings"
)

// Why a record has no canonical form.
var (
	ErrUTF8   = errors.New("invalid utf-8")
	ErrNumber = errors.New("number is not finite")
	ErrDepth  = errors.New("nested deeper than " + strconv.Itoa(MaxDepth))
	ErrTime   = errors.New("time is 2^63 ns or more")
)

// PathError says where a record has no canonical form, and wraps the reason:
// [ErrUTF8], [ErrNumber], [ErrDepth] or [ErrTime]. It holds keys, cut and
// quoted where need be, and never a value.
type PathError struct {
	// Path leads from the record, or from `resource` or `scope`, to the value:
	// attributes.audit.metadata.items[2].price. A key that is itself at fault
	// is the path's last part.
	Path string
	Err  error
}

func (e *PathError) Error() string { return e.Path + ": " + e.Err.Error() }

func (e *PathError) Unwrap() error { return e.Err }

// maxPath and maxPathKey bound an error's text, in bytes.
const (
	maxPath    = 512
	maxPathKey = 64
)

// within puts a part in front of the path. It does nothing to nil.
func (e *PathError) within(part string) *PathError {
	if e == nil {
		return nil
	}
	switch {
	case e.Path == "":
		e.Path = part
	case strings.HasPrefix(e.Path, "["):
		e.Path = part + e.Path
	default:
		e.Path = part + "." + e.Path
	}
	if len(e.Path) > maxPath {
		e.Path = e.Path[:maxPath-3] + "..."
	}
	return e
}

// at puts an index in front of the path.
func (e *PathError) at(index int) *PathError { return e.within("[" + strconv.Itoa(index) + "]") }

func pathKey(key string) string {
	cut := key
	if len(cut) > maxPathKey {
		cut = cut[:maxPathKey]
	}
	if !isPlain(cut) {
		cut = strconv.QuoteToASCII(cut)
	}
	if len(key) > maxPathKey {
		cut += "..."
	}
	return cut
}
