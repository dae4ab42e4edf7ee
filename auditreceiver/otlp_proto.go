// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxValueDepth is how deep values may be nested in an OTLP request. What is
// deeper than the canonical form allows is cut and flagged behind this
// receiver; what is deeper than this is an attack on the decoder's stack.
const maxValueDepth = 256

// extent is what a request holds, found before memory is spent on it.
type extent struct {
	records int // records, and the groups that they are in
	values  int // keys and values
	unknown int // fields that this version of OTLP does not have
}

// memory is an estimate of what the decoded request takes, beside its bytes.
func (e *extent) memory() int64 {
	return bytesPerRecord*int64(e.records) + bytesPerValue*int64(e.values)
}

var (
	errTooDeep = fmt.Errorf("values are nested deeper than %d", maxValueDepth)
	errWire    = errors.New("the protobuf is cut off or damaged")
)

// message is a kind of protobuf message in an OTLP logs request.
type message uint8

const (
	scalarField message = iota // not a message
	unknownField
	textsField // one of many texts, which the decoder keeps apart
	messageRequest
	messageResourceLogs
	messageResource
	messageEntityRef
	messageScopeLogs
	messageScope
	messageLogRecord
	messageKeyValue
	messageAnyValue
	messageArray
	messageKeyValueList
)

// protoFields says for each message what its fields hold, by number.
var protoFields = [...][]message{
	messageRequest:      {1: messageResourceLogs},
	messageResourceLogs: {1: messageResource, 2: messageScopeLogs, 3: scalarField},
	messageResource:     {1: messageKeyValue, 2: scalarField, 3: messageEntityRef},
	messageEntityRef:    {1: scalarField, 2: scalarField, 3: textsField, 4: textsField},
	messageScopeLogs:    {1: messageScope, 2: messageLogRecord, 3: scalarField},
	messageScope:        {1: scalarField, 2: scalarField, 3: messageKeyValue, 4: scalarField},
	messageLogRecord: {
		1: scalarField, 2: scalarField, 3: scalarField, 4: unknownField, 5: messageAnyValue, 6: messageKeyValue,
		7: scalarField, 8: scalarField, 9: scalarField, 10: scalarField, 11: scalarField, 12: scalarField,
	},
	// Places in a table of texts, which only profiles have: what is at them is
	// nowhere in a request of logs, so they are as good as unknown.
	messageKeyValue: {1: scalarField, 2: messageAnyValue, 3: unknownField},
	messageAnyValue: {
		1: scalarField, 2: scalarField, 3: scalarField, 4: scalarField, 5: messageArray, 6: messageKeyValueList, 7: scalarField,
		8: unknownField,
	},
	messageArray:        {1: messageAnyValue},
	messageKeyValueList: {1: messageKeyValue},
}

// scanProto measures an OTLP logs request in protobuf without decoding it. An
// error says that it cannot be decoded, or must not be.
func scanProto(body []byte) (e extent, err error) {
	err = e.scan(messageRequest, body, 0)
	return e, err
}

func (e *extent) scan(kind message, body []byte, depth int) error {
	switch kind {
	case messageResourceLogs, messageScopeLogs, messageLogRecord:
		e.records++
	case messageAnyValue, messageKeyValue, messageEntityRef:
		e.values++
	case messageArray, messageKeyValueList:
		if depth++; depth > maxValueDepth {
			return errTooDeep
		}
	}
	for len(body) > 0 {
		number, wire, n := protowire.ConsumeTag(body)
		if n < 0 {
			return errWire
		}
		body = body[n:]
		size := protowire.ConsumeFieldValue(number, wire, body)
		if size < 0 {
			return errWire
		}
		if err := e.field(kind, number, wire, body[:size], depth); err != nil {
			return err
		}
		body = body[size:]
	}
	return nil
}

func (e *extent) field(of message, number protowire.Number, wire protowire.Type, value []byte, depth int) error {
	held := unknownField
	if int(number) < len(protoFields[of]) {
		held = protoFields[of][number]
	}
	switch {
	case held == unknownField:
		e.unknown++
		return nil
	case held == textsField:
		e.values++
		return nil
	case held == scalarField:
		return nil // its type is the decoder's business
	case wire != protowire.BytesType:
		return errWire
	}
	inner, _ := protowire.ConsumeBytes(value)
	return e.scan(held, inner, depth)
}
