// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=../tools/go.mod mdatagen metadata.yaml

// Package auditprocessor validates, redacts, limits, seals and journals audit
// events.
//
// ConsumeLogs runs the stages in the caller's goroutine, hands the request to
// the journal, and returns nil once it is durable. One forwarder sends what is
// sealed, in order, to the next consumer.
package auditprocessor
