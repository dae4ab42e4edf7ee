// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/chain"
)

// errUnsealed says that a record has no coordinates.
var errUnsealed = errors.New("record has no " + audit.PrefixChain + "* attributes:" +
	" it did not pass an `audit` processor; put one before this exporter in the pipeline")

// maxRange is the most hashes that a compact range has.
const maxRange = 64

// seal is what the chain attributes of one record say.
type seal struct {
	found   fields
	link    chain.Link // without digest
	hash    chain.Hash
	note    []byte
	compact []chain.Hash
}

// fields is a set of chain attributes.
type fields uint16

const (
	fieldOrigin fields = 1 << iota
	fieldIndex
	fieldStream
	fieldSeq
	fieldSealedAt
	fieldPrev
	fieldHash
	fieldCheckpoint
	fieldRange

	sealedFields     = fieldOrigin | fieldIndex | fieldStream | fieldSeq | fieldSealedAt | fieldPrev | fieldHash
	checkpointFields = fieldOrigin | fieldIndex | fieldCheckpoint | fieldRange
)

// read takes the chain attributes out of attributes: each at most once, of the
// one right type and in its range.
func (s *seal) read(attributes pcommon.Map) error {
	*s = seal{}
	for name, value := range attributes.All() {
		if !strings.HasPrefix(name, audit.PrefixChain) {
			continue
		}
		field, err := s.set(name, value)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
		if s.found&field != 0 {
			return fmt.Errorf("attribute %s: comes twice", name)
		}
		s.found |= field
	}
	return s.check(attributes.Len())
}

func (s *seal) set(name string, value pcommon.Value) (field fields, err error) {
	switch name {
	case audit.AttributeChainOrigin:
		s.link.Origin, err = text(value, chain.MaxName)
		return fieldOrigin, err
	case audit.AttributeChainIndex:
		s.link.Index, err = number(value, 0)
		return fieldIndex, err
	case audit.AttributeChainStream:
		s.link.Stream, err = text(value, chain.MaxName)
		return fieldStream, err
	case audit.AttributeChainSeq:
		s.link.Seq, err = number(value, 1)
		return fieldSeq, err
	case audit.AttributeChainSealedAt:
		if value.Type() != pcommon.ValueTypeInt {
			return 0, errType("an integer", value)
		}
		s.link.SealedAt = value.Int()
		return fieldSealedAt, nil
	case audit.AttributeChainPrev:
		s.link.Prev, err = hash(value)
		return fieldPrev, err
	case audit.AttributeChainHash:
		s.hash, err = hash(value)
		return fieldHash, err
	case audit.AttributeChainCheckpoint:
		note, err := text(value, chain.MaxNote)
		s.note = []byte(note)
		return fieldCheckpoint, err
	case audit.AttributeChainRange:
		s.compact, err = hashes(value)
		return fieldRange, err
	}
	return 0, errors.New("unknown to this version")
}

// check says whether the attributes that were found make a sealed record or a
// checkpoint, which has no others of any kind.
func (s *seal) check(attributes int) error {
	switch {
	case s.found == 0:
		return errUnsealed
	case s.found&fieldCheckpoint != 0:
		if s.found != checkpointFields || attributes != 4 {
			return errors.New("checkpoint has attributes missing or too many")
		}
	case s.found != sealedFields:
		return errors.New("sealed record has " + audit.PrefixChain + "* attributes missing or too many")
	case (s.link.Seq == 1) != (s.link.Prev == chain.Hash{}):
		return fmt.Errorf("attribute %s: must be zeros for seq 1 and for no other", audit.AttributeChainPrev)
	}
	return nil
}

// checkCheckpoint says whether the note, the range and the coordinate belong
// together. Whose signature it is, is the verifier's to judge.
func (s *seal) checkCheckpoint() error {
	c, err := chain.ParseCheckpoint(s.note)
	if err != nil {
		return err
	}
	if c.Origin != s.link.Origin || c.Size != s.link.Index {
		return errors.New("checkpoint is of another coordinate than its attributes")
	}
	_, err = chain.CheckRange(c.Size, c.Root, s.compact)
	return err
}

func errType(want string, value pcommon.Value) error {
	return fmt.Errorf("must be %s, found %s", want, value.Type())
}

func text(value pcommon.Value, most int) (string, error) {
	if value.Type() != pcommon.ValueTypeStr {
		return "", errType("a string", value)
	}
	s := value.Str()
	if s == "" || len(s) > most || !utf8.ValidString(s) {
		return "", fmt.Errorf("must be valid UTF-8 of 1 to %d bytes, has %d bytes", most, len(s))
	}
	return s, nil
}

func number(value pcommon.Value, least int64) (uint64, error) {
	if value.Type() != pcommon.ValueTypeInt {
		return 0, errType("an integer", value)
	}
	n := value.Int()
	if n < least {
		return 0, fmt.Errorf("must be at least %d, found %d", least, n)
	}
	return uint64(n), nil
}

func hash(value pcommon.Value) (chain.Hash, error) {
	if value.Type() != pcommon.ValueTypeStr {
		return chain.Hash{}, errType("a string", value)
	}
	return chain.ParseHash(value.Str())
}

func hashes(value pcommon.Value) ([]chain.Hash, error) {
	if value.Type() != pcommon.ValueTypeSlice {
		return nil, errType("a list", value)
	}
	if value.Slice().Len() > maxRange {
		return nil, fmt.Errorf("must have at most %d hashes, found %d", maxRange, value.Slice().Len())
	}
	list := make([]chain.Hash, 0, value.Slice().Len())
	for _, element := range value.Slice().All() {
		h, err := hash(element)
		if err != nil {
			return nil, err
		}
		list = append(list, h)
	}
	return list, nil
}
