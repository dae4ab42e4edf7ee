// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Bounds on what is read.
const (
	MaxFileBytes = 1 << 20 // bytes of one file
	maxNodes     = 100_000 // values of one file, each alias counted as what it stands for
	maxDepth     = 64      // levels of nesting
	maxPipelines = 1000    // of all files: each is compared with those that it leads to
)

// keyDelimiter joins the keys of a path. The collector splits keys at it.
const keyDelimiter = "::"

// node is one value of a configuration and where it stands. A nil node is an
// absent value.
type node struct {
	file string
	line int

	kind   kind
	text   string           // of a scalar
	tag    string           // of a scalar, as YAML resolves it
	fields map[string]*node // of a map
	items  []*node          // of a list
}

type kind int

const (
	null kind = iota
	scalar
	list
	mapping
	opaque // within a value that only the collector can resolve
)

// parse reads one file. Errors name the file and, where it is known, the line.
func parse(name string, text []byte) (*node, error) {
	if len(text) > MaxFileBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes, which no collector configuration is", name, MaxFileBytes)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return &node{file: name, line: 1}, nil // an empty file adds nothing
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return nil, fmt.Errorf("%s:%d: a second document begins, which the collector does not read: remove it, or give it a file of its own", name, second.Line)
	}
	b := builder{file: name}
	root, err := b.build(&document, 0)
	if err != nil {
		return nil, err
	}
	if root.kind != mapping && root.kind != null {
		return nil, root.fault("a collector configuration must be a map, for example `service: {…}`")
	}
	return root, nil
}

// builder turns YAML's tree into ours: aliases and merge keys followed, keys
// split as the collector splits them.
type builder struct {
	file  string
	count int
}

func (b *builder) build(y *yaml.Node, depth int) (*node, error) {
	n := &node{file: b.file, line: y.Line}
	if b.count++; b.count > maxNodes {
		return nil, n.fault(fmt.Sprintf("more than %d values, aliases counted as what they stand for", maxNodes))
	}
	if depth > maxDepth {
		return nil, n.fault(fmt.Sprintf("nested more than %d levels deep", maxDepth))
	}
	switch y.Kind {
	case yaml.DocumentNode:
		if len(y.Content) == 0 {
			return n, nil
		}
		return b.build(y.Content[0], depth)
	case yaml.AliasNode: // one that holds itself ends at maxDepth
		return b.build(y.Alias, depth+1)
	case yaml.ScalarNode:
		if y.ShortTag() != "!!null" {
			n.kind, n.text, n.tag = scalar, y.Value, y.ShortTag()
		}
		return n, nil
	case yaml.SequenceNode:
		n.kind = list
		for _, item := range y.Content {
			built, err := b.build(item, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, built)
		}
		return n, nil
	case yaml.MappingNode:
		return b.buildMap(n, y, depth)
	default:
		return n, nil
	}
}

func (b *builder) buildMap(n *node, y *yaml.Node, depth int) (*node, error) {
	n.kind, n.fields = mapping, map[string]*node{}
	seen := map[string]bool{}
	var inherited []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key, value := y.Content[i], y.Content[i+1]
		at := &node{file: b.file, line: key.Line}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			return nil, at.fault("a key must be a word, found a list or a map")
		}
		if seen[key.Value] {
			return nil, at.fault(fmt.Sprintf("key %q is set twice", key.Value))
		}
		seen[key.Value] = true
		built, err := b.build(value, depth+1)
		if err != nil {
			return nil, err
		}
		if key.ShortTag() == "!!merge" {
			inherited = append(inherited, built)
			continue
		}
		built.line = key.Line
		if err := b.put(n, strings.Split(key.Value, keyDelimiter), built); err != nil {
			return nil, err
		}
	}
	for _, base := range inherited {
		if err := n.inherit(base); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// put sets a value below n. A path of several keys is what `a::b` is to the
// collector: b within a.
func (b *builder) put(n *node, path []string, value *node) error {
	if b.count += len(path) - 1; b.count > maxNodes || len(path) > maxDepth {
		return value.fault(fmt.Sprintf("a key with more than %d levels, or more than %d values", maxDepth, maxNodes))
	}
	for i := len(path) - 1; i > 0; i-- {
		value = &node{file: value.file, line: value.line, kind: mapping, fields: map[string]*node{path[i]: value}}
	}
	n.fields[path[0]] = merge(n.fields[path[0]], value)
	return nil
}

// inherit adds what a YAML merge key (`<<`) brings: only what is not there.
func (n *node) inherit(base *node) error {
	switch base.kind {
	case list:
		for _, item := range base.items {
			if item.kind != mapping {
				return item.fault("`<<` must name maps")
			}
			if err := n.inherit(item); err != nil {
				return err
			}
		}
	case mapping:
		for key, value := range base.fields {
			if _, set := n.fields[key]; !set {
				n.fields[key] = value
			}
		}
	default:
		return base.fault("`<<` must name a map, or a list of maps")
	}
	return nil
}

// merge is what the collector makes of a value and one from a later file: maps
// are joined key by key, anything else is replaced, also by null.
func merge(earlier, later *node) *node {
	if earlier == nil || earlier.kind != mapping || later.kind != mapping {
		return later
	}
	joined := &node{file: later.file, line: later.line, kind: mapping, fields: make(map[string]*node, len(earlier.fields)+len(later.fields))}
	maps.Copy(joined.fields, earlier.fields)
	for key, value := range later.fields {
		joined.fields[key] = merge(joined.fields[key], value)
	}
	return joined
}

func (n *node) fault(text string) error {
	return fmt.Errorf("%s:%d: %s", n.file, n.line, text)
}

// at is the value below n, nil where there is none. Below a value that only
// the collector can resolve everything is opaque.
func (n *node) at(path ...string) *node {
	for _, key := range path {
		if n == nil {
			return nil
		}
		if n.unknown() {
			return &node{file: n.file, line: n.line, kind: opaque, text: n.text}
		}
		n = n.fields[key]
	}
	return n
}

// unknown says that only the collector can resolve n: `${env:X}` and its like.
func (n *node) unknown() bool {
	return n != nil && (n.kind == opaque || n.kind == scalar && strings.Contains(n.text, "${"))
}

// unset says that n has no value: absent or null.
func (n *node) unset() bool {
	return n == nil || n.kind == null
}

// boolean is a value that must be true or false.
func (n *node) boolean() (value, ok bool) {
	if n == nil || n.kind != scalar || n.tag != "!!bool" {
		return false, false
	}
	return strings.EqualFold(n.text, "true"), true
}

// string is a scalar, of whatever type.
func (n *node) string() (string, bool) { return n.text, n.kind == scalar }

// duration is a value such as 5s; a bare number is nanoseconds, as it is to
// the collector.
func (n *node) duration() (time.Duration, bool) {
	if n == nil || n.kind != scalar {
		return 0, false
	}
	if n.tag == "!!int" {
		nanoseconds, err := strconv.ParseInt(n.text, 0, 64)
		return time.Duration(nanoseconds), err == nil
	}
	value, err := time.ParseDuration(n.text)
	return value, err == nil
}
