// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package filesink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/otelaudit/otelaudit/audit/canonical"
	"github.com/otelaudit/otelaudit/audit/chain"
)

const (
	manifestExtension = ".manifest.json"
	// maxManifest is the longest manifest that is read, in bytes.
	maxManifest = 4 << 10
)

// errManifest says that text is not a manifest.
var errManifest = errors.New("not a manifest")

// manifest describes a file that gets no more lines. It is an aid to whoever
// copies and checks files, and tells the sink what retention removed;
// verification reads none.
type manifest struct {
	origin string
	file   string
	bytes  int64
	lines  uint64
	sha256 chain.Hash

	// records is what indexes the file's lines are of, earliest and latest when
	// they were sealed. Stubs count. A file without any has nothing of it.
	records          span
	earliest, latest int64

	// checkpoint is the size of the last checkpoint, if there is one.
	checkpoint    uint64
	hasCheckpoint bool
}

// end is the number below which the file and those before it hold all of the
// origin.
func (m *manifest) end() uint64 {
	end := m.checkpoint
	if m.records.used {
		end = max(end, m.records.high+1)
	}
	return end
}

// encode returns the one spelling of m, with a newline.
func (m *manifest) encode() []byte {
	dst := strconv.AppendInt([]byte(`{"bytes":"`), m.bytes, 10)
	if m.hasCheckpoint {
		dst = strconv.AppendUint(append(dst, `","checkpoint":"`...), m.checkpoint, 10)
	}
	if m.records.used {
		dst = strconv.AppendInt(append(dst, `","earliest":"`...), m.earliest, 10)
	}
	dst = canonical.AppendString(append(dst, `","file":`...), m.file)
	if m.records.used {
		dst = strconv.AppendUint(append(dst, `,"first":"`...), m.records.low, 10)
		dst = strconv.AppendUint(append(dst, `","last":"`...), m.records.high, 10)
		dst = strconv.AppendInt(append(dst, `","latest":"`...), m.latest, 10)
		dst = append(dst, '"')
	}
	dst = strconv.AppendUint(append(dst, `,"lines":"`...), m.lines, 10)
	dst = canonical.AppendString(append(dst, `","origin":`...), m.origin)
	dst = m.sha256.AppendHex(append(dst, `,"sha256":"`...))
	return append(dst, "\"}\n"...)
}

// manifestJSON is a manifest before its members are judged.
type manifestJSON struct {
	Bytes      int64   `json:"bytes,string"`
	Checkpoint *uint64 `json:"checkpoint,string"`
	Earliest   *int64  `json:"earliest,string"`
	File       string  `json:"file"`
	First      *uint64 `json:"first,string"`
	Last       *uint64 `json:"last,string"`
	Latest     *int64  `json:"latest,string"`
	Lines      uint64  `json:"lines,string"`
	Origin     string  `json:"origin"`
	SHA256     string  `json:"sha256"`
}

// parseManifest reads what encode writes, and nothing else: all other
// text is errManifest.
func parseManifest(text []byte) (manifest, error) {
	if len(text) > maxManifest {
		return manifest{}, fmt.Errorf("%w: longer than %d bytes", errManifest, maxManifest)
	}
	var read manifestJSON
	if err := json.Unmarshal(text, &read); err != nil {
		return manifest{}, fmt.Errorf("%w: %w", errManifest, err)
	}
	hash, err := chain.ParseHash(read.SHA256)
	if err != nil {
		return manifest{}, fmt.Errorf("%w: member `sha256`: %w", errManifest, err)
	}
	m := manifest{origin: read.Origin, file: read.File, bytes: read.Bytes, lines: read.Lines, sha256: hash}
	if read.Checkpoint != nil {
		m.checkpoint, m.hasCheckpoint = *read.Checkpoint, true
	}
	if read.First != nil && read.Last != nil && read.Earliest != nil && read.Latest != nil {
		m.records = span{low: *read.First, high: *read.Last, used: true}
		m.earliest, m.latest = *read.Earliest, *read.Latest
	}
	switch {
	case m.records.low > m.records.high || m.earliest > m.latest:
		return manifest{}, fmt.Errorf("%w: a range ends before it starts", errManifest)
	case m.bytes < 0:
		return manifest{}, fmt.Errorf("%w: member `bytes` is negative", errManifest)
	case !bytes.Equal(m.encode(), text):
		return manifest{}, fmt.Errorf("%w: not as it is written", errManifest)
	}
	return m, nil
}

// manifestName is the name of the manifest of the file that starts at first.
func manifestName(first uint64) string { return stem(first) + manifestExtension }
